"""Does each saliency method find the phrase, with the bundled encoder?  And what does it cost?

    python benchmarks/saliency.py --data DIR [--scans N]

Held-out scans with a target: pointing game (is the maximum inside the mask?) and Dice at one half.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import lexiseg
from common import TARGETS, made_with, scored_rows, table_head, table_row
from lexiseg.evaluation.metrics.localisation import pointing_game
from lexiseg.io.masks import read_mask
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.settings import method_class
from lexiseg.text.phrases import embed_phrases, phrase_set
from lexiseg.values.overlap import dice

SETS = ("busi", "cxr", "hc18")
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
    print(f"{made_with(f'{torch.get_num_threads()} threads', f'{scans} scans of each set')}\n")
    print(table_head(["set", "method", "pointing game", "Dice at one half", "seconds a scan"]))
    for name in SETS:
        rows = scored_rows(data / name, wanted=lambda row: row["bbox"])
        rows = [rows[int(i * len(rows) / scans)] for i in range(min(scans, len(rows)))]
        phrases = embed_phrases(model, [phrase_set(TARGETS[name], ensemble=True)])
        for method, settings in METHODS:
            explain, hits, scores = method_class(method)(**settings).explain, [], []
            began = time.perf_counter()
            for row in rows:
                scan = lexiseg.read_scan(data / name / row["image"])
                truth = read_mask(data / name / row["mask"], scan)
                found = explain(model, scan.pixels, phrases)[0].map
                hits.append(pointing_game(truth, found))
                scores.append(dice(found >= 0.5, truth))
            seconds = (time.perf_counter() - began) / len(rows)
            cells = [name, method, f"{np.mean(hits):.2f}", f"{np.mean(scores):.3f}", f"{seconds:.2f}"]
            print(table_row(cells), flush=True)


if __name__ == "__main__":
    typer.run(main)
