"""Files that go wrong, and what comes of them: one line for each file and kind of fault.

    python benchmarks/faults.py DIR [--kinds 04,11] [--out DIR]

DIR holds the folders of files (01-overlap, 02-single-slice, ...), which are no part of this project. A folder that is
not there is skipped. The `lexiseg` that Python finds is tried by its command line: set PYTHONPATH to another version's
`src` to compare. A kind is one function in `KINDS`; it yields an `Outcome` for each thing that it tries.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

_COMMAND = "from lexiseg.cli.main import run; run()"


@dataclass(frozen=True)
class Outcome:
    """What came of one thing.

    Attributes:
        command: what was run, in short.
        got: what came of it, on one line.
        right: whether it should.
    """

    command: str
    got: str
    right: bool


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit status and the lines that it told."""

    status: int
    told: str

    @property
    def line(self) -> str:
        """What it told, on one line; the last of a traceback."""
        lines = [line.strip() for line in self.told.splitlines() if line.strip()]
        return (lines[-1] if "Traceback" in self.told and lines else " ".join(lines))[:240]


@dataclass(frozen=True)
class Place:
    """Where a kind's files are, and where results may go."""

    files: Path
    out: Path

    def run(self, *words: object) -> Ran:
        """Run `lexiseg` in the folder of files."""
        # Wide enough that no line is broken, and nobody asks a hub.
        environment = {**os.environ, "COLUMNS": "1000", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, *map(str, words)],
            cwd=self.files,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(done.returncode, done.stderr + done.stdout)

    def evaluate(self, name: str, *words: object, pred: object = "pred", manifest: str = "m.csv") -> Scores:
        """Run `lexiseg evaluate`, and read what it wrote into the folder `name`."""
        folder = self.out / name
        ran = self.run("evaluate", "--pred", pred, "--manifest", manifest, "--out", folder, "--cases", 0, *words)
        if not (folder / "cases.csv").exists():
            return Scores(ran)
        with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
            cases = {row["id"]: row for row in csv.DictReader(file)}
        unusable = {row["id"]: row["reason"] for row in json.loads((folder / "report.json").read_text())["unusable"]}
        return Scores(ran, cases, unusable)


@dataclass(frozen=True)
class Scores:
    """An evaluation's table, and the rows that it could not use."""

    ran: Ran
    cases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)

    def of(self, id: str) -> str:
        """What came of a scan, on one line."""
        if id in self.unusable:
            return f"no usable truth: {self.unusable[id]}"
        if id not in self.cases:
            return f"exit {self.ran.status}: {self.ran.line}"
        case = self.cases[id]
        told = [f"Dice {float(case['dice']):.3f}"] if case.get("dice") else []
        told += [case["status"]] if case["status"] != "ok" else []
        return "; ".join([*told, *filter(None, (case["reason"], case.get("notes", "")))])

    def dice(self, id: str) -> float:
        """A scan's Dice; -1 where it has none."""
        return float(self.cases[id]["dice"]) if self.cases.get(id, {}).get("dice") else -1.0

    def refused(self, id: str, *words: str) -> bool:
        """Whether truth or prediction of a scan was refused with a reason that holds these words."""
        told = self.unusable.get(id, "") or self.cases.get(id, {}).get("reason", "") or self.ran.told
        no_score = id not in self.cases or self.cases[id]["status"] != "ok"
        return no_score and all(word in told for word in words)


def overlap(place: Place) -> Iterator[Outcome]:
    """01: phrases that hold one another, asked together."""
    masks = place.out / "masks"
    phrases = {"lungs": 0.95, "left lung": 0.9, "right lung": 0.9}
    place.run("segment", "scans", *(word for each in phrases for word in ("--text", each)), "--out", masks)
    for phrase, least in phrases.items():
        manifest = f"m_{phrase.replace(' ', '-')}.csv"
        found = place.evaluate(phrase, "--text", phrase, pred=masks, manifest=manifest)
        yield Outcome(f"evaluate --text {phrase!r}", found.of("cxr3"), found.dice("cxr3") >= least)
    found = place.evaluate("none", pred=masks, manifest="m_left-lung.csv")
    yield Outcome("evaluate, no --text", found.of("cxr3"), found.ran.status == 2 and "--text" in found.ran.told)


def single_slice(place: Place) -> Iterator[Outcome]:
    """02: the same mask as PNG and as a volume of one slice."""
    found = place.evaluate("r")
    png, nii = (found.cases.get(name, {}) for name in ("png", "nii"))
    for ours, theirs in (("nsd_2px", "nsd_2mm"), ("hd95_px", "hd95_mm"), ("assd_px", "assd_mm")):
        values = (png.get(ours, ""), nii.get(theirs, ""))
        yield Outcome(f"evaluate: {ours}, {theirs}", " and ".join(values), values[0] == values[1] != "")


def truth_masks(place: Place) -> Iterator[Outcome]:
    """04: one mask in many encodings, as truth."""
    found = place.evaluate("r")
    ids = sorted(path.name.removesuffix("_mask.png") for path in (place.files / "pred").iterdir())
    for name in ids:
        if name == "inverted":  # An honest mask of something else.
            right = 0 <= found.dice(name) < 0.5
        elif name == "multi_label":
            right = found.refused(name, "--label", "0, 1 and 2")
        else:
            right = found.dice(name) >= 0.99
        yield Outcome(f"evaluate: {name}", found.of(name), right)
    chosen = place.evaluate("label", "--label", 1)
    yield Outcome("evaluate --label 1: multi_label", chosen.of("multi_label"), chosen.dice("multi_label") == 1)


def dicom_masks(place: Place) -> Iterator[Outcome]:
    """06: nested functional groups, and a true mask as DICOM."""
    yield from read(place)
    found = Place(place.files / "eval", place.out).evaluate("r")
    yield Outcome("evaluate: dicom_mask", found.of("dicom_mask"), found.dice("dicom_mask") == 1)


def pairs(place: Place) -> Iterator[Outcome]:
    """08: who is in a group, and what is a caption."""
    for column in ("patient_id", "study_id"):
        ran = place.run("finetune", f"grp_{column}.csv", "--out", place.out / column, "--epochs", 1, "--seed", 0)
        record = place.out / column / "training" / "run.json"
        kept = not record.exists() or _groups_kept(record, place.files / f"grp_{column}.csv", column)
        said = f"column {column} is taken as the group" in ran.told
        yield Outcome(f"finetune grp_{column}.csv", ran.line, kept and said)
    ran = place.run("retrieve", "none_na.csv")
    yield Outcome("retrieve none_na.csv", ran.line, ran.status == 2 and "says nothing" in ran.told)


def _groups_kept(record: Path, table: Path, column: str) -> bool:
    """Whether a run that went on had as many scans of whole groups on each side; two groups of six here."""
    with table.open(newline="", encoding="utf-8") as file:
        groups = [row[column] for row in csv.DictReader(file)]
    sizes = {groups.count(each) for each in groups}
    told: dict[str, Any] = json.loads(record.read_text())
    return told.get("pairs", {}).get("validation") in sizes


def runs_mixed(place: Place) -> Iterator[Outcome]:
    """09: two runs into one folder."""
    masks = place.out / "masks"
    for scans in ("s1", "s2"):
        place.run("segment", scans, "--text", "heart", "--out", masks)
    found = place.evaluate("r", pred=masks)
    yield Outcome(
        "evaluate: a, of the first run", found.of("a"), found.refused("a") or not (masks / "a_mask.png").exists()
    )
    yield Outcome("evaluate: b, of the second", found.of("b"), found.cases.get("b", {}).get("status") == "ok")


def volumes(place: Place) -> Iterator[Outcome]:
    """11: affines that are one, and affines that are not."""
    found = place.evaluate("r")
    for name in ("same", "affine_1e-4", "reoriented", "both_empty"):
        yield Outcome(f"evaluate: {name}", found.of(name), found.dice(name) == 1)
    yield Outcome("evaluate: shift_z", found.of("shift_z"), 0 <= found.dice("shift_z") < 1)
    yield Outcome("evaluate: identity", found.of("identity"), found.refused("identity", "mm away"))
    right = found.refused("multi_label", "--label")
    yield Outcome("evaluate: multi_label", found.of("multi_label"), right)


def labels(place: Place) -> Iterator[Outcome]:
    """12: a label map as prediction; label 1 is the truth's target, and 2 lies beside it."""
    found = place.evaluate("r")
    yield Outcome("evaluate", found.of("a"), found.refused("a", "--label"))
    for chosen, dice in (("1", 1.0), ("liver=1", 1.0), ("2", 0.0), ("liver=2", 0.0)):
        found = place.evaluate(f"label {chosen}", "--label", chosen)
        yield Outcome(f"evaluate --label {chosen}", found.of("a"), found.dice("a") == dice)


def exif(place: Place) -> Iterator[Outcome]:
    """13: masks on the stored pixels of a photograph that EXIF turns."""
    found = place.evaluate("r")
    for name in ("a", "sq"):
        yield Outcome(f"evaluate: {name}", found.of(name), "EXIF" in found.of(name))


def folders(place: Place) -> Iterator[Outcome]:
    """10: a disc with its DICOMDIR, and a folder with what is no scan."""
    done = place.run("segment", "cd", "--text", "lungs", "--out", place.out)
    rows = (place.out / "results.csv").read_text().splitlines()[1:] if done.status == 0 else []
    right = len(rows) == 3 and "passed over: 1 DICOMDIR" in done.told
    yield Outcome("segment cd", f"{len(rows)} rows; {done.line}", right)


def read(place: Place) -> Iterator[Outcome]:
    """03, 05, 06, 07: what readers make of scans; see `faults_readers.py`."""
    command = [sys.executable, str(Path(__file__).with_name("faults_readers.py")), "--data", str(place.files.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        kind, name, verdict, got = line.split(None, 3)
        if kind == place.files.name:
            yield Outcome(f"read {name}", got, verdict == "right")


KINDS: Mapping[str, Callable[[Place], Iterator[Outcome]]] = {
    "01-overlap": overlap,
    "02-single-slice": single_slice,
    "03-affine": read,
    "04-truth-masks": truth_masks,
    "05-range": read,
    "06-nested-dicom": dicom_masks,
    "07-header-quirks": read,
    "08-pairs": pairs,
    "09-runs-mix": runs_mixed,
    "10-folder": folders,
    "11-volume-eval": volumes,
    "12-labels": labels,
    "13-exif": exif,
}
"""Folder -> what is tried of it."""


def main(
    files: Annotated[Path, typer.Argument(metavar="DIR", help="Of the folders of files.")],
    kinds: Annotated[str, typer.Option(metavar="NN,NN", help="Only these.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep what was written there.")] = None,
) -> None:
    """Try every file, and print a Markdown table."""
    wanted = [number for number in kinds.split(",") if number]
    right = total = 0
    typer.echo("| kind | command | outcome | right |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as spare:
        for name, tried in KINDS.items():
            if wanted and name[:2] not in wanted:
                continue
            if not (files / name).is_dir():
                typer.echo(f"| {name} | skipped | there is no such folder | |")
                continue
            place = Place((files / name).resolve(), (out or Path(spare)).resolve() / name)
            for each in tried(place):
                right, total = right + each.right, total + 1
                got = each.got.replace("|", "/").replace(str(place.out), "OUT").replace(str(place.files), "DIR")
                typer.echo(f"| {name} | {each.command} | {got} | {'yes' if each.right else 'no'} |")
    typer.echo(f"\n{right} of {total} right")


if __name__ == "__main__":
    typer.run(main)
