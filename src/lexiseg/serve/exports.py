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

from lexiseg.errors import UsageError
from lexiseg.values.scans import Image, Volume

if TYPE_CHECKING:
    from lexiseg.session import Session
    from lexiseg.session.session import Target

Files = dict[str, bytes]
_KINDS = {".png": "image/png", ".json": "application/json", ".zip": "application/zip"}


def export_files(session: Session, format: str, ids: Sequence[str]) -> Files:
    """The files of a format, by name.

    Args:
        session: its masks as they are now.
        format: one of `FORMATS`.
        ids: of the targets; all that are there when empty.

    Raises:
        UsageError: no such format or target, none at all, or the format cannot hold this scan.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}; expected one of {', '.join(FORMATS)}")
    if not all(each.isdigit() for each in ids):
        raise UsageError("targets are named by their ids, such as 1,2")
    targets = [session.target(int(each)) for each in ids] or session.all_targets()
    if not targets:
        raise UsageError("there is no target yet; ask for one or draw one before you take it away")
    return FORMATS[format](session, targets)


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


def stems(session: Session, targets: Sequence[Target]) -> list[str]:
    """What each target's file is called, without its end."""
    from lexiseg.io.names import safe_id, slugs

    base = safe_id(session.scan.id)
    if len(targets) == 1:
        return [f"{base}_mask"]
    return [f"{base}_mask_{slug}" for slug in slugs([target.look.name for target in targets])]


def _written(session: Session, targets: Sequence[Target], wanted: type) -> Files:
    """By the writer of the scan's kind."""
    from lexiseg.io.write import writer_of

    kind, other = ("a volume", "nifti") if isinstance(session.scan, Volume) else ("an image", "png")
    if not isinstance(session.scan, wanted):
        raise UsageError(f"the scan is {kind}, whose masks are taken as {other}")
    writer = writer_of(session.scan)
    shown = 255 if isinstance(session.scan, Image) else 1
    return {
        f"{stem}{writer.suffix}": writer.mask(np.where(session.mask(target.id), np.uint8(shown), np.uint8(0)), session.scan)
        for target, stem in zip(targets, stems(session, targets), strict=True)
    }


def _png(session: Session, targets: Sequence[Target]) -> Files:
    return _written(session, targets, Image)


def _nifti(session: Session, targets: Sequence[Target]) -> Files:
    return _written(session, targets, Volume)


def _coco(session: Session, targets: Sequence[Target]) -> Files:
    """COCO annotations, run-length coded; a volume's planes are its images."""
    from lexiseg.datasets.exports import run_lengths
    from lexiseg.session.deltas import box_of

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
    return {f"{stems(session, targets[:1])[0].removesuffix('_mask')}_coco.json": (json.dumps(content) + "\n").encode()}


def _overlay(session: Session, targets: Sequence[Target]) -> Files:
    """The scan with its targets tinted; of a volume the plane with most of them."""
    from PIL import Image as Pillow

    from lexiseg.io.names import safe_id
    from lexiseg.io.pictures import overlay

    masks = {target.id: session.mask(target.id) for target in targets}
    sizes = [sum(int(cut.sum()) for cut in parts) for parts in zip(*(session.planes.cut(mask) for mask in masks.values()), strict=True)]
    index = int(np.argmax(sizes))
    labels = np.zeros(session.views.shape(session.views.acquired), np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[session.planes.cut(mask)[index]] = number
    picture = overlay(session.planes[index], labels, names=[target.look.name for target in targets])
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, format="PNG")
    return {f"{safe_id(session.scan.id)}_overlay.png": file.getvalue()}


FORMATS: Mapping[str, Callable[[Session, Sequence[Target]], Files]] = {
    "png": _png,
    "nifti": _nifti,
    "coco": _coco,
    "overlay": _overlay,
}
"""Name -> function of (session, targets) that makes the files."""


def as_command(session: Session, name: str) -> str:
    """The command that gives the same masks as the phrases of a session; edits by hand are none of it."""
    words = ["lexiseg", "segment", name]
    for preset, phrases in _asked(session).items():
        words = [*words, *(part for phrase in phrases for part in ("--text", phrase)), "--preset", preset]
        break
    if session.threshold is not None:
        words += ["--threshold", f"{session.threshold:g}"]
    return shlex.join([*words, "--out", "masks"])


def as_python(session: Session, name: str) -> str:
    """The same in Python."""
    lines = ["import lexiseg", ""]
    for preset, phrases in _asked(session).items():
        lines.append(f"ask = lexiseg.load({preset!r}, threshold={session.threshold!r})")
        lines.append(f"result = ask({name!r}, {phrases!r})")
        break
    return "\n".join([*lines, 'result.save("masks", overlay=True)', ""])


def _asked(session: Session) -> dict[str, list[str]]:
    """Phrases by preset."""
    found: dict[str, list[str]] = {}
    for target in session.all_targets():
        if target.origin.found is not None:
            found.setdefault(target.origin.found.preset, []).append(target.origin.found.phrase)
    return found or {session.pipeline.preset.name: ["breast tumor"]}
