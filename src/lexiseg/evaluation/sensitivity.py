"""Does the answer depend on the words? The same scan, asked for what is there and for what is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.scans import Scan

Floats = NDArray[np.floating[Any]]

RIGHT = "right"
"""The kind of the phrase that names what is in the scan."""


class Answering(Protocol):
    """What is asked of a pipeline here; every `lexiseg.load` gives one."""

    def __call__(self, scan: Scan, phrases: Sequence[str], *, keep_stages: bool) -> Any:
        """Segment a scan: ``findings`` in the order of the phrases, each with ``present``, ``presence`` and
        a ``saliency`` of one map for each slice.
        """


class Correlation(NamedTuple):
    """How alike two maps are, -1 to 1 each: of their values, and of their values' ranks."""

    pearson: float
    spearman: float


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """What another phrase changes on one scan.

    Attributes:
        kind: why the phrase was asked, such as "wrong organ"; `RIGHT` for the right phrase itself.
        phrase: as it was asked.
        present: whether it was found.
        presence: its evidence, 0 to 1; NaN where the pipeline gives none.
        presence_change: `presence` less the right phrase's.
        pearson: correlation of its saliency with the right phrase's; NaN where there is no saliency.
        spearman: likewise, of ranks.
        map_change: mean absolute difference of the two maps, 0 to 1.
    """

    kind: str
    phrase: str
    present: bool
    presence: float
    presence_change: float
    pearson: float
    spearman: float
    map_change: float


def text_sensitivity(pipeline: Answering, scan: Scan, right: str, others: Mapping[str, str]) -> tuple[Reaction, ...]:
    """Ask a scan for what it shows and for something else, and say how far the answer moves.

    A pipeline that ignores the text has correlations of 1 and no change of presence, whatever is asked; one
    that heeds it answers a wrong organ, "normal" or gibberish with "absent", and another wording of the right
    phrase (which is worth asking too) with the same map.

    All phrases are asked in one call, which encodes the scan once. A pipeline answers each phrase by itself,
    so that this changes nothing.

    Args:
        pipeline: from `lexiseg.load`.
        scan: an image, or a volume, of which all voxels are compared.
        right: what is in the scan.
        others: the other phrases by kind, e.g. ``{"gibberish": "zorblax frim"}``.

    Returns:
        The right phrase's own reaction, then one for each of the others in their order.

    Raises:
        ValueError: one of the others has the kind `RIGHT`.
        LexisegError: whatever the pipeline raises, such as BadPhrase for a phrase that is asked twice.
    """
    if RIGHT in others:
        raise ValueError(f"the kind {RIGHT!r} is the right phrase's own; expected another name")
    findings = pipeline(scan, [right, *others.values()], keep_stages=True).targets
    maps = [_whole(finding.saliency) for finding in findings]
    own = float(findings[0].presence)
    reactions = []
    for kind, finding, each in zip([RIGHT, *others], findings, maps, strict=True):
        alike, change = Correlation(math.nan, math.nan), math.nan
        if each is not None and maps[0] is not None:
            alike = map_correlation(maps[0], each)
            change = float(np.abs(maps[0].astype(np.float64) - each).mean())
        reactions.append(
            Reaction(
                kind=kind,
                phrase=finding.phrase,
                present=bool(finding.present),
                presence=float(finding.presence),
                presence_change=float(finding.presence) - own,
                pearson=alike.pearson,
                spearman=alike.spearman,
                map_change=change,
            )
        )
    return tuple(reactions)


def map_correlation(first: Floats, second: Floats) -> Correlation:
    r"""Pearson's and Spearman's correlation of two maps over their pixels.

    .. math:: r = \frac{\sum (a - \bar a)(b - \bar b)}{\sqrt{\sum (a - \bar a)^2 \sum (b - \bar b)^2}}

    of the values, and of their ranks (equal values share their mean rank). No unit, -1 to 1. Where one map is
    flat the formula is 0/0: it is then 0, since a flat map says nothing of the other, and 1 where both are
    flat at the same value. Sources: K. Pearson, Proc. R. Soc. Lond. 58 (1895) 240-242; C. Spearman, Am. J.
    Psychol. 15 (1904) 72-101.

    Args:
        first: (H, W) or (D, H, W).
        second: of the same shape.

    Raises:
        ValueError: the shapes differ, or a map is empty.
    """
    from scipy.stats import rankdata

    if first.shape != second.shape or not first.size:
        raise ValueError(f"got maps of shapes {first.shape} and {second.shape}, expected equal ones")
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    if np.array_equal(a, b):
        return Correlation(1.0, 1.0)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(0.0, 0.0)
    return Correlation(_pearson(a, b), _pearson(rankdata(a), rankdata(b)))


def _pearson(a: Floats, b: Floats) -> float:
    # Scaled first: squares of the tiny probabilities of an absent phrase would underflow.
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / math.sqrt(float(a @ a) * float(b @ b)), -1, 1))


def _whole(slices: Sequence[Any]) -> Floats | None:
    """A finding's saliency as one array; None where there is none."""
    return np.stack([each.map for each in slices]) if slices else None
