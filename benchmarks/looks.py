"""Scans as another machine would show them: what the teacher makes of them, as they are and with a look chosen.

    python benchmarks/looks.py --data DIR [--sets busi,lgg] [--scans 12]

Each set's unseen scans, spread over it, as they are, spoilt as weak.py does, and through a dark display curve. The look
is chosen by `lexiseg segment --tune label-free`'s rule on twelve of the scans; Dice is over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import lexiseg
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.pipelines.loading import load
from lexiseg.pipelines.tuning import tune_label_free
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Image
from recipe.data import read_rows, split_rows
from weak_sets import CORRUPTIONS, TARGETS

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {**CORRUPTIONS, "dark": lambda pixels: 0.6 * pixels**2.2}


def main(
    data: Annotated[Path, typer.Option(help=f"folder with {', '.join(TARGETS)}")],
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    scans: Annotated[int, typer.Option(min=1, help="of each set")] = 12,
    changes: Annotated[str, typer.Option(help=f"among {', '.join(CHANGES)}")] = ",".join(CHANGES),
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    precision: Annotated[str, typer.Option(help="as for a preset; bfloat16 where it is quick")] = "float32",
) -> None:
    """Print a table."""
    if threads:
        torch.set_num_threads(threads)
    pipeline = load("demo", device="cpu", precision=precision)
    print(
        f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, {date.today()}, teacher demo, {precision}, "
        f"{scans} scans a set"
    )
    print(
        "| set | scans | look that was chosen | Dice as they are | Dice with the look | gain, points (95 %) |\n|"
        + "---|" * 6
    )
    for name in sets.split(","):
        folder, phrase = data / name, TARGETS[name].phrase
        rows = [r for r in (read_rows(folder) if name == "lgg" else split_rows(folder, validation=True)) if r["mask"]]
        truths = {r["id"]: read_mask(folder / r["mask"], read_scan(folder / r["image"])) for r in rows}
        rows = [r for r in rows if truths[r["id"]].any()]
        rows = [rows[k] for k in np.linspace(0, len(rows) - 1, min(scans, len(rows))).round().astype(int)]
        for change in changes.split(","):
            shown = []
            for row in rows:
                scan = read_scan(folder / row["image"], id=row["id"])
                assert isinstance(scan, Image)
                shown.append(Image(np.ascontiguousarray(CHANGES[change](scan.pixels), np.float32), id=row["id"]))
            found = tune_label_free(pipeline, [(scan, [phrase]) for scan in shown[:: max(1, len(shown) // 12)][:12]])
            tuned = type(pipeline)(pipeline.preset.override(**found.choice), pipeline.encoder, pipeline.segmenter)
            plain = np.array([dice(pipeline(scan, phrase).targets[0].mask, truths[scan.id]) for scan in shown])
            other = plain
            if found.choice:
                other = np.array([dice(tuned(scan, phrase).targets[0].mask, truths[scan.id]) for scan in shown])
            ends = Bootstrap().ratio_interval([r["group"] for r in rows], other - plain, np.ones(len(rows)))
            cells = [name, change, str(dict(found.choice) or "its own"), f"{plain.mean():.3f}", f"{other.mean():.3f}"]
            gain = f"{100 * (other - plain).mean():+.1f} ({100 * ends.low:+.1f} to {100 * ends.high:+.1f})"
            print(f"| {' | '.join([*cells, gain])} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
