"""Which formats a run writes: those of each scan, and those of all scans together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lexiseg.datasets.exports import ANNOTATIONS, DATASET, VOLUMES
from lexiseg.errors import UsageError
from lexiseg.io.write import WRITERS

if TYPE_CHECKING:
    from lexiseg.runs.segment import RunOptions

EXPORTS = {"coco": (ANNOTATIONS,), "nnunet": (DATASET, VOLUMES)}
"""Formats of all scans together -> the files or folders that they may be."""
FORMATS = (*WRITERS, *EXPORTS)


def parse_formats(written: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Formats as they are typed, separated by commas or given one by one.

    Returns:
        Those of each scan and those of all scans together, each once, in their order.

    Raises:
        UsageError: there is no such format.

    Example:
        >>> parse_formats(["nifti,dicom-seg", "coco"])
        (('nifti', 'dicom-seg'), ('coco',))
    """
    given = [written] if isinstance(written, str) else written
    names = [part.strip().lower() for each in given for part in each.split(",") if part.strip()]
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}; expected one of {', '.join(FORMATS)}")
    each = dict.fromkeys(names)
    return tuple(name for name in each if name in WRITERS), tuple(name for name in each if name in EXPORTS)


def export_names(options: RunOptions) -> list[str]:
    """The files and folders of all scans together that a run may write."""
    return [name for each in options.exports for name in EXPORTS[each]]
