"""One picture of a scan with what was found in it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lexiseg.pipelines.result import Finding, Result
from lexiseg.scans import Scan, iterate_slices, overlay

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
