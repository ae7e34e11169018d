"""The files of one scan of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from lexiseg.errors import FormatMismatch
from lexiseg.files import atomic_write
from lexiseg.io.names import slugs
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.write import default_formats, grid_writer_of, write_map, writer_of
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.proposals.files import proposals_record
from lexiseg.proposals.proposal import Proposals
from lexiseg.runs.pictures import overlay_picture, proposals_picture
from lexiseg.values.masks import Prompts, box_of
from lexiseg.values.scans import Image, Planes, Scan


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written of each scan.

    Attributes:
        stages: NAME_saliency, NAME_region and NAME_prompts; of several phrases each has its slug after
            the name.  Where regions were proposed, also NAME_proposals.json, which says too which of them
            each phrase retrieved, and for an image NAME_proposals.png.
        overlay: NAME_overlay.png.
        formats: of the masks; see `lexiseg.io.write.default_formats` for none.
        arrays_too: PNG or NIfTI besides, where one of them can hold the scan.
        writing: how they are written.
    """

    stages: bool = False
    overlay: bool = False
    formats: tuple[str, ...] = ()
    arrays_too: bool = False
    writing: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class Written:
    """What was written of a scan.

    Attributes:
        paths: the mask of all phrases last.
        notes: by format, why it was left out, or what it could not hold.
        left_out: the formats that could not hold the scan.
    """

    paths: list[Path]
    notes: dict[str, str]
    left_out: tuple[str, ...] = ()


def refuse_unfit(scan: Scan, name: str, options: OutputOptions) -> None:
    """Pass where any format that was asked for can hold a scan, as far as the scan alone says.

    Raises:
        FormatMismatch: none can; one line.
    """
    reasons = {each: writer_of(each).why_not(scan) for each in options.formats}
    if reasons and all(reasons.values()) and not options.arrays_too:
        raise _none_fits(name, reasons)


def _none_fits(name: str, reasons: Mapping[str, str]) -> FormatMismatch:
    told = "; ".join(f"{each}: {reason}" for each, reason in reasons.items())
    return FormatMismatch(f"{name}: no format that was asked for can hold its mask ({told})")


def write_outputs(
    result: Result, scan: Scan, planes: Planes, folder: Path, name: str, *, options: OutputOptions | None = None
) -> Written:
    """Write a scan's masks and, where asked for, its stages and a picture, each file in one step.

    Of several phrases each has its own mask, NAME_mask_SLUG, beside the mask of all and the label map, in
    which a pixel belongs to one phrase alone. A DICOM SEG or structure set holds all phrases.

    An uncertainty that the result has is written as NAME_uncertainty.

    The mask is written last: where it is, the scan's other files are too.

    Args:
        result: with its stages kept, where they are to be written.
        scan: what it is of.
        planes: of the scan, as the result's pipeline saw them.
        folder: where to.
        name: what the files' names begin with.
        options: see `OutputOptions`.

    Raises:
        FormatMismatch: none of the formats can hold the scan; one line.
        UnwritableResult: the file system refused.
    """
    options = options or OutputOptions()
    several = len(result.targets) > 1
    own = slugs([target.phrase for target in result.targets])
    written: list[Path] = []
    notes: dict[str, str] = {}
    formats = options.formats or default_formats(scan)
    if options.arrays_too and not any(each in ("png", "nifti") for each in formats):
        writer = grid_writer_of(scan)
        formats = (*formats, *(each for each in ("png", "nifti") if isinstance(writer, type(writer_of(each)))))
    gridded = grid_writer_of(scan, formats) is not None
    if not gridded and (options.stages or result.uncertainty is not None):
        notes["stages"] = "maps are left out: no format holds arrays of such slices"
    if options.stages:
        for target, slug in zip(result.targets, own, strict=True):
            stem = f"{name}_{slug}" if several else name
            written += _write_stages(target, scan, planes, folder / stem, formats=formats, maps=gridded)
        if result.proposals:
            written += _write_proposals(result, scan, planes, folder, name)
    if options.overlay:
        picture = Pillow.fromarray(overlay_picture(result, planes))
        written.append(atomic_write(folder / f"{name}_overlay.png", lambda file: picture.save(file, format="PNG")))
    if result.uncertainty is not None and gridded:
        written.append(write_map(result.uncertainty, scan, folder, stem=name, kind="uncertainty", formats=formats))
    segments = Segments(
        scan=scan,
        items=tuple(
            Segment(target.phrase, slug, target.mask, target.probability)
            for target, slug in zip(result.targets, own, strict=True)
        ),
        labels=result.mask.labels,
        provenance=result.provenance,
    )
    left_out = []
    # The first format is the scan's own, so that its mask comes last.
    for each in reversed(formats):
        try:
            for end, content in _files(each, segments, options.writing, notes):
                written.append(_write(folder / f"{name}_{end}", content))
        except FormatMismatch as error:
            notes[each] = f"left out: {error}"
            left_out.append(each)
    if len(left_out) == len(formats):
        raise _none_fits(name, {each: notes[each].removeprefix("left out: ") for each in formats})
    return Written(written, notes, tuple(left_out))


def _files(form: str, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each file's end with its suffix, and its content."""
    writer = writer_of(form)
    if reason := writer.why_not(segments.scan):
        raise FormatMismatch(reason)
    for end, content in writer.files(segments, options, notes):
        yield f"{end}{writer.suffix}", content


def _write(path: Path, content: bytes) -> Path:
    return atomic_write(path, lambda file: file.write(content))


def _write_stages(
    target: TargetResult, scan: Scan, planes: Planes, base: Path, *, formats: Sequence[str], maps: bool
) -> list[Path]:
    folder, stem = base.parent, base.name
    content = json.dumps(_prompts_record(target, scan, planes), indent=2, allow_nan=False) + "\n"
    prompts = atomic_write(folder / f"{stem}_prompts.json", lambda file: file.write(content.encode()))
    if not maps:
        return [prompts]
    saliency = planes.assemble([each.map for each in target.saliency])
    region = planes.assemble([each.mask for each in target.region])
    return [
        write_map(saliency, scan, folder, stem=stem, kind="saliency", formats=formats),
        write_map(region, scan, folder, stem=stem, kind="region", formats=formats),
        prompts,
    ]


def _write_proposals(result: Result, scan: Scan, planes: Planes, folder: Path, name: str) -> list[Path]:
    records = [
        {
            **proposals_record(_as_stored(proposals, scan, planes), image_id=plane.id),
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


def _as_stored(proposals: Proposals, scan: Scan, planes: Planes) -> Proposals:
    """An image's regions on its stored pixels; those of a volume's plane as they are."""
    if not isinstance(scan, Image) or not scan.axes.turns:
        return proposals
    items = []
    for each in proposals:
        told = planes.stored(Prompts(np.array([each.crop], np.float32), np.array([each.point], np.float32)))
        mask, (x, y) = planes.assemble([each.mask]), told.points[0].tolist()
        left, top, right, bottom = (round(edge) for edge in told.boxes[0].tolist())
        items.append(replace(each, mask=mask, box=box_of(mask), point=(x, y), crop=(left, top, right, bottom)))
    return Proposals(scan.shape, tuple(items))


def _prompts_record(target: TargetResult, scan: Scan, planes: Planes) -> dict[str, Any]:
    """An image's prompts on its stored pixels; a volume's for each plane that has any."""
    about = {"phrase": target.phrase, "frame": "x0 y0 x1 y1 in scan pixels, end-exclusive"}
    if isinstance(scan, Image):
        return {**about, **_plain(planes.stored(target.prompts[0]))}
    asked = [{"slice": k, **_plain(each)} for k, each in enumerate(target.prompts) if not each.empty]
    return {**about, "slices": asked}


def _plain(prompts: Prompts) -> dict[str, Any]:
    return {
        "boxes": [[float(edge) for edge in box] for box in prompts.boxes],
        "points": [[float(value) for value in point] for point in prompts.points],
        "labels": [int(label) for label in prompts.labels],
    }
