"""A student beside its teacher, judged without a label: what `lexiseg distill` looks at before it delivers one.

No one of these numbers says which masks are right. A student that draws nothing agrees with itself perfectly, and one
that draws everything too. Each catches what the others let pass, and a student is refused where any of them speaks
against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_gradient_magnitude

from lexiseg.evaluation.statistics import NOWHERE, Bootstrap, Interval
from lexiseg.runs.segment import Pipeline
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.overlap import dice, expected_dice
from lexiseg.values.scans import Image

SURE = 0.7
"""Confidence from which the teacher's mask counts as one that a student must not miss."""
MARGIN = 0.02
"""A mean that lies this far below the teacher's, beyond chance, is worse."""
MISSED = 0.1
"""Share of the teacher's sure masks that a student may leave out; a third more than what the teacher may err in."""
SIZES = 1.5
"""How many times larger or smaller than the teacher's the median mask may be."""
OVERLAP = 0.6
"""Mean Dice with the teacher's sure masks, below which a student draws something else."""
_FOUND = 0.1


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one model makes of one target in one scan.

    Attributes:
        mask: bool (H, W).
        confidence: as the model reports it, 0 to 1; of an undefined one NaN.
        steady: Dice of the mask with that of another view of the scan, 0 to 1; two empty ones agree.
        expected: the Dice that the model's own probability promises, 0 to 1; of an empty mask 1 - presence.
        edge: how steep the scan is along the outline, in units of its mean; NaN of an empty mask.
    """

    mask: BoolArray
    confidence: float
    steady: float
    expected: float
    edge: float

    @property
    def drawn(self) -> bool:
        """Whether there is a mask."""
        return bool(self.mask.any())


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of both models.

    Attributes:
        name: in words.
        teacher, student: means over the scans that have it.
        difference: student minus teacher, paired; NaN where no scan has both.
        interval: of the difference, 95 %, by patient.
    """

    name: str
    teacher: float
    student: float
    difference: float
    interval: Interval

    @property
    def worse(self) -> bool:
        """Whether the student is below its teacher by more than `MARGIN`, and not by chance."""
        high = self.difference if math.isnan(self.interval.high) else self.interval.high
        return self.difference < -MARGIN and high < 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A student beside its teacher.

    Attributes:
        scans: how many were looked at.
        held_out: whether the student did not learn from them.
        measures: agreement under transformations, expected Dice, steepness along outlines.
        sure: masks of which the teacher was sure.
        missed: those of them that the student does not draw.
        found: scans in which the student draws something and the teacher nothing.
        overlap: mean Dice with the teacher's sure masks; NaN where there are none.
        sizes: median of student's over teacher's areas where both draw; NaN where there are none.
        reasons: why it looks worse, each in words; empty where it does not.
    """

    scans: int
    held_out: bool
    measures: tuple[Measure, ...]
    sure: int
    missed: int
    found: int
    overlap: float
    sizes: float
    reasons: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether the student looks worse than its teacher."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the student's config; NaN becomes None."""
        measures = {
            each.name: {
                "teacher": _plain(each.teacher),
                "student": _plain(each.student),
                "difference": _plain(each.difference),
                "low": _plain(each.interval.low),
                "high": _plain(each.interval.high),
            }
            for each in self.measures
        }
        return {
            "scans": self.scans,
            "held_out": self.held_out,
            "measures": measures,
            "sure": self.sure,
            "missed": self.missed,
            "found": self.found,
            "overlap": _plain(self.overlap),
            "sizes": _plain(self.sizes),
            "reasons": list(self.reasons),
        }


def compare(
    teacher: Pipeline,
    student: Pipeline,
    scans: Sequence[tuple[Image, str]],
    phrases: Sequence[str],
    *,
    mirror: bool,
    held_out: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Look at scans with both.

    Args:
        teacher: any pipeline.
        student: another that knows the same phrases.
        scans: images with their patients; at least one.
        phrases: the targets.
        mirror: whether the other view may be mirrored; not where a phrase names a side.
        held_out: whether the student did not learn from these scans.
        progress: told how many scans of how many are done.

    Raises:
        LexisegError: a model cannot read a scan.
    """
    ours, theirs, groups = list[Look](), list[Look](), list[str]()
    for done, (scan, group) in enumerate(scans, start=1):
        theirs += looks(teacher, scan, phrases, mirror=mirror)
        ours += looks(student, scan, phrases, mirror=mirror)
        groups += [group] * len(phrases)
        if progress is not None:
            progress(done, len(scans))
    return judge(theirs, ours, groups, scans=len(scans), held_out=held_out)


def looks(pipeline: Pipeline, scan: Image, phrases: Sequence[str], *, mirror: bool) -> Iterator[Look]:
    """What a pipeline makes of each phrase in a scan, seen twice: as it is, and brighter (and mirrored).

    The other view has each pixel p as p^0.8: other settings of a machine, in which nothing is lost. What a
    model sees there must be the same. Source of the idea: S. Laine, T. Aila, Temporal ensembling, ICLR 2017.
    """

    def turn(values: NDArray[Any]) -> NDArray[Any]:
        return values[:, ::-1] if mirror else values

    other = Image(np.ascontiguousarray(turn(scan.pixels ** np.float32(0.8)), np.float32), id=scan.id)
    plain, again = pipeline(scan, phrases), pipeline(other, phrases)
    for first, second in zip(plain.targets, again.targets, strict=True):
        probability = first.probability if first.probability is not None else first.mask.astype(np.float32)
        shown = bool(first.mask.any())
        yield Look(
            mask=first.mask,
            confidence=first.confidence,
            steady=dice(first.mask, turn(second.mask)),
            expected=expected_dice([probability], [first.mask]) if shown else 1 - first.presence,
            edge=steepness(scan.pixels, first.mask),
        )


def steepness(pixels: FloatArray, mask: BoolArray) -> float:
    r"""How steep a scan is along a mask's outline, in units of its mean steepness.

    .. math:: \frac{1}{|\partial M|} \sum_{i \in \partial M} |\nabla (G * I)_i| \Big/
        \frac{1}{N} \sum_i |\nabla (G * I)_i|

    with G a Gaussian of 1.5 pixels and the outline both the mask's own border pixels and those just outside. Borders of
    organs are mostly edges, so outlines that lie beside them have less. It is the image term of active contours
    (M. Kass, A. Witkin, D. Terzopoulos, Snakes, IJCV 1 (1988) 321-331).

    Args:
        pixels: float32 (H, W) or (H, W, 3) in [0, 1].
        mask: bool (H, W).

    Returns:
        At least 0; NaN of an empty mask, of one that fills the scan, and of a flat scan.

    Example:
        >>> square = np.zeros((32, 32), np.float32); square[8:24, 8:24] = 1
        >>> beside = np.roll(square, 6, axis=1)
        >>> steepness(square, square > 0) > 2 * steepness(square, beside > 0)
        True
    """
    outline = binary_dilation(mask) & ~binary_erosion(mask)
    slope = gaussian_gradient_magnitude(pixels if pixels.ndim == 2 else pixels.mean(-1), 1.5)
    mean = float(slope.mean())
    return float(slope[outline].mean()) / mean if outline.any() and mean > 0 else math.nan


def judge(
    teacher: Sequence[Look], student: Sequence[Look], groups: Sequence[str], *, scans: int, held_out: bool
) -> Comparison:
    """Whether a student looks worse than its teacher, from what both make of the same targets.

    Args:
        teacher: of each target in each scan.
        student: of the same, in the same order.
        groups: the patient of each.
        scans: how many scans that is.
        held_out: see `Comparison`.
    """
    measures = (
        _measure("agreement between views", teacher, student, groups, lambda look: look.steady),
        _measure("expected Dice", teacher, student, groups, lambda look: look.expected),
        _measure("steepness along outlines", teacher, student, groups, lambda look: look.edge),
    )
    pairs = list(zip(teacher, student, strict=True))
    sure = [(t, s) for t, s in pairs if t.drawn and not t.confidence < SURE]
    overlaps = [dice(t.mask, s.mask) for t, s in sure]
    missed = sum(each < _FOUND for each in overlaps)
    ratios = [s.mask.sum() / t.mask.sum() for t, s in pairs if t.drawn and s.drawn]
    overlap = float(np.mean(overlaps)) if overlaps else math.nan
    sizes = float(np.median(ratios)) if ratios else math.nan
    reasons = [f"{each.name} {each.student:.2f} for {each.teacher:.2f}" for each in measures if each.worse]
    if missed > max(1, MISSED * len(sure)):
        reasons.append(f"it draws nothing in {missed} of {len(sure)} scans of which the teacher was sure")
    if overlap < OVERLAP:
        reasons.append(f"it overlaps the teacher's sure masks by {overlap:.2f}")
    if sizes > SIZES or sizes < 1 / SIZES:
        reasons.append(f"its masks are {sizes:.1f} times as large")
    return Comparison(
        scans=scans,
        held_out=held_out,
        measures=measures,
        sure=len(sure),
        missed=missed,
        found=sum(s.drawn and not t.drawn for t, s in pairs),
        overlap=overlap,
        sizes=sizes,
        reasons=tuple(reasons),
    )


def _measure(
    name: str, teacher: Sequence[Look], student: Sequence[Look], groups: Sequence[str], of: Callable[[Look], float]
) -> Measure:
    theirs, ours = (np.array([of(each) for each in looks], np.float64) for looks in (teacher, student))
    both = np.isfinite(theirs) & np.isfinite(ours)
    if not both.any():
        return Measure(name=name, teacher=_mean(theirs), student=_mean(ours), difference=math.nan, interval=NOWHERE)
    differences = (ours - theirs)[both]
    patients = [group for group, kept in zip(groups, both, strict=True) if kept]
    interval = Bootstrap().ratio_interval(patients, differences, np.ones(len(differences)))
    return Measure(
        name=name,
        teacher=float(theirs[both].mean()),
        student=float(ours[both].mean()),
        difference=float(differences.mean()),
        interval=interval,
    )


def _mean(values: FloatArray | Any) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
