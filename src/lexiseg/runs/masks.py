"""Masks of a scan, phrase by phrase: read back as a run wrote them, and kept as a person left them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lexiseg.datasets.label_maps import laid_over
from lexiseg.errors import FormatMismatch
from lexiseg.files import atomic_write
from lexiseg.io.dicom.objects import text_of
from lexiseg.io.dicom.placed import grid_of, read_placed, series_uid
from lexiseg.io.masks import read_mask
from lexiseg.io.names import slugs
from lexiseg.io.segments import AlgorithmType, Segment, Segments, WriteOptions
from lexiseg.io.write import grid_writer_of, write_mask, writer_of
from lexiseg.runs.folder import GRIDS
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan

PLACED = (".seg.dcm", ".rtstruct.dcm")
"""Ends of DICOM objects, each of which holds all phrases that were found."""


def mask_stem(name: str, phrases: Sequence[str], phrase: str) -> str:
    """What the files of a phrase's own mask are called, without their end.

    Args:
        name: what the scan's files begin with.
        phrases: all phrases of the scan, in the run's order.
        phrase: one of them.
    """
    if len(phrases) == 1:
        return f"{name}_mask"
    return f"{name}_mask_{dict(zip(phrases, slugs(list(phrases)), strict=True))[phrase]}"


def stored_mask(folder: Path, name: str, phrases: Sequence[str], phrase: str, scan: Scan) -> BoolArray | None:
    """A phrase's mask of a scan, bool of the scan's shape, from PNG, NIfTI, NRRD, DICOM SEG or a structure set.

    A DICOM object holds what was found alone. Where it has no part of the phrase's name, the mask is not there.

    Args:
        folder: where the files are.
        name: what the scan's files begin with.
        phrases: all phrases of the scan, in the run's order.
        phrase: one of them.
        scan: what the mask is of.

    Returns:
        None where no file holds it.

    Raises:
        UnreadableScan: it cannot be read, or is not on the scan's grid.
    """
    stem = mask_stem(name, phrases, phrase)
    for end in GRIDS:
        if (path := folder / f"{stem}{end}").is_file():
            return read_mask(path, scan)
    for end in PLACED:
        if (path := folder / f"{name}_mask{end}").is_file():
            placed = read_placed(path)
            # Texts in DICOM are cut at their longest.
            label = text_of(phrase)
            if len(phrases) > 1 and not placed.has(label):
                continue
            numbers = placed.numbers(text=label)
            return placed.onto(numbers, scan.shape, grid_of(scan), series=series_uid(scan))
    return None


def same_mask(one: BoolArray | None, other: BoolArray) -> bool:
    """Whether two masks are equal; None is an empty one."""
    return not other.any() if one is None else bool(np.array_equal(one, other))


def why_not_kept(scan: Scan, *, deidentified: bool = False) -> str:
    """Why no file can hold masks of a scan that are to be kept, in a few words; "" where one can.

    Args:
        scan: what the masks are of.
        deidentified: whether no file may name the patient.
    """
    if grid_writer_of(scan) is not None:
        return ""
    # With pseudonyms it could not be put on the scan again.
    return "a DICOM SEG would name the patient" if deidentified else writer_of("dicom-seg").why_not(scan)


def keep_masks(
    masks: Mapping[str, BoolArray],
    scan: Scan,
    folder: Path,
    name: str,
    *,
    algorithm_type: AlgorithmType = "AUTOMATIC",
    deidentified: bool = False,
) -> None:
    """Write the masks of all phrases of a scan, to be read by `kept_mask`: PNG or NIfTI, each a file.

    Slices of unequal distances and films have no such file. Theirs is a DICOM SEG of all phrases; an empty mask has no
    part in it.

    Args:
        masks: of each phrase, in the run's order, bool of the scan's shape.
        scan: what they are of.
        folder: where to; made if missing.
        name: what the scan's files begin with.
        algorithm_type: who made them.
        deidentified: see `why_not_kept`.

    Raises:
        FormatMismatch: no file can hold them.
        UnwritableResult: the file system refused.
    """
    phrases = tuple(masks)
    if grid_writer_of(scan) is not None:
        for phrase, slug in zip(phrases, slugs(list(phrases)), strict=True):
            write_mask(masks[phrase], scan, folder, stem=name, slug=slug if len(masks) > 1 else "")
        return
    if reason := why_not_kept(scan, deidentified=deidentified):
        raise FormatMismatch(f"{scan.id}: no file can hold its mask: {reason}")
    labels = laid_over(list(masks.values()))
    items = tuple(Segment(phrase, "", mask, algorithm_type=algorithm_type) for phrase, mask in masks.items())
    segments = Segments(scan=scan, items=items, labels=labels)
    path = folder / f"{name}_mask{PLACED[0]}"
    content = next((found for _, found in writer_of("dicom-seg").files(segments, WriteOptions(), {})), None)
    if content is None:
        path.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / path.name).write_bytes(content)
        # Slices without a file of their own have no part in it.
        if not all(same_mask(kept_mask(Path(place), name, phrases, each, scan), masks[each]) for each in phrases):
            raise FormatMismatch(f"{scan.id}: a DICOM SEG cannot hold all of its mask, and no other file can")
    atomic_write(path, lambda file: file.write(content))


def kept_mask(folder: Path, name: str, phrases: Sequence[str], phrase: str, scan: Scan) -> BoolArray | None:
    """A phrase's mask that `keep_masks` wrote; None where it is not there. See `stored_mask`."""
    found = stored_mask(folder, name, phrases, phrase, scan)
    # What is empty has no part in a SEG.
    return np.zeros(scan.shape, np.bool_) if found is None and grid_writer_of(scan) is None else found


def kept_file(folder: Path, name: str, phrases: Sequence[str], phrase: str) -> Path | None:
    """The file of a phrase's mask that `keep_masks` wrote; None where there is none, as of an empty mask in a SEG."""
    stem = mask_stem(name, phrases, phrase)
    found = next((path for end in GRIDS if (path := folder / f"{stem}{end}").is_file()), None)
    held = folder / f"{name}_mask{PLACED[0]}"
    return held if found is None and held.is_file() and read_placed(held).has(text_of(phrase)) else found
