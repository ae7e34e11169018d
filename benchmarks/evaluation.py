"""How long evaluation takes, from files to report, and whether two runs give the same bytes.

    python benchmarks/evaluation.py [--masks 500] [--size 384] [--threads N]

True masks are ellipses bent by smooth noise, predictions the same ones moved and bent otherwise; one in
twenty has no target, one in twenty no answer.  Every metric is computed, with intervals, and the whole report
written.
"""

from __future__ import annotations

import csv
import filecmp
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from scipy import ndimage

from common import made_with
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.report.page import write_report
from lexiseg.values.arrays import BoolArray


def blob(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> BoolArray:
    """An ellipse with an uneven outline, bool (size, size)."""
    rows, columns = np.mgrid[:size, :size]
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 16)
    noise /= noise.std()
    distance = np.hypot((rows - centre[0]) * rng.uniform(0.8, 1.25), columns - centre[1])
    return np.asarray(distance + 0.1 * radius * noise < radius)


def make(folder: Path, count: int, size: int) -> Path:
    """Scans, true masks and predictions; the manifest."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "predictions"):
        (folder / name).mkdir()
    rows = []
    for index in range(count):
        name = f"scan{index:04d}"
        centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.05, 0.25) * size
        truth = blob(size, tuple(centre), radius, rng) & (index % 20 != 0)
        found = blob(size, tuple(centre + rng.normal(0, 0.15 * radius, 2)), radius, rng) & (index % 20 != 1)
        grey = np.round(80 + 60 * truth + 10 * rng.standard_normal((size, size))).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(truth.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")
        Image.fromarray(found.astype(np.uint8) * 255).save(folder / "predictions" / f"{name}_mask.png")
        rows.append((name, f"images/{name}.png", f"masks/{name}.png", f"patient{index // 3}"))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("id", "image", "mask", "group"), *rows])
    return folder / "manifest.csv"


def main(
    masks: Annotated[int, typer.Option(help="how many pairs")] = 500,
    size: Annotated[int, typer.Option(help="pixels of a side")] = 384,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
) -> None:
    """Print the seconds of two runs and whether they wrote the same."""
    if threads:
        torch.set_num_threads(threads)
    print(made_with(f"{torch.get_num_threads()} threads"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = make(folder, masks, size)
        for run in ("first", "second"):
            began = time.perf_counter()
            found = evaluate(manifest, [folder / "predictions"])
            scored = time.perf_counter()
            write_report(found, folder / run)
            done = time.perf_counter()
            print(
                f"{run} run: {masks} masks of {size} px, all metrics {scored - began:.1f} s, "
                f"report {done - scored:.1f} s"
            )
        names = sorted(p.relative_to(folder / "first").as_posix() for p in (folder / "first").rglob("*.*"))
        _, different, missing = filecmp.cmpfiles(folder / "first", folder / "second", names, shallow=False)
        print(f"{len(names)} files, {len(different) + len(missing)} of them differ between the runs")


if __name__ == "__main__":
    typer.run(main)
