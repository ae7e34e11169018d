"""Masks of a set that a person corrected since `lexiseg pseudo-label` wrote them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import UsageError
from lexiseg.files import sha256_of
from lexiseg.io.names import printable
from lexiseg.training.students.labels import MANIFEST

WRITTEN = "mask_sha256"
"""The manifest's column with the SHA-256 of each mask as it was written."""


def is_corrected(row: ManifestRow) -> bool:
    """Whether the mask of a set's row is another than was written."""
    written = row.extra.get(WRITTEN, "")
    return bool(written) and row.mask is not None and row.mask.is_file() and sha256_of(row.mask) != written


def corrected_in(folder: Path) -> dict[str, ManifestRow]:
    """The rows of an earlier set in a folder whose masks were corrected, by the masks' names."""
    path = folder / MANIFEST
    rows = read_manifest(path) if path.exists() else []
    return {row.mask.name: row for row in rows if row.mask is not None and not row.error and is_corrected(row)}


def refuse_loss(folder: Path, corrected: Collection[ManifestRow], advice: str) -> None:
    """Pass where no corrected mask would be lost.

    Args:
        folder: of the set.
        corrected: rows whose masks would be.
        advice: why, or what to do besides moving them away.

    Raises:
        UsageError: there is one.
    """
    masks = sorted(row.mask.name for row in corrected if row.mask is not None)
    if masks:
        raise UsageError(
            f"{printable(str(folder))}: masks were corrected since they were written: {len(masks)}, the first "
            f"is {printable(masks[0])}; {advice}, or move them away"
        )
