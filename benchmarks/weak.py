"""What a student gains over its teacher, and what true masks would add: zero-shot, weak and supervised.

    python benchmarks/weak.py --data DIR --work DIR [--sets busi,lgg] [--seeds 3] [--students 'default;unet']

DIR holds busi/, cxr/, hc18/ and lgg/, each with manifest.csv, images and masks.  Used is only what the
bundled teacher never saw: the validation part of its recipe, and all of lgg.  It is split again by patient:
one part is labelled by the teacher and learnt from, the other is scored and seen by no model.  The row
"start alone" is the bundled U-Net before any pseudo-label, which knows no phrase.  Scans are copied to the
work folder, and each finished cell of the table stays there: a stopped run goes on, a finished one prints
again, and two runs may share the sets between them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console

import lexiseg
from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.datasets.splits import split_by_group
from lexiseg.evaluation.metrics.masks import score_mask
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.files import atomic_write
from lexiseg.io.masks import read_mask
from lexiseg.io.names import safe_id
from lexiseg.io.read import read_scan
from lexiseg.runs.segment import RunOptions, RunRequest, segment_files
from lexiseg.training.students.labels import LabelSet, parts_of, read_pseudo_labels, read_true_masks
from lexiseg.training.students.predict import PredictRequest, predict_files
from lexiseg.training.students.pseudo_labels import LabelRule, PseudoLabelRequest, make_pseudo_labels
from lexiseg.training.students.settings import BUNDLED, TrainSettings
from lexiseg.training.students.start import start_folder
from lexiseg.training.students.train import train
from recipe.data import blocks, read_rows, split_rows

METRICS = {"dice": "Dice", "iou": "IoU", "nsd_2px": "NSD, 2 px"}
STUDENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "pyramids": {"part": "pyramids"},
    "not drawn back": {"anchor": 0.0},
    "half start": {"anchor": 0.5},
    "plain": {"robust": ()},
    "refresh": {"robust": ("weighting", "refresh")},
    "curriculum": {"robust": ("weighting", "curriculum")},
    "balance": {"robust": ("weighting", "balance")},
    "unet": {"network": "unet"},
    "unet, random start": {"network": "unet", "start": "none"},
    "unet, plain": {"network": "unet", "robust": ()},
    "unet, small-loss": {"network": "unet", "robust": ("small-loss",)},
    "unet, co-teaching": {"network": "unet", "robust": ("co-teaching",)},
    "unet, refresh": {"network": "unet", "robust": ("refresh",)},
}
progress = Console(stderr=True)


@dataclass(frozen=True)
class Target:
    """What is looked for in a set, and whether every scan has it."""

    phrase: str
    always: bool


TARGETS = {
    "busi": Target("breast tumor", always=False),
    "cxr": Target("lungs", always=True),
    "hc18": Target("fetal head", always=True),
    "lgg": Target("brain tumor", always=False),
}
USED = {"teacher": "none", "start alone": "none", "supervised": "true masks"}
Cell = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One set: its folder of work, its rows by part, and the settings of its students."""

    name: str
    folder: Path
    settings: TrainSettings
    preset: str
    device: str

    @property
    def target(self) -> Target:
        return TARGETS[self.name]

    @property
    def runs(self) -> Path:
        """Of the students with so many steps; the teacher's work is shared by all."""
        return self.folder / (f"{self.settings.steps} steps" if self.settings.steps else "runs")

    @property
    def manifest(self) -> Path:
        return self.folder / "data" / "manifest.csv"

    @property
    def test(self) -> Path:
        return self.folder / "data" / "test.csv"

    def prepare(self, data: Path, *, share: float, limit: int) -> None:
        """Copy the set's unseen part and split it, once."""
        if self.test.exists():
            return
        source = data / self.name
        rows = read_rows(source) if self.name == "lgg" else split_rows(source, validation=True)
        rows = [row for row in rows if row["mask"]]
        groups = blocks(rows)
        if limit:
            kept = set(sorted(dict.fromkeys(groups))[:limit])
            rows, groups = (
                [r for r, g in zip(rows, groups, strict=True) if g in kept],
                [g for g in groups if g in kept],
            )
        where = split_by_group(groups, {"learn": 1 - share, "test": share}, seed=20)
        found = []
        for row, group, part in zip(rows, groups, where, strict=True):
            places = {}
            for column in ("image", "mask"):
                places[column] = self.manifest.parent / row[column]
                places[column].parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / row[column], places[column])
            extra = {"split": "test" if part == "test" else ""}
            found.append(ManifestRow(id=row["id"], group=group, label=row["label"], extra=extra, **places))
        parts = parts_of(found, validation=0.2, seed=0)
        found = [replace(row, extra={"split": part}) for row, part in zip(found, parts, strict=True)]
        by_part = {part: {row.group for row in found if row.extra["split"] == part} for part in set(parts)}
        assert not by_part["test"] & (by_part["train"] | by_part["val"])
        write_manifest(found, self.manifest)
        write_manifest([row for row in found if row.extra["split"] == "test"], self.test)

    def cell(self, name: str, work: Callable[[], Path]) -> Cell:
        """A cell of the table: from its file, or by running it and scoring its masks of the test part."""
        place = self.folder if name == "teacher" else self.runs
        path = place / "cells" / f"{name}.json"
        if path.exists():
            found: Cell = json.loads(path.read_text())
            return found
        progress.print(f"{self.name}: {name}")
        began = time.perf_counter()
        masks = work()
        found = {"seconds": round(time.perf_counter() - began, 1), "scans": score(self.test, masks)}
        atomic_write(path, lambda file: file.write((json.dumps(found) + "\n").encode()))
        return found

    def zero_shot(self) -> Path:
        """The teacher's masks of the test part."""
        out = self.folder / "teacher"
        request = RunRequest(
            out=out, manifest=self.test, phrases=[self.target.phrase], preset=self.preset, device=self.device,
            options=RunOptions(resume=True),
        )  # fmt: skip
        segment_files(request)
        return out

    def pseudo_labels(self) -> LabelSet:
        """The set that students learn from, labelled once."""
        out = self.folder / "labels"
        if not (out / "pseudo_labels.json").exists():
            rule = LabelRule(absent="drop" if self.target.always else "keep")
            make_pseudo_labels(
                PseudoLabelRequest(
                    out=out,
                    manifest=self.manifest,
                    phrases=[self.target.phrase],
                    preset=self.preset,
                    rule=rule,
                    device=self.device,
                    resume=True,
                )
            )
        return read_pseudo_labels(out)

    def student(self, labels: Callable[[], LabelSet], name: str, seed: int, changes: Mapping[str, Any]) -> Path:
        """Train one student and segment the test part with it."""
        settings = replace(self.settings, seed=seed, **changes)
        model = self.runs / "models" / f"{name}-{seed}"
        train(labels(), model, settings, device=self.device, resume=True)
        return self.predicted(model, f"{name}-{seed}")

    def predicted(self, model: Path, name: str) -> Path:
        """The masks of the test part by a network."""
        out = self.runs / "masks" / name
        predict_files(
            PredictRequest(
                model=model,
                out=out,
                manifest=self.test,
                uncertainty=False,
                device=self.device,
                options=RunOptions(resume=True),
            )
        )
        return out


def score(test: Path, masks: Path) -> dict[str, dict[str, float]]:
    """Each test scan's metrics, and whether it has the target at all."""
    found = {}
    for row in read_manifest(test):
        scan = read_scan(row.image)
        assert row.mask is not None
        truth = read_mask(row.mask, scan)
        path = masks / f"{safe_id(row.id)}_mask.png"
        drawn = read_mask(path, scan) if path.exists() else np.zeros(scan.shape, np.bool_)
        values = score_mask(truth, drawn, tolerance=2).values
        found[row.id] = {**{key: values[key] for key in METRICS}, "target": float(truth.any())}
    return found


def mean_of(cells: Sequence[Cell], key: str) -> tuple[float, float]:
    """Mean over scans with the target of the mean over seeds, and the seeds' deviation."""
    each = [statistics.fmean(scan[key] for scan in cell["scans"].values() if scan["target"]) for cell in cells]
    return statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else 0.0


def gain(bench: Bench, teacher: Sequence[Cell], student: Sequence[Cell]) -> tuple[float, float, float]:
    """Student minus teacher in Dice, scan by scan, with a 95 % bootstrap interval over patients."""
    rows = [row for row in read_manifest(bench.test) if teacher[0]["scans"][row.id]["target"]]
    over = lambda cells, name: statistics.fmean(cell["scans"][name]["dice"] for cell in cells)  # noqa: E731
    differences = np.array([over(student, row.id) - over(teacher, row.id) for row in rows])
    interval = Bootstrap().ratio_interval([row.group or row.id for row in rows], differences, np.ones(len(rows)))
    return float(differences.mean()), interval.low, interval.high


def empty_right(cells: Sequence[Cell]) -> str:
    """How often a scan without the target got an empty mask."""
    found = [scan["dice"] for cell in cells for scan in cell["scans"].values() if not scan["target"]]
    return f"{statistics.fmean(found):.0%} of {len(found) // len(cells)}" if found else ""


def print_table(bench: Bench, cells: Mapping[str, Sequence[Cell]]) -> None:
    """The rows of one set."""
    bound = mean_of(cells["supervised"], "dice")[0]
    for name, found in cells.items():
        shown = []
        for key in METRICS:
            mean, deviation = mean_of(found, key)
            shown.append(f"{mean:.3f}" + (f" ± {deviation:.3f}" if len(found) > 1 else ""))
        difference, low, high = gain(bench, cells["teacher"], found)
        against = "" if name == "teacher" else f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        share = f"{mean_of(found, 'dice')[0] / bound:.0%}"
        minutes = f"{statistics.fmean(cell['seconds'] for cell in found) / 60:.1f}"
        used = "pseudo-labels" if name.startswith("student") else USED[name]
        print(f"| {' | '.join([bench.name, name, used, *shown, against, share, empty_right(found), minutes])} |")


def print_seen(bench: Bench) -> None:
    """Which scans each model saw."""
    parts = [row.extra["split"] for row in read_manifest(bench.manifest)]
    kept = len(read_pseudo_labels(bench.folder / "labels").rows)
    print(
        f"- {bench.name}: students learnt from {parts.count('train')} scans and were stopped by "
        f"{parts.count('val')} ({kept} of both have a trusted pseudo-label); scored are "
        f"{parts.count('test')} of other patients; neither the bundled teacher nor the U-Net that "
        "students begin from was trained on any of them"
    )


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18 and lgg")],
    work: Annotated[Path, typer.Option(help="folder for copies, models and finished cells; not in the repository")],
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    students: Annotated[str, typer.Option(help=f"separated by semicolons; among {'; '.join(STUDENTS)}")] = "default",
    seeds: Annotated[int, typer.Option(min=1, help="students of each kind")] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="of each student's training")] = None,
    test: Annotated[float, typer.Option(help="share of the scans that is scored")] = 0.4,
    limit: Annotated[int, typer.Option(help="at most so many patients of each set; 0 for all")] = 0,
    preset: Annotated[str, typer.Option(help="the teacher")] = "demo",
    device: Annotated[str, typer.Option(help="where the models run")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
) -> None:
    """Print the table of teacher, students and upper bound."""
    if threads:
        torch.set_num_threads(threads)
    settings = TrainSettings(steps=steps)
    tables = []
    for each in sets.split(","):
        folder = work / f"{each}-{preset}" / (f"limit{limit}" if limit else "all")
        bench = Bench(each, folder, settings, preset, device)
        bench.prepare(data, share=test, limit=limit)
        cells: dict[str, list[Cell]] = {
            "teacher": [bench.cell("teacher", bench.zero_shot)],
            "start alone": [bench.cell("start", lambda b=bench: b.predicted(start_folder(BUNDLED), "start"))],  # type: ignore[misc]
        }
        for kind in students.split(";"):
            name = kind.replace(", ", "-").replace(" ", "-")
            cells[f"student, {kind}"] = [
                bench.cell(
                    f"{name}-{seed}",
                    lambda b=bench, n=name, s=seed, c=STUDENTS[kind]: b.student(b.pseudo_labels, n, s, c),  # type: ignore[misc]
                )
                for seed in range(seeds)
            ]
        true = lambda b=bench: read_true_masks(b.manifest, [b.target.phrase])  # noqa: E731
        cells["supervised"] = [
            bench.cell(
                f"supervised-{seed}",
                lambda b=bench, s=seed, t=true: b.student(t, "supervised", s, {}),  # type: ignore[misc]
            )
            for seed in range(seeds)
        ]
        tables.append((bench, cells))
    print(
        f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, {date.today()}, teacher {preset}, "
        f"{seeds} seeds, {steps or 'the usual'} steps, {torch.get_num_threads()} CPU threads;"
    )
    print("Dice, IoU and NSD: means over the scans with the target, and the deviation over seeds")
    print()
    columns = ["set", "model", "labels", *METRICS.values(), "Dice over the teacher, points (95 %)"]
    columns += ["of supervised Dice", "without target: empty", "minutes"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for bench, cells in tables:
        print_table(bench, cells)
    print()
    for bench, _ in tables:
        print_seen(bench)


if __name__ == "__main__":
    typer.run(main)
