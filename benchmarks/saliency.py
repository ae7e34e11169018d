"""Does each saliency method find the phrase, with the bundled encoder?  And what does it cost?

    python benchmarks/saliency.py --data DIR [--scans N]

Held-out scans with a target: pointing game (is the maximum inside the mask?) and Dice at one half.
"""

from __future__ import annotations

import platform
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import lexiseg
from lexiseg.io.masks import read_mask
from lexiseg.models.loading import load_encoder
from lexiseg.pipelines.results import dice
from lexiseg.saliency.registry import make_method
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from recipe.data import split_rows

TARGETS = {"busi": "breast tumor", "cxr": "lungs", "hc18": "fetal head"}
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dense", {"shifts": 2}),
    ("gradcam", {}),
    ("gscorecam", {"k": 300}),
)


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr and hc18")],
    encoder: str = "bundled",
    scans: Annotated[int, typer.Option(help="of each set, evenly spaced")] = 8,
) -> None:
    """Print a row for each set and method."""
    model = load_encoder(encoder, device="cpu")
    print(
        f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, Python {platform.python_version()}, ",
        end="",
    )
    print(f"{torch.get_num_threads()} threads, {date.today()}, {scans} scans of each set\n")
    print("| set | method | pointing game | Dice at one half | seconds a scan |\n|---|---|---|---|---|")
    for name, text in TARGETS.items():
        rows = [row for row in split_rows(data / name, validation=True) if row["bbox"]]
        rows = [rows[int(i * len(rows) / scans)] for i in range(min(scans, len(rows)))]
        phrases = embed_phrases(model, [phrase_set(text, ensemble=True)])
        for method, settings in METHODS:
            explain, hits, scores = make_method(method, **settings).explain, [], []
            began = time.perf_counter()
            for row in rows:
                scan = lexiseg.read_scan(data / name / row["image"])
                truth = read_mask(data / name / row["mask"], scan)
                found = explain(model, scan.pixels, phrases)[0].map
                hits.append(bool(truth.flat[int(found.argmax())]))
                scores.append(dice(found >= 0.5, truth))
            seconds = (time.perf_counter() - began) / len(rows)
            print(
                f"| {name} | {method} | {np.mean(hits):.2f} | {np.mean(scores):.3f} | {seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
