"""What a student gains over its teacher, and what true masks would add: zero-shot, weak and supervised.

    python benchmarks/weak.py --data DIR --work DIR [--sets busi,lgg] [--seeds 3] [--students 'default;mirror']
                              [--curve 20,50,100,200] [--corrupt negative]

DIR holds the sets, each with manifest.csv, images and masks. Used is only what the bundled models never saw: the
validation part of their recipe, and all of lgg. It is split again by patient: one part, the pool, is labelled by the
teacher and learnt from, the other is scored and seen by no model. --corrupt spoils both parts alike, as a pool of
another hospital. The teacher is `segment` as it is; students are made as `distill` makes them, with the look that it
chooses on the pool. The student "look" is none: it is the teacher with that look. The row "start alone" comes with
U-Nets: the bundled one before any pseudo-label, which knows no phrase.

Scans are copied to the work folder, and each finished cell of the table stays there: a stopped run goes on, a finished
one prints again, and several runs may share the sets or corruptions between them.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from common import made_with, progress, table_head, table_row
from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import NoLabels
from lexiseg.files import atomic_write
from lexiseg.io.names import RESULTS_NAME
from lexiseg.runs.segment import RunOptions, RunRequest, segment_files
from lexiseg.runs.table import read_record, read_results
from lexiseg.training.students.labels import RECORD, TEST, LabelSet, read_pseudo_labels, read_true_masks
from lexiseg.training.students.predict import PredictRequest, predict_files
from lexiseg.training.students.pseudo_labels import TEACHER, LabelRule, PseudoLabelRequest, make_pseudo_labels
from lexiseg.training.students.settings import BUNDLED, UNET, TrainSettings
from lexiseg.training.students.start import start_folder
from lexiseg.training.students.train import train
from weak_sets import (
    CORRUPTIONS,
    METRICS,
    NONE,
    TARGETS,
    Cell,
    Target,
    empty_right,
    first_of,
    mean_of,
    paired,
    prepare,
    score,
)


@dataclass(frozen=True)
class Kind:
    """A kind of student: what differs from the default in training, and in how its pool is labelled.

    Attributes:
        settings: of `TrainSettings`.
        labels: of `PseudoLabelRequest`.
        look: whether its teacher may choose its look.
        learns: whether there is a student at all.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    look: bool = True
    learns: bool = True


LOOK = {"tune": "auto"}
STUDENTS = {
    "default": Kind(),
    "look": Kind(learns=False),
    "no look": Kind(look=False),
    "mirror": Kind(labels={"mirror": True}),
    "pyramids": Kind({"part": "pyramids"}),
    "not drawn back": Kind({"anchor": 0.0}),
    "half start": Kind({"anchor": 0.5}),
    "plain": Kind({"robust": ()}),
    "refresh": Kind({"robust": ("weighting", "refresh")}),
    "curriculum": Kind({"robust": ("weighting", "curriculum")}),
    "balance": Kind({"robust": ("weighting", "balance")}),
    "unet": Kind({"network": UNET}),
    "unet, random start": Kind({"network": UNET, "start": "none"}),
    "unet, plain": Kind({"network": UNET, "robust": ()}),
    "unet, small-loss": Kind({"network": UNET, "robust": ("small-loss",)}),
    "unet, co-teaching": Kind({"network": UNET, "robust": ("co-teaching",)}),
    "unet, refresh": Kind({"network": UNET, "robust": ("refresh",)}),
}
DEFAULT = "student, default"
USED = {"teacher": "none", "teacher, look": "none", "start alone": "none"}
USED["supervised"] = "true masks"


@dataclass(frozen=True)
class Work:
    """What a cell is scored by: the folder of masks, and how many seconds were spent on learning."""

    masks: Path
    learning: float = 0.0


@dataclass(frozen=True)
class Bench:
    """One set: its folder of work, and the settings of its students."""

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

    @property
    def pool(self) -> list[ManifestRow]:
        """What is learnt from, and what stops it."""
        return [row for row in read_manifest(self.manifest) if row.extra["split"] != TEST]

    def cell(self, name: str, work: Callable[[], Work], place: Path | None = None) -> Cell:
        """A cell of the table: from its file, or by running it and scoring its masks of the test part.

        Where nothing can be learnt, as of a pool in which the teacher finds nothing, the cell says why.
        """
        path = (place or self.runs) / "cells" / f"{name}.json"
        if path.exists():
            found: Cell = json.loads(path.read_text())
            return found
        progress.print(f"{self.folder.parent.name}: {name}")
        began = time.perf_counter()
        try:
            done = work()
            each = [float(row.seconds) for row in read_results(done.masks / RESULTS_NAME) if row.ok]
            found = {"learning": round(done.learning, 1), "each": round(statistics.fmean(each), 3)}
            found["scans"] = score(self.test, done.masks)
        except NoLabels as error:
            found = {"refused": str(error)}
        found["seconds"] = round(time.perf_counter() - began, 1)
        atomic_write(path, lambda file: file.write((json.dumps(found) + "\n").encode()))
        return found

    def zero_shot(self, name: str, changes: Mapping[str, Any]) -> Work:
        """The teacher's masks of the test part."""
        out = self.folder / name
        request = RunRequest(
            out=out, manifest=self.test, phrases=[self.target.phrase], preset=self.preset, changes=changes,
            device=self.device, options=RunOptions(resume=True),
        )  # fmt: skip
        segment_files(request)
        return Work(out)

    def labels_folder(self, how: Mapping[str, Any]) -> Path:
        return self.folder / "-".join(["labels", *how])

    def pseudo_labels(self, how: Mapping[str, Any]) -> LabelSet:
        """The set that students learn from, labelled once in each way: fields of a `PseudoLabelRequest`."""
        out = self.labels_folder(how)
        if not (out / RECORD).exists():
            make_pseudo_labels(
                PseudoLabelRequest(
                    out=out,
                    manifest=self.manifest,
                    phrases=[self.target.phrase],
                    preset=self.preset,
                    rule=LabelRule(absent="drop" if self.target.always else "keep"),
                    device=self.device,
                    resume=True,
                    **how,
                )
            )
        return read_pseudo_labels(out)

    def true_masks(self) -> LabelSet:
        """The same scans with true masks, looked at as the teacher chose to."""
        known = read_true_masks(self.manifest, [self.target.phrase])
        return replace(known, teacher=self.pseudo_labels(LOOK).teacher) if self.look() else known

    def look(self) -> Mapping[str, Any]:
        """The settings that the teacher chose without labels on the pool, as `distill` does; {} for its own."""
        with suppress(NoLabels):  # it has looked and chosen all the same
            self.pseudo_labels(LOOK)
        choice: Mapping[str, Any] = (read_record(self.labels_folder(LOOK) / TEACHER) or {})["tuned"]["choice"]
        return choice

    def student(self, labels: Callable[[], LabelSet], name: str, seed: int, changes: Mapping[str, Any]) -> Work:
        """Train one student and segment the test part with it."""
        settings = replace(self.settings, seed=seed, **changes)
        model = self.runs / "models" / f"{name}-{seed}"
        known = labels()
        if len(known.rows) < 2:  # which `distill` refuses too
            raise NoLabels(f"only {len(known.rows)} of the scans has a trusted label")
        began = time.perf_counter()
        train(known, model, settings, device=self.device, resume=True)
        return self.predicted(model, f"{name}-{seed}", time.perf_counter() - began)

    def predicted(self, model: Path, name: str, learning: float = 0.0) -> Work:
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
        return Work(out, learning)

    def seeds(self, count: int, labels: Callable[[], LabelSet], name: str, changes: Mapping[str, Any]) -> list[Cell]:
        """The cells of one kind of student."""
        return [
            self.cell(f"{name}-{seed}", partial(self.student, labels, name, seed, changes)) for seed in range(count)
        ]

    def cells(
        self, students: Sequence[str], curve: Sequence[int], count: int, bounds: int = 0
    ) -> dict[str, list[Cell]]:
        """The rows of the table: each model's cells, one for each seed of a student."""
        found = {"teacher": [self.cell("teacher", partial(self.zero_shot, "teacher", {}), self.folder)]}
        if any(STUDENTS[name].settings.get("network") == UNET for name in students):
            found["start alone"] = [self.cell("start", lambda: self.predicted(start_folder(BUNDLED), "start"))]
        for name in students:
            kind = STUDENTS[name]
            if not kind.learns:
                look = self.look()
                work = partial(self.zero_shot, "look", look)
                found["teacher, look"] = [self.cell("look", work, self.folder)] if look else found["teacher"]
                continue
            labels = partial(self.pseudo_labels, {**kind.labels, **(LOOK if kind.look else {})})
            found[f"student, {name}"] = self.seeds(count, labels, re.sub("[, ]+", "-", name), kind.settings)
        for size in (size for size in curve if size <= len(self.pool)):
            labels = partial(lambda size: first_of(self.pseudo_labels(LOOK), self.pool, size), size)
            found[f"{DEFAULT}, {size} scans"] = self.seeds(count, labels, f"default-first{size}", {})
        found["supervised"] = self.seeds(bounds or count, self.true_masks, "supervised", {})
        return found


@dataclass(frozen=True)
class Table:
    """One set's rows."""

    bench: Bench
    cells: Mapping[str, Sequence[Cell]]

    @property
    def scored(self) -> dict[str, Sequence[Cell]]:
        """Rows of which every seed learnt something."""
        return {name: cells for name, cells in self.cells.items() if not any("refused" in cell for cell in cells)}

    def print_rows(self) -> None:
        """A line for each model."""
        scored, rows = self.scored, read_manifest(self.bench.test)
        bound = max((mean_of(scored[name], "dice")[0] for name in scored if name.startswith("supervised")), default=0)
        for name, found in self.cells.items():
            used = "pseudo-labels" if name.startswith("student") else USED[name]
            cells = [self.bench.name, name, used]
            if name not in scored:
                reason = next(cell["refused"] for cell in found if "refused" in cell)
                print(table_row([*cells, f"nothing to learn: {reason}"]))
                continue
            for key in METRICS:
                mean, deviation = mean_of(found, key)
                cells.append(f"{mean:.3f}" + (f" ± {deviation:.3f}" if len(found) > 1 else ""))
            for key in ("dice", "nsd_2px"):
                cells.append("" if name == "teacher" else str(paired(rows, scored["teacher"], found, key)))
            cells += [f"{mean_of(found, 'dice')[0] / bound:.0%}" if bound else "", empty_right(found)]
            cells.append(f"{statistics.fmean(cell['learning'] for cell in found) / 60:.1f}")
            print(table_row([*cells, f"{statistics.fmean(cell['each'] for cell in found):.2f}"]))

    def print_verdicts(self) -> None:
        """A line for each student, and for the teacher with a look."""
        rows = read_manifest(self.bench.test)
        for name, found in self.scored.items():
            if name.startswith("student") or name == "teacher, look":
                dice, nsd = (paired(rows, self.scored["teacher"], found, key) for key in ("dice", "nsd_2px"))
                print(f"- {self.bench.name}: {name}: Dice {dice.verdict}; NSD {nsd.verdict}")

    def print_seen(self, curve: Sequence[int]) -> None:
        """Which scans each model saw, what was left out, and which look was chosen."""
        bench = self.bench
        parts = [row.extra["split"] for row in read_manifest(bench.manifest)]
        labelled = bench.labels_folder(LOOK)
        kept = len(read_pseudo_labels(labelled).rows) if (labelled / RECORD).exists() else 0
        print(
            f"- {bench.name}: students learnt from {parts.count('train')} scans and were stopped by "
            f"{parts.count('val')} ({kept} of both have a trusted pseudo-label); scored are "
            f"{parts.count(TEST)} of other patients; none of the bundled models was trained on any of them"
        )
        if left := [str(size) for size in curve if size > len(bench.pool)]:
            print(f"- {bench.name}: the pool has {len(bench.pool)} scans; not of the curve: {', '.join(left)}")
        if record := read_record(bench.labels_folder(LOOK) / TEACHER):
            tuned = record["tuned"]
            sure = ", ".join(f"{each['settings'] or 'its own'} {each['score']:.3f}" for each in tuned["grid"])
            print(f"- {bench.name}: the look chosen without labels: {tuned['choice'] or 'its own'}; how sure: {sure}")


def print_ingredients(tables: Sequence[Table], base: str) -> None:
    """Every model against one of them, set by set and in the mean of the sets: what each ingredient gives."""
    tables = [table for table in tables if base in table.scored]
    if not tables:
        return
    print(f"\nPoints over the {base} (95 %, paired by patient), and their mean over the sets\n")
    print(table_head(["model", "metric", *(table.bench.name for table in tables), "mean"]))
    names = list(dict.fromkeys(name for table in tables for name in table.scored if name != base))
    for name in names:
        for key in ("dice", "nsd_2px"):
            each = [
                paired(read_manifest(table.bench.test), table.scored[base], table.scored[name], key)
                if name in table.scored
                else None
                for table in tables
            ]
            means = [one.mean for one in each if one is not None]
            mean = f"{100 * statistics.fmean(means):+.1f} of {len(means)}" if means else ""
            print(table_row([name, METRICS[key], *("" if one is None else one for one in each), mean]))


def main(
    data: Annotated[Path, typer.Option(help=f"folder with {', '.join(TARGETS)}")],
    work: Annotated[Path, typer.Option(help="folder for copies, models and finished cells; not in the repository")],
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    students: Annotated[str, typer.Option(help=f"separated by semicolons; among {'; '.join(STUDENTS)}")] = "default",
    curve: Annotated[str, typer.Option(help="sizes of smaller pools for the default student, such as 20,50")] = "",
    corrupt: Annotated[str, typer.Option(help=f"what is done to all scans; among {', '.join(CORRUPTIONS)}")] = NONE,
    seeds: Annotated[int, typer.Option(min=1, help="students of each kind")] = 3,
    bounds: Annotated[int, typer.Option(min=0, help="trainings on true masks; 0 for as many as students")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="of each student's training")] = None,
    test: Annotated[float, typer.Option(help="share of the scans that is scored")] = 0.4,
    limit: Annotated[int, typer.Option(help="at most so many patients of each set; 0 for all")] = 0,
    preset: Annotated[str, typer.Option(help="the teacher")] = "demo",
    device: Annotated[str, typer.Option(help="where the models run")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
) -> None:
    """Print the tables of teacher, students and upper bound."""
    if threads:
        torch.set_num_threads(threads)
    kinds, sizes = students.split(";"), [int(size) for size in curve.split(",") if size]
    for given, known in ((sets.split(","), TARGETS), (kinds, STUDENTS), ([corrupt], CORRUPTIONS)):
        if unknown := [each for each in given if each not in known]:
            raise typer.BadParameter(f"{unknown[0]!r}; expected among {', '.join(known)}")
    tables = []
    for each in sets.split(","):
        spoilt = "" if corrupt == NONE else f"-{corrupt}"
        folder = work / f"{each}-{preset}{spoilt}" / (f"limit{limit}" if limit else "all")
        bench = Bench(each, folder, TrainSettings(steps=steps), preset, device)
        prepare(data / each, bench.manifest.parent, share=test, limit=limit, corruption=corrupt)
        tables.append(Table(bench, bench.cells(kinds, sizes, seeds, bounds)))
    trained = f"{seeds} seeds, {steps or 'the usual'} steps, {torch.get_num_threads()} CPU threads"
    print(made_with(f"teacher {preset}", f"scans {'as they are' if corrupt == NONE else corrupt}", trained))
    print("Dice, IoU and NSD: means over the scans with the target, and the deviation over seeds\n")
    over = "over the teacher, points (95 %)"
    columns = ["set", "model", "labels", *METRICS.values(), f"Dice {over}", f"NSD {over}"]
    columns += ["of supervised Dice", "without target: empty", "minutes to learn", "seconds a scan"]
    print(table_head(columns))
    for table in tables:
        table.print_rows()
    print()
    for table in tables:
        table.print_verdicts()
    for base in ("teacher", DEFAULT):
        if len(kinds) + len(sizes) > 1 or len(tables) > 1:
            print_ingredients(tables, base)
    print()
    for table in tables:
        table.print_seen(sizes)


if __name__ == "__main__":
    typer.run(main)
