"""A session's masks as files to take away, and the words that repeat its answers."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lexiseg.errors import FormatMismatch, UsageError
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.results import MAX_LABELS

if TYPE_CHECKING:
    from lexiseg.io.segments import AlgorithmType
    from lexiseg.serve.scans import Source
    from lexiseg.session import Session
    from lexiseg.session.target import Target

Files = dict[str, bytes]
_KINDS = {".png": "image/png", ".json": "application/json", ".zip": "application/zip"}


def export_files(session: Session, format: str, ids: Sequence[str]) -> Files:
    """The files of a format, by name.

    Args:
        session: its masks as they are now.
        format: one of `formats()`.
        ids: of the targets; all that are there when empty.

    Raises:
        UsageError: no such format or target, or none at all.
        FormatMismatch: the format cannot hold this scan.
    """
    if format not in formats():
        raise UsageError(f"there is no format {format!r}; expected one of {', '.join(formats())}")
    if not all(each.isdecimal() for each in ids):
        raise UsageError("targets are named by their ids, such as 1,2")
    targets = [session.target(int(each)) for each in ids] or session.all_targets()
    if not targets:
        raise UsageError("there is no target yet; ask for one or draw one before you take it away")
    if format in _OWN:
        return _OWN[format](session, targets)
    return _by_writer(session, format, targets)


def packed(files: Files, stem: str, format: str) -> tuple[str, str, bytes]:
    """One file as it is, several as a zip: (name, media type, content)."""
    from lexiseg.io.names import safe_id

    if len(files) == 1:
        ((name, content),) = files.items()
        return name, _KINDS.get(Path(name).suffix, "application/octet-stream"), content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return f"{safe_id(stem)}_{format}.zip", _KINDS[".zip"], archive.getvalue()


def _by_writer(session: Session, format: str, targets: Sequence[Target]) -> Files:
    """By one of the writers that `lexiseg segment` has."""
    from lexiseg.datasets.label_maps import laid_over
    from lexiseg.io.names import safe_id, slugs
    from lexiseg.io.segments import Segment, Segments, WriteOptions
    from lexiseg.io.write import GridWriter, writer_of
    from lexiseg.runs.notes import lost_in

    writer = writer_of(format)
    if reason := writer.why_not(session.scan):
        raise FormatMismatch(f"{format} cannot hold this scan's mask: {reason}; choose another format")
    if len(targets) > MAX_LABELS:
        raise UsageError(f"there are {len(targets)} targets; take at most {MAX_LABELS} away at once")
    names = [target.look.name for target in targets]
    items = tuple(
        Segment(name, slug, session.mask(target.id), None if target.result is None or target.edited else
                target.result.probability, _algorithm_type(session, target))
        for target, name, slug in zip(targets, names, slugs(names), strict=True)
    )  # fmt: skip
    # In the label map the smaller masks are over the larger.
    labels = laid_over([item.mask for item in items])
    # What was drawn by hand alone is of no weights, whether or not they were loaded meanwhile.
    asked = session.real_pipeline if any(item.algorithm_type != "MANUAL" for item in items) else None
    provenance = {} if asked is None else asked.provenance
    segments = Segments(session.scan, items, labels, provenance)
    base, notes = safe_id(session.scan.id), dict[str, str]()
    if isinstance(writer, GridWriter):
        for name, lost in lost_in(labels, {item.name: item.mask for item in items}).items():
            notes[f"label map, {name}"] = f"{lost}; the mask of its own is whole"
    try:
        files = {
            f"{base}_{end}{writer.suffix}": content for end, content in writer.files(segments, WriteOptions(), notes)
        }
    except FormatMismatch as error:
        raise FormatMismatch(f"{format} cannot hold this scan's mask: {error}; choose another format") from error
    if not files:
        raise FormatMismatch(f"{format} holds no empty mask; draw something, or choose another format")
    if notes:
        files["notes.txt"] = "".join(f"{name}: {text}\n" for name, text in notes.items()).encode()
    return files


def _algorithm_type(session: Session, target: Target) -> AlgorithmType:
    if not target.edited:
        return "AUTOMATIC"
    return "SEMIAUTOMATIC" if session.by_model(target.id) else "MANUAL"


def _coco(session: Session, targets: Sequence[Target]) -> Files:
    """COCO annotations, run-length coded; a volume's planes are its images."""
    from lexiseg.datasets.exports import run_lengths
    from lexiseg.values.masks import box_of

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    axis = session.views.acquired
    height, width = session.views.shape(axis)
    for index in range(session.views.count(axis)):
        name = session.planes[index].id
        images.append({"id": index + 1, "file_name": f"{name}.png", "height": height, "width": width})
        for number, target in enumerate(targets, start=1):
            mask = session.plane_mask(target.id, index)
            if not mask.any():
                continue
            x0, y0, x1, y1 = box_of(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": number,
                    "segmentation": {"counts": run_lengths(mask), "size": [height, width]},
                    "area": int(mask.sum()),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": "masks by lexiseg"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": target.look.name} for k, target in enumerate(targets, start=1)],
    }
    from lexiseg.io.names import safe_id

    return {f"{safe_id(session.scan.id)}_coco.json": (json.dumps(content) + "\n").encode()}


def _overlay(session: Session, targets: Sequence[Target]) -> Files:
    """The scan with its targets tinted; of a volume the plane with most of them."""
    from PIL import Image as Pillow

    from lexiseg.datasets.label_maps import laid_over
    from lexiseg.io.names import safe_id
    from lexiseg.io.pictures import overlay

    masks = {target.id: session.mask(target.id) for target in targets}
    sizes = [
        sum(int(cut.sum()) for cut in parts)
        for parts in zip(*(session.planes.cut(mask) for mask in masks.values()), strict=True)
    ]
    index = int(np.argmax(sizes))
    labels = session.planes.cut(laid_over(list(masks.values())))[index]
    picture = overlay(session.planes[index], labels, names=[target.look.name for target in targets])
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, format="PNG")
    return {f"{safe_id(session.scan.id)}_overlay.png": file.getvalue()}


_OWN: Mapping[str, Callable[[Session, Sequence[Target]], Files]] = {"coco": _coco, "overlay": _overlay}


def formats() -> tuple[str, ...]:
    """What masks can be taken as."""
    from lexiseg.io.write import WRITERS

    return (*WRITERS, *_OWN)


def as_command(session: Session, source: Source) -> str:
    """The commands, one for each preset, that give the same masks as a session's phrases."""
    lines = _remarks(session, source, "#")
    for preset, phrases in _asked(session).items():
        words = ["lexiseg", "segment", _file(source)]
        words += [part for phrase in phrases for part in ("--text", phrase)]
        words += ["--preset", preset, *_threshold(session, preset)]
        if segmenter := _segmenter(session, preset):
            words += ["--segmenter", segmenter]
        lines.append(shlex.join([*words, "--out", _folder(session, preset)]))
    return "\n".join(lines)


def as_python(session: Session, source: Source) -> str:
    """The same in Python."""
    lines = ["import lexiseg", *_remarks(session, source, "#"), ""]
    for preset, phrases in _asked(session).items():
        changes = "".join(f", threshold={value}" for value in _threshold(session, preset)[1:])
        if segmenter := _segmenter(session, preset):
            changes += f", segmenter={segmenter!r}"
        lines += [
            f"ask = lexiseg.load({preset!r}{changes})",
            f"result = ask({_file(source)!r}, {phrases!r})",
            f"result.save({_folder(session, preset)!r}, overlay=True)",
        ]
    return "\n".join([*lines, ""])


def _file(source: Source) -> str:
    """What the scan is called on the visitor's disk, as far as is known."""
    return f"{source.phantom}.png" if source.phantom else source.name


def _remarks(session: Session, source: Source, mark: str) -> list[str]:
    """What the words do not repeat."""
    remarks = []
    if source.phantom:
        remarks.append(
            f"{mark} {_file(source)}: lexiseg.serve.phantoms.phantom_scan({source.phantom!r}), saved as a PNG"
        )
    if any(target.edited for target in session.all_targets()):
        remarks.append(f"{mark} corrections by hand are not repeated")
    return remarks


def _threshold(session: Session, preset: str) -> list[str]:
    """The threshold where it is not the preset's own."""
    own = next((found.threshold for target in session.all_targets() if (found := target.origin.found) is not None
                and found.preset == preset), session.threshold)  # fmt: skip
    moved = session.threshold is not None and session.threshold != own
    return ["--threshold", f"{session.threshold:g}"] if moved else []


def _folder(session: Session, preset: str) -> str:
    """Where a preset's masks go; one's would be written over the other's."""
    return "masks" if preset == session.pipeline.preset.name else f"masks-{preset}"


def _segmenter(session: Session, preset: str) -> str:
    """The segmenter, where it is not the preset's own; "" where it is."""
    chosen = session.pipeline.preset
    return chosen.segmenter if preset == chosen.name and chosen.segmenter != load_preset(preset).segmenter else ""


def _asked(session: Session) -> dict[str, list[str]]:
    """Phrases by preset."""
    found: dict[str, list[str]] = {}
    for target in session.all_targets():
        if target.origin.found is not None:
            found.setdefault(target.origin.found.preset, []).append(target.origin.found.phrase)
    return found or {session.pipeline.preset.name: ["breast tumor"]}
