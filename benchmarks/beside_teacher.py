"""Is the label-free verdict on a student right? Teacher and student side by side, without labels and with.

    python benchmarks/beside_teacher.py --data DIR [--set busi] [--student FOLDER] [--scans 24]

DIR holds the sets of `weak.py`; scans are those that no model saw, spread over the set. FOLDER is a student's; without
it the U-Net that ships is the student. The last line has what no user can know: the Dice of both, and how steep the
scan is along true outlines.
"""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import lexiseg
from lexiseg.evaluation.metrics.masks import score_mask
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.pipelines.loading import load
from lexiseg.runs.segment import Pipeline
from lexiseg.training.students.comparison import compare, steepness
from lexiseg.training.students.config import read_config
from lexiseg.training.students.labels import names_a_side
from lexiseg.training.students.predict import student_pipeline
from lexiseg.training.students.settings import BUNDLED
from lexiseg.training.students.start import start_folder
from lexiseg.values.scans import Image
from recipe.data import read_rows, split_rows
from weak_sets import TARGETS


class Named:
    """A student that answers a phrase by the one name that it has, and keeps what it drew."""

    def __init__(self, pipeline: Pipeline, name: str = "") -> None:
        self.pipeline, self.name = pipeline, name
        self.drawn: dict[str, np.ndarray] = {}

    def __call__(self, scan: Image, phrases: list[str]) -> object:
        found = self.pipeline(scan, [self.name] if self.name else phrases)
        # The first look is the plain one.
        self.drawn.setdefault(scan.id, found.targets[0].mask)
        return found


def main(
    data: Annotated[Path, typer.Option(help=f"folder with {', '.join(TARGETS)}")],
    name: Annotated[str, typer.Option("--set", help="one of them")] = "busi",
    student: Annotated[Path | None, typer.Option(help="a student's folder; the U-Net that ships without")] = None,
    scans: Annotated[int, typer.Option(min=1, help="how many are looked at")] = 24,
    preset: Annotated[str, typer.Option(help="the teacher")] = "demo",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
) -> None:
    """Print the comparison, the verdict, and the truth."""
    if threads:
        torch.set_num_threads(threads)
    folder = data / name
    rows = read_rows(folder) if name == "lgg" else split_rows(folder, validation=True)
    rows = [row for row in rows if row["mask"]]
    rows = [rows[k] for k in np.linspace(0, len(rows) - 1, min(scans, len(rows))).round().astype(int)]
    place = student or start_folder(BUNDLED)
    phrase = TARGETS[name].phrase
    known = read_config(place).names
    teacher = Named(load(preset, device="cpu"))
    ours = Named(student_pipeline(place, device="cpu"), "" if phrase in known else known[0])
    shown = [
        (scan, row["group"])
        for row in rows
        if isinstance(scan := read_scan(folder / row["image"], id=row["id"]), Image)
    ]
    began = time.perf_counter()
    found = compare(teacher, ours, shown, [phrase], mirror=not names_a_side([phrase]), held_out=True)  # type: ignore[arg-type]
    print(f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, {date.today()}, {name}, teacher {preset}")
    print(f"{found.scans} scans in {time.perf_counter() - began:.0f} s, {torch.get_num_threads()} CPU threads")
    for each in found.measures:
        ends = f"{each.interval.low:+.3f} to {each.interval.high:+.3f}"
        print(f"- {each.name}: {each.teacher:.3f}, {each.student:.3f}, {each.difference:+.3f} ({ends})")
    print(
        f"- misses {found.missed} of {found.sure} sure masks, overlaps them by {found.overlap:.3f}, "
        f"finds {found.found} more, sizes {found.sizes:.2f}"
    )
    print(f"- verdict: {'refused: ' + '; '.join(found.reasons) if found.worse else 'delivered'}")
    truths = {row["id"]: read_mask(folder / row["mask"], scan) for row, (scan, _) in zip(rows, shown, strict=True)}
    present = [scan for scan, _ in shown if truths[scan.id].any()]
    scored = [
        [score_mask(truths[scan.id], model.drawn[scan.id]).values["dice"] for scan in present]
        for model in (teacher, ours)
    ]
    steep = np.nanmean([steepness(scan.pixels, truths[scan.id]) for scan in present])
    print(
        f"- the truth: Dice {np.mean(scored[0]):.3f}, {np.mean(scored[1]):.3f}; steepness of true outlines {steep:.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
