"""nnU-Net v2 as the student, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from lexiseg.datasets.exports import DATASET, export_nnunet
from lexiseg.errors import LexisegError, UsageError
from lexiseg.files import atomic_write
from lexiseg.training.students.labels import LabelSet

_NUMBER = DATASET.removeprefix("Dataset")[:3]


def train_nnunet(labels: LabelSet, out: Path) -> Path:
    """Export a set and run nnU-Net's own planning and 2D training on it, the set's split as the one fold.

    Everything goes to `out`: nnUNet_raw, nnUNet_preprocessed and nnUNet_results. nnU-Net knows no weights of
    scans, so pseudo-labels that were kept all count the same.

    Args:
        labels: the set.
        out: made if missing.

    Returns:
        The folder of results.

    Raises:
        UsageError: nnU-Net v2 is not installed.
        LexisegError: one of its commands failed; its own words went to the terminal.
        UnwritableResult: the file system refused.
    """
    if find_spec("nnunetv2") is None:
        raise UsageError("nnU-Net v2 is not installed: pip install nnunetv2, or drop --backend nnunet")
    places = {name: out.resolve() / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    raw = export_nnunet(labels.rows, labels.names, places["nnUNet_raw"])
    note = {"labels": labels.kind, "supervised": labels.supervised, "teacher": dict(labels.teacher)}
    text = json.dumps(note, indent=2, default=str) + "\n"
    atomic_write(out / "labels.json", lambda file: file.write(text.encode()))
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    _run(["nnUNetv2_plan_and_preprocess", "-d", _NUMBER, "-c", "2d", "--verify_dataset_integrity"], environment)
    shutil.copyfile(raw / "splits_final.json", places["nnUNet_preprocessed"] / DATASET / "splits_final.json")
    _run(["nnUNetv2_train", _NUMBER, "2d", "0"], environment)
    return places["nnUNet_results"]


def _run(command: list[str], environment: dict[str, str]) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(f"nnU-Net's command {command[0]} is not on the PATH; activate its environment")
    status = subprocess.run([program, *command[1:]], env=environment, check=False).returncode  # noqa: S603
    if status:
        raise LexisegError(f"{command[0]} ended with status {status}; see what it printed above")
