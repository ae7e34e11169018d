"""Volumes, step by step: how much each step adds, what is found where nothing is, and what a large volume costs.

    python benchmarks/volumes.py [--volumes DIR] [--out volumes.json]
    python benchmarks/volumes.py --fullsize [--slices 300]

The first prints Dice, NSD at 2 mm and HD95 in three dimensions for phantom volumes, whose lesions are known exactly,
and for the volumes of DIR (see its README), each step after the others.  Text is asked once a volume: the steps share
its answers.  The second makes a CT of 512 x 512 pixels a slice and prints its time as a multiple of its slices' time
as single images, both sides in turn in one process; peak memory of the command line; and whether a run that was
killed half-way ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import typer

import lexiseg
from common import made_with, progress, table_head, table_row
from lexiseg.datasets.phantoms.volume import generate_volume
from lexiseg.evaluation.metrics.masks import score_mask
from lexiseg.io.read import read_scan
from lexiseg.runs.partial import _HEAD, ENDING, _records
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Image, Volume

OFF: Mapping[str, Any] = {"gate": 0, "max_gap": 0, "min_slices": 1, "smoothing": 0, "propagate": False}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "slice by slice": {},
    "pieces of two slices or more": {"min_slices": 2},
    "gated": {"gate": 0.9},
    "gated, gaps closed": {"gate": 0.9, "max_gap": 10},
    "gated, gaps closed, smoothed": {"gate": 0.9, "max_gap": 10, "smoothing": 2},
    "gated, largest piece": {"gate": 0.9, "keep": "largest"},
    "propagated": {"propagate": True},
}
PHANTOMS = {
    "brain-mri": ("brain tumor", (range(1, 9), range(11, 15)), (range(21, 25), range(31, 34)), {"plane": "axial"}),
    "breast-ultrasound": ("breast tumor", (range(1, 5), range(11, 13)), (range(21, 23), range(31, 33)), {}),
}
"""Modality -> phrase, seeds that chose settings (with the lesion, without), seeds that test them, attributes."""
REAL = {
    "lgg_TCGA_CS_6667_20011105": ("brain tumor", "auto"),
    "lung_ct_1": ("lungs", "lung"),
}
"""Volumes whose label is the phrase."""
WITHOUT = ("mni152_t1_2mm", "chaos_mr_15", "cardiac_mr_6", "ircadb17")
"""Volumes without a brain tumor: whatever is drawn is false."""
HEAD = ("volumes", "step", "with target", "Dice", "NSD 2 mm", "HD95, mm", "true slices drawn", "false slices",
        "without", "found in", "false slices", "false ml a volume")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A volume with its truth, bool on its own grid; all False where it has no target."""

    group: str
    scan: Volume
    phrase: str
    truth: BoolArray
    window: str = "auto"


class Notebook:
    """What text answered, kept for the next steps."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[bytes, ...]] = {}

    def recall(self) -> Mapping[int, tuple[bytes, ...]]:
        return dict(self.kept)

    def keep(self, index: int, slices: tuple[bytes, ...]) -> None:
        self.kept[index] = slices


def phantoms(slices: int, *, choose: bool) -> Iterator[Case]:
    """The phantom volumes."""
    for modality, (phrase, choosing, testing, attributes) in PHANTOMS.items():
        ill, healthy = choosing if choose else testing
        for seed in (*ill, *healthy):
            made = generate_volume(modality, seed, slices=slices, target=seed in ill, **attributes)
            yield Case(f"phantoms, {modality}", made.scan, phrase, made.target)


def real(folder: Path) -> Iterator[Case]:
    """The real ones."""
    for name, (phrase, window) in REAL.items():
        scan, labels = (read_scan(folder / f"{name}{end}.nii.gz", id=name) for end in ("", "_labels"))
        assert isinstance(scan, Volume) and isinstance(labels, Volume)
        yield Case(name, scan, phrase, np.asarray(labels.values > 0), window)
    for name in WITHOUT:
        scan = read_scan(folder / f"{name}.nii.gz", id=name)
        assert isinstance(scan, Volume)
        yield Case(f"{name} (no brain tumor)", scan, "brain tumor", np.zeros(scan.shape, np.bool_))


def answers(case: Case, models: Any, preset: str) -> dict[str, dict[str, float]]:
    """Numbers of each step, for one volume."""
    notebook, found = Notebook(), {}
    for step, settings in {"text": {"smoothing": 2}, **STEPS}.items():
        changes = {"volume": {**OFF, **settings, "window": case.window}}
        chosen = lexiseg.load_preset(preset).override(**changes)
        pipeline = type(models)(chosen, models.encoder, models.segmenter)
        result = pipeline(case.scan, case.phrase, journal=notebook)
        if step == "text":  # with probabilities, which smoothing asks for
            continue
        mask, planes = result[case.phrase].mask, pipeline.planes(case.scan)
        spacing = case.scan.spacing
        score = score_mask(case.truth, mask, spacing=spacing, tolerance=2.0).values
        drawn, true = (planes.cut(each).any(axis=(1, 2)) for each in (mask, case.truth))
        cell = float(np.prod(spacing)) if spacing is not None else 1.0
        found[step] = {
            "target": float(true.any()),
            "dice": score["dice"],
            "nsd": next(value for key, value in score.items() if key.startswith("nsd")),
            "hd95": next(value for key, value in score.items() if key.startswith("hd95")),
            "present": float(mask.any()),
            "true slices": float(true.sum()),
            "true drawn": float((drawn & true).sum()),
            "false slices": float((drawn & ~true).sum()),
            "false ml": float((mask & ~case.truth).sum()) * cell / 1000,
        }
    return found


def print_steps(rows: Mapping[str, list[dict[str, dict[str, float]]]]) -> None:
    """A table: means over the volumes of a group that have the target, sums over those that have not."""
    print(table_head(HEAD))
    for group, volumes in rows.items():
        for step in STEPS:
            ill = [each[step] for each in volumes if each[step]["target"]]
            healthy = [each[step] for each in volumes if not each[step]["target"]]
            total = {key: sum(each[key] for each in ill) for key in (ill[0] if ill else ())}
            means = (
                [f"{total[key] / len(ill):.{digits}f}" for key, digits in (("dice", 3), ("nsd", 3), ("hd95", 1))]
                if ill
                else [""] * 3
            )
            slices = (
                [f"{total['true drawn']:.0f} of {total['true slices']:.0f}", f"{total['false slices']:.0f}"]
                if ill
                else [""] * 2
            )
            false = (
                [
                    f"{sum(each['present'] for each in healthy):.0f}",
                    f"{sum(each['false slices'] for each in healthy):.0f}",
                    f"{sum(each['false ml'] for each in healthy) / len(healthy):.1f}",
                ]
                if healthy
                else [""] * 3
            )
            print(table_row([group, step, len(ill) or "", *means, *slices, len(healthy) or "", *false]))


def make_ct(folder: Path, slices: int) -> Path:
    """A CT of a phantom head with a lesion, 512 x 512 pixels a slice, int16, as NIfTI."""
    spacing = (210 / slices, 0.45, 0.45)
    made = generate_volume("brain-mri", 5, slices=slices, size=512, spacing=spacing, plane="axial")
    values = np.rint(made.scan.values * 400 - 100).astype(np.int16)
    path = folder / "ct.nii.gz"
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), made.scan.geometry.affine)
    image.header.set_slope_inter(1, 0)
    nibabel.save(image, path)
    return path


def ratio(path: Path, preset: str, block: int = 10) -> None:
    """The volume's time over its slices' as single images, which take turns with it."""
    models = lexiseg.load(preset).pipeline
    scan = read_scan(path, id="ct")
    planes = models.planes(scan)
    alone = 0.0
    done = 0

    def take_turns(share: float) -> None:
        nonlocal alone, done
        reached = round(share * len(planes))
        if reached - done < block and share < 1:
            return
        began = time.perf_counter()
        for index in range(done, reached):
            models(Image(planes[index].pixels, id="slice"), "brain tumor")
        alone += time.perf_counter() - began
        done = reached
        progress.print(f"{reached} of {len(planes)} slices", end="\r")

    models(Image(planes[0].pixels, id="warm"), "brain tumor")
    began = time.perf_counter()
    result = models(scan, "brain tumor", progress=take_turns)
    whole = time.perf_counter() - began - alone
    drawn = int(planes.cut(result["brain tumor"].mask).any(axis=(1, 2)).sum())
    print(f"{len(planes)} slices, {drawn} drawn: the volume {whole:.1f} s, as single images {alone:.1f} s, "
          f"ratio {whole / alone:.3f}")  # fmt: skip


def command(path: Path, out: Path, *more: str) -> list[str]:
    """`lexiseg segment`."""
    run = "from lexiseg.cli.main import run; run()"
    return [sys.executable, "-c", run, "segment", str(path), "--text", "brain tumor", "--out", str(out), *more]


def written_slices(file: Path) -> int:
    """How many slices were written down."""
    try:
        content = file.read_bytes()
    except OSError:
        return 0
    start = content.find(b"\n") + 1
    return len(_records(content, start)[0]) if len(content) > start + _HEAD.size else 0


def interrupted(path: Path, folder: Path, slices: int, preset: str) -> None:
    """Peak memory of an undisturbed run, and a killed one beside it."""
    whole, killed = folder / "whole", folder / "killed"
    began = time.perf_counter()
    subprocess.run(command(path, whole, "--preset", preset), check=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"undisturbed: {seconds:.0f} s, peak memory {peak:.2f} GiB")
    child = subprocess.Popen(command(path, killed, "--preset", preset))
    file = killed / f"ct_{ENDING}"
    while child.poll() is None and written_slices(file) < slices // 2:
        time.sleep(0.2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    print(f"killed with {written_slices(file)} of {slices} slices written down, {file.stat().st_size / 1e6:.2f} MB")
    began = time.perf_counter()
    subprocess.run(command(path, killed, "--preset", preset, "--resume"), check=True)
    first, second = (hashlib.sha256((each / "ct_mask.nii.gz").read_bytes()).hexdigest() for each in (whole, killed))
    same = "the same" if first == second else f"OTHERS, {first} and {second}"
    print(f"resumed: {time.perf_counter() - began:.0f} s; the mask's bytes are {same}")
    rest = sorted(each.name for each in killed.iterdir())
    print(f"left in the folder: {', '.join(rest)}")


def main(
    volumes: Annotated[Path | None, typer.Option(help="folder with real volumes; phantoms alone without it")] = None,
    preset: str = "demo",
    slices: Annotated[int, typer.Option(help="of a phantom volume: 24, or of the full-size CT: 300")] = 0,
    choose: Annotated[bool, typer.Option(help="the phantoms that settings were chosen on")] = False,
    fullsize: Annotated[bool, typer.Option(help="time, memory and resume of a large CT instead")] = False,
    only_ratio: Annotated[bool, typer.Option(help="with --fullsize: time alone")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON of the numbers; what it has already is not done again")] = None,
) -> None:
    """Print the tables."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(made_with(f"{preset}, {threads} CPU threads"))
    if fullsize:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if not only_ratio:
                interrupted(make_ct(folder, slices or 300), folder, slices or 300, preset)
            # A fifth of the slices tells the ratio as well: what a volume does once grows with them too.
            ratio(make_ct(folder, slices or 60), preset)
        return
    models = lexiseg.load(preset).pipeline
    rows: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    if out is not None and out.exists():
        rows = json.loads(out.read_text())
    for case in (*phantoms(slices or 24, choose=choose), *(real(volumes) if volumes is not None else ())):
        group = rows.setdefault(case.group, {})
        if case.scan.id in group:
            continue
        began = time.perf_counter()
        group[case.scan.id] = answers(case, models, preset)
        progress.print(f"{case.group} {case.scan.id}: {time.perf_counter() - began:.1f} s")
        if out is not None:
            out.write_text(json.dumps(rows, indent=1) + "\n")
    print_steps({group: list(found.values()) for group, found in rows.items()})


if __name__ == "__main__":
    typer.run(main)
