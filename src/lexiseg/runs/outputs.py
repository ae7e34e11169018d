"""The files of one scan of a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write
from lexiseg.io.pictures import overlay
from lexiseg.io.write import write_map, write_mask
from lexiseg.pipelines.results import Finding, Result
from lexiseg.proposals.files import proposals_picture, proposals_record
from lexiseg.values.scan import Prompts, Scan
from lexiseg.values.slices import iterate_slices

_MOST_SLICES = 6
_COLUMNS = 3


def overlay_picture(result: Result, scan: Scan) -> NDArray[np.uint8]:
    """The scan with its masks and boxes; of a volume a few slices side by side.

    Returns:
        uint8 (H, W, 3). The first slice shown carries the phrases and their presence.
    """
    slices = list(iterate_slices(scan))
    labels = result.mask.labels if scan.volume else result.mask.labels[None]
    names = [_caption(finding) for finding in result.findings]
    pictures: list[NDArray[np.uint8]] = []
    for index in _shown(labels):
        boxes = [f.prompts[index].boxes for f in result.findings if len(f.prompts[index].boxes)]
        pictures.append(
            overlay(
                slices[index],
                labels[index],
                boxes=np.concatenate(boxes) if boxes else None,
                names=None if pictures else names,
            )
        )
    return _tiled(pictures)


def _caption(finding: Finding) -> str:
    presence = "" if math.isnan(finding.presence) else f" {finding.presence:.2f}"
    return f"{finding.phrase}{presence}" if finding.present else f"{finding.phrase}: absent{presence}"


def _shown(labels: NDArray[np.uint8]) -> list[int]:
    """Slices spread over those with a mask; where none has one, over all."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    candidates = filled if len(filled) else np.arange(len(labels))
    picked = np.linspace(0, len(candidates) - 1, min(_MOST_SLICES, len(candidates)))
    return [int(index) for index in candidates[np.rint(picked).astype(int)]]


def _tiled(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = min(_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    pictures = pictures + [np.zeros_like(pictures[0])] * (rows * columns - len(pictures))
    return np.concatenate(
        [np.concatenate(pictures[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )


_MASKS = ("_mask.png", "_mask.nii.gz")
_OTHERS = (
    "_labels.png",
    "_overlay.png",
    "_uncertainty.png",
    "_uncertainty.nii.gz",
    "_proposals.png",
    "_proposals.json",
)
_STAGES = ("saliency.png", "saliency.nii.gz", "region.png", "region.nii.gz", "prompts.json")


def write_outputs(result: Result, scan: Scan, folder: Path, name: str, *, stages: bool, overlay: bool) -> None:
    """Write a scan's mask and, where asked for, its stages and a picture, each file in one step.

    An uncertainty that the result has is written as NAME_uncertainty.

    The mask is written last: where it is, the scan's other files are too.

    Args:
        result: with its stages kept, where they are to be written.
        scan: what it is of.
        folder: where to.
        name: what the files' names begin with.
        stages: write NAME_saliency, NAME_region and NAME_prompts; of several phrases each has its slug after
            the name.  Where regions were proposed, also NAME_proposals.json, which says too which of them
            each phrase retrieved, and for an image NAME_proposals.png.
        overlay: write NAME_overlay.png.

    Raises:
        UnwritableResult: the file system refused.
    """
    if stages:
        for finding, slug in zip(result.findings, slugs([f.phrase for f in result.findings]), strict=True):
            stem = f"{name}_{slug}" if len(result.findings) > 1 else name
            _write_stages(finding, scan, folder, stem)
        if result.proposals:
            _write_proposals(result, scan, folder, name)
    if overlay:
        picture = Image.fromarray(overlay_picture(result, scan))
        atomic_write(folder / f"{name}_overlay.png", lambda file: picture.save(file, format="PNG"))
    if result.uncertainty is not None:
        write_map(result.uncertainty, scan, folder, stem=name, kind="uncertainty")
    write_mask(result.mask, scan, folder, stem=name)


def has_mask(folder: Path, name: str) -> bool:
    """Whether a scan's mask is there."""
    return any((folder / f"{name}{ending}").is_file() for ending in _MASKS)


def remove_outputs(folder: Path, name: str, phrases: Sequence[str]) -> None:
    """Remove what an earlier run of the same folder wrote for a scan that now fails: it would pass for new.

    Raises:
        UnwritableResult: the file system refused.
    """
    stems = [name, *(f"{name}_{slug}" for slug in slugs(phrases))]
    names = [f"{name}{ending}" for ending in (*_MASKS, *_OTHERS)]
    names += [f"{stem}_{ending}" for stem in stems for ending in _STAGES]
    try:
        for each in names:
            (folder / each).unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableResult(f"{folder}: an earlier file of {name} cannot be removed ({error.strerror})") from error


def slugs(phrases: Sequence[str]) -> list[str]:
    """A short file-name-safe word for each phrase, no two of them alike: "left lung" is left-lung."""
    found: list[str] = []
    for phrase in phrases:
        plain = re.sub(r"[\W_]+", "-", phrase.casefold()).strip("-")[:40] or "phrase"
        slug, number = plain, 2
        while slug in found:
            slug, number = f"{plain}-{number}", number + 1
        found.append(slug)
    return found


def _write_stages(finding: Finding, scan: Scan, folder: Path, stem: str) -> None:
    saliency = [each.map for each in finding.saliency]
    region = [each.mask for each in finding.region]
    write_map(_whole(saliency, scan), scan, folder, stem=stem, kind="saliency")
    write_map(_whole(region, scan), scan, folder, stem=stem, kind="region")
    content = json.dumps(_prompts_record(finding, scan), indent=2, allow_nan=False) + "\n"
    atomic_write(folder / f"{stem}_prompts.json", lambda file: file.write(content.encode()))


def _write_proposals(result: Result, scan: Scan, folder: Path, name: str) -> None:
    records = [
        {
            **proposals_record(proposals, image_id=each.id),
            "matches": {
                finding.phrase: [match.index for match in finding.matches[k].items]
                for finding in result.findings
                if finding.matches
            },
        }
        for k, (proposals, each) in enumerate(zip(result.proposals, iterate_slices(scan), strict=True))
    ]
    content = json.dumps({"slices": records} if scan.volume else records[0], allow_nan=False) + "\n"
    atomic_write(folder / f"{name}_proposals.json", lambda file: file.write(content.encode()))
    if not scan.volume:
        picture = Image.fromarray(proposals_picture(scan, result.proposals[0]))
        atomic_write(folder / f"{name}_proposals.png", lambda file: picture.save(file, format="PNG"))


def _whole(slices: Sequence[Any], scan: Scan) -> Any:
    return np.stack(slices) if scan.volume else slices[0]


def _prompts_record(finding: Finding, scan: Scan) -> dict[str, Any]:
    """An image's prompts as they are; a volume's for each slice that has any."""
    about = {"phrase": finding.phrase, "frame": "x0 y0 x1 y1 in scan pixels, end-exclusive"}
    if not scan.volume:
        return {**about, **_plain(finding.prompts[0])}
    asked = [{"slice": k, **_plain(each)} for k, each in enumerate(finding.prompts) if not each.empty]
    return {**about, "slices": asked}


def _plain(prompts: Prompts) -> dict[str, Any]:
    return {
        "boxes": [[float(edge) for edge in box] for box in prompts.boxes],
        "points": [[float(value) for value in point] for point in prompts.points],
        "labels": [int(label) for label in prompts.labels],
    }
