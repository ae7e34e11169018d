"""A student as a folder: config.json, model.safetensors, a model card, which scans it saw, checksums."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import BrokenWeights, UnknownModel, UnwritableResult
from lexiseg.files import atomic_write, sha256_of
from lexiseg.models.weights.int8 import unpack
from lexiseg.models.weights.records import RECORD_NAME
from lexiseg.training.students.config import CARD, CONFIG, SCANS, WEIGHTS, StudentConfig, read_config
from lexiseg.training.students.network import build_network
from lexiseg.training.students.settings import BUNDLED, UNET


def write_student(
    folder: Path,
    config: StudentConfig,
    members: Sequence[Mapping[str, Tensor]],
    rows: Sequence[ManifestRow],
    *,
    about: str | None = None,
) -> None:
    """Write a student; config.json comes last, so that a folder with one is whole.

    Args:
        folder: made if missing.
        config: its description.
        members: the weights of each network.
        rows: the scans that it saw; where there are none to name, no list is written.
        about: the model card; made from `config` when None.

    Raises:
        UnwritableResult: the file system refused.
    """
    tensors = {f"{k}.{name}": value.contiguous() for k, member in enumerate(members) for name, value in member.items()}
    _write_folder(folder, config, tensors, rows, about=about)


def write_tuned(
    folder: Path, config: StudentConfig, tensors: Mapping[str, Tensor], rows: Sequence[ManifestRow]
) -> None:
    """Write a student that is a tuned encoder, as what differs from the bundled one.

    Args:
        folder: made if missing.
        config: its description.
        tensors: by their names in the open_clip model.
        rows: the scans that it saw.

    Raises:
        UnwritableResult: the file system refused.
    """
    _write_folder(folder, config, tensors, rows, about=None)


def _write_folder(
    folder: Path,
    config: StudentConfig,
    tensors: Mapping[str, Tensor],
    rows: Sequence[ManifestRow],
    *,
    about: str | None,
) -> None:
    from safetensors.torch import save

    content = {
        WEIGHTS: save(dict(tensors), metadata={"format": "pt"}),
        CARD: (card(config) if about is None else about).encode(),
    }
    if rows:
        content[SCANS] = _scans(rows).encode()
    for name, data in content.items():
        _write(folder / name, data)
    text = config.to_json().encode()
    checksums = {name: sha256_of(folder / name) for name in content}
    record = {"repo": "", "revision": "", "licence": "", "sources": {}, "files": checksums}
    _write(folder / RECORD_NAME, (json.dumps(record, indent=2) + "\n").encode())
    _write(folder / CONFIG, text)


def read_student(folder: Path) -> tuple[StudentConfig, list[nn.Module]]:
    """Read a student's networks, on the CPU.

    Raises:
        UnknownModel: the folder is no student's.
        BrokenWeights: the weights are missing, truncated, not those of the record, or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    if config.network != UNET:
        raise UnknownModel(f"{folder}: it is a tuned encoder, not a U-Net; give its folder as a preset or an encoder")
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BrokenWeights(
            f"{path}: the weights cannot be read ({type(error).__name__}); copy or train them again"
        ) from error
    _refuse_changed(folder)
    networks = []
    try:
        unpack(tensors)
        for k in range(config.members):
            network = build_network(
                channels=config.channels,
                classes=len(config.names) + 1,
                widths=config.widths,
                residual_units=config.residual_units,
            )
            start = f"{k}."
            own = {name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)}
            network.load_state_dict(own)
            networks.append(network.eval().requires_grad_(False))
    except (RuntimeError, TypeError, ValueError) as error:
        raise BrokenWeights(f"{path}: the weights do not fit {CONFIG}; copy or train them again") from error
    expected = sum(len(network.state_dict()) for network in networks)
    if not networks or expected != len(tensors):
        raise BrokenWeights(f"{path}: it holds {len(tensors)} tensors, {CONFIG} expects {expected}")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise BrokenWeights(f"{path}: a weight is not finite; train again")
    return config, networks


def _refuse_changed(folder: Path) -> None:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        recorded = str(record["files"][WEIGHTS])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenWeights(f"{folder / RECORD_NAME}: the checksums cannot be read; copy the folder again") from error
    if sha256_of(folder / WEIGHTS) != recorded:
        raise BrokenWeights(f"{folder / WEIGHTS}: its sha256 is not the recorded one; copy or train the weights again")


def write_comparison(folder: Path, config: StudentConfig) -> None:
    """Write a student's config.json and model card again, after it was laid beside its teacher.

    Raises:
        UnwritableResult: the file system refused.
    """
    _write(folder / CARD, card(config).encode())
    record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    record["files"][CARD] = sha256_of(folder / CARD)
    _write(folder / RECORD_NAME, (json.dumps(record, indent=2) + "\n").encode())
    _write(folder / CONFIG, config.to_json().encode())


def remove_file(path: Path) -> None:
    """Remove a file, if there is one.

    Raises:
        UnwritableResult: the file system refused.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableResult(f"{path}: it cannot be removed ({error.strerror})") from error


def _write(path: Path, data: bytes) -> None:
    atomic_write(path, lambda file: file.write(data))


def _scans(rows: Sequence[ManifestRow]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "group", "split", "weight"])
    table.writerows([row.id, row.group, row.extra["split"], row.extra["weight"]] for row in rows)
    return text.getvalue()


def _start(config: StudentConfig) -> str:
    if not config.start:
        return "random weights"
    kept = f"; its share in these weights is {config.start['share']}" if "share" in config.start else ""
    known = f"sha256 {config.start['sha256'][:16]}, licence {config.start.get('licence') or 'not stated'}"
    if config.start["name"] == BUNDLED:
        what = "U-Net" if config.network == UNET else "encoder"
        return f"the {what} that ships ({known}), which was trained on true masks of public scans{kept}"
    if config.network != UNET:
        return f"another student of the encoder that ships ({known}){kept}"
    return f"another student ({known}){kept}"


def _what(config: StudentConfig) -> str:
    if config.network == UNET:
        several = "s" if config.members > 1 else ""
        return f"{config.members} U-Net{several} with residual units, {config.size} pixels"
    part = config.settings.get("part", "projections")
    return f"the bundled encoder with its towers' {part} tuned, {config.size} pixels, drawn by the teacher's segmenter"


def _beside_teacher(comparison: Mapping[str, Any]) -> list[str]:
    """What was found when the student was laid beside its teacher, as lines of Markdown."""
    if not comparison:
        return []
    held = "held out" if comparison["held_out"] else "that it learnt from, since none was held out"
    lines = ["", f"Beside its teacher, without labels, on {comparison['scans']} scans {held}:", ""]
    lines += ["| | teacher | student | difference (95 %) |", "|---|---|---|---|"]
    for name, row in comparison["measures"].items():
        ends = f" ({_cell(row['low'])} to {_cell(row['high'])})" if row["low"] is not None else ""
        lines.append(
            f"| {name} | {_cell(row['teacher'])} | {_cell(row['student'])} | {_cell(row['difference'])}{ends} |"
        )
    lines += [
        "",
        f"Of {comparison['sure']} masks of which the teacher was sure it misses {comparison['missed']} and overlaps "
        f"them by {_cell(comparison['overlap'])}. It draws something in {comparison['found']} scans in which the "
        f"teacher found nothing. Its masks are {_cell(comparison['sizes'])} times as large in the median.",
        "",
        "**It looks worse than its teacher**: " + "; ".join(comparison["reasons"]) + "."
        if comparison["reasons"]
        else "It looks no worse than its teacher. That is no proof: only true masks are.",
    ]
    return lines


def _cell(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def card(config: StudentConfig) -> str:
    """The model card, in Markdown."""
    models = config.teacher.get("models", {})
    teacher = [
        f"- {role}: {model.get('name', '')} (sha256 {str(model.get('sha256', ''))[:16]}, "
        f"licence {model.get('licence') or 'not stated'})"
        for role, model in models.items()
    ]
    score = "nothing was held out" if config.score is None else f"{config.measure} {config.score:.3f}"
    if config.supervised:
        origin = [
            "**This model was trained on true masks.** It is the fully supervised upper bound of a "
            "comparison, not a result of weak supervision.",
        ]
    else:
        origin = [
            "Trained on pseudo-labels: no true mask was used of its scans, neither for training nor for "
            "stopping. Its teacher:",
            "",
            *teacher,
            f"- preset: {config.teacher.get('preset', {}).get('name', '')}",
            "",
            "A teacher that has seen the scans it labels makes the comparison with it worthless; compare "
            f"`{SCANS}` with what the teacher was trained on.",
        ]
    lines = [
        f"# {', '.join(config.names)}",
        "",
        f"A segmentation model by lexiseg {config.lexiseg}: {_what(config)}.",
        "",
        *origin,
        "",
        f"- scans: {config.scans.get('train', 0)} for training, {config.scans.get('val', 0)} for validation "
        f"(split by group), named in `{SCANS}`",
        f"- began from {_start(config)}",
        f"- validation against {'true masks' if config.supervised else 'pseudo-labels'}: {score}",
        "- use: `lexiseg predict THIS_FOLDER scans/ --out masks/`",
        *([] if config.network == UNET else ["- as a preset: `lexiseg serve --preset THIS_FOLDER`"]),
        *_beside_teacher(config.comparison),
        "",
        f"Before you share this folder: `{SCANS}` holds the scans' and groups' names. A model learns from "
        "its scans and its teacher; their licences may bind it. Not a medical device.",
    ]
    return "\n".join(lines) + "\n"
