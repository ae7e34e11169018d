"""The files of one scan of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from lexiseg.files import atomic_write
from lexiseg.io.names import slugs
from lexiseg.io.write import write_map, write_mask
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.proposals.files import proposals_record
from lexiseg.runs.pictures import overlay_picture, proposals_picture
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Image, Planes, Scan


def write_outputs(
    result: Result, scan: Scan, planes: Planes, folder: Path, name: str, *, stages: bool, overlay: bool
) -> list[Path]:
    """Write a scan's mask and, where asked for, its stages and a picture, each file in one step.

    Of several phrases each has its own mask, NAME_mask_SLUG, beside the mask of all and the label map, in
    which a pixel belongs to one phrase alone.

    An uncertainty that the result has is written as NAME_uncertainty.

    The mask is written last: where it is, the scan's other files are too.

    Args:
        result: with its stages kept, where they are to be written.
        scan: what it is of.
        planes: of the scan, as the result's pipeline saw them.
        folder: where to.
        name: what the files' names begin with.
        stages: write NAME_saliency, NAME_region and NAME_prompts; of several phrases each has its slug after
            the name.  Where regions were proposed, also NAME_proposals.json, which says too which of them
            each phrase retrieved, and for an image NAME_proposals.png.
        overlay: write NAME_overlay.png.

    Returns:
        What was written, in that order.

    Raises:
        UnwritableResult: the file system refused.
    """
    several = len(result.targets) > 1
    own = slugs([target.phrase for target in result.targets])
    written: list[Path] = []
    if stages:
        for target, slug in zip(result.targets, own, strict=True):
            written += _write_stages(target, scan, planes, folder, f"{name}_{slug}" if several else name)
        if result.proposals:
            written += _write_proposals(result, scan, planes, folder, name)
    if overlay:
        picture = Pillow.fromarray(overlay_picture(result, planes))
        written.append(atomic_write(folder / f"{name}_overlay.png", lambda file: picture.save(file, format="PNG")))
    if result.uncertainty is not None:
        written.append(write_map(result.uncertainty, scan, folder, stem=name, kind="uncertainty"))
    if several:
        for target, slug in zip(result.targets, own, strict=True):
            written.append(write_mask(target.mask, scan, folder, stem=name, slug=slug))
        if isinstance(scan, Image):
            written.append(folder / f"{name}_labels.png")  # written along with the mask
    return [*written, write_mask(result.mask, scan, folder, stem=name)]


def _write_stages(target: TargetResult, scan: Scan, planes: Planes, folder: Path, stem: str) -> list[Path]:
    saliency = planes.assemble([each.map for each in target.saliency])
    region = planes.assemble([each.mask for each in target.region])
    content = json.dumps(_prompts_record(target, scan), indent=2, allow_nan=False) + "\n"
    return [
        write_map(saliency, scan, folder, stem=stem, kind="saliency"),
        write_map(region, scan, folder, stem=stem, kind="region"),
        atomic_write(folder / f"{stem}_prompts.json", lambda file: file.write(content.encode())),
    ]


def _write_proposals(result: Result, scan: Scan, planes: Planes, folder: Path, name: str) -> list[Path]:
    records = [
        {
            **proposals_record(proposals, image_id=plane.id),
            "matches": {
                target.phrase: [match.index for match in target.matches[plane.index].items]
                for target in result.targets
                if target.matches
            },
        }
        for proposals, plane in zip(result.proposals, planes, strict=True)
    ]
    one = isinstance(scan, Image)
    content = json.dumps(records[0] if one else {"slices": records}, allow_nan=False) + "\n"
    written = [atomic_write(folder / f"{name}_proposals.json", lambda file: file.write(content.encode()))]
    if one:
        picture = Pillow.fromarray(proposals_picture(planes[0], result.proposals[0]))
        path = folder / f"{name}_proposals.png"
        written.append(atomic_write(path, lambda file: picture.save(file, format="PNG")))
    return written


def _prompts_record(target: TargetResult, scan: Scan) -> dict[str, Any]:
    """An image's prompts as they are; a volume's for each plane that has any."""
    about = {"phrase": target.phrase, "frame": "x0 y0 x1 y1 in scan pixels, end-exclusive"}
    if isinstance(scan, Image):
        return {**about, **_plain(target.prompts[0])}
    asked = [{"slice": k, **_plain(each)} for k, each in enumerate(target.prompts) if not each.empty]
    return {**about, "slices": asked}


def _plain(prompts: Prompts) -> dict[str, Any]:
    return {
        "boxes": [[float(edge) for edge in box] for box in prompts.boxes],
        "points": [[float(value) for value in point] for point in prompts.points],
        "labels": [int(label) for label in prompts.labels],
    }
