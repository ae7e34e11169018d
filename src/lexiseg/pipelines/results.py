"""What a pipeline answers: of one phrase in one plane, of one phrase in a scan, and of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches
from lexiseg.saliency.kinds import KIND
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Mask, Prompts, Region, Saliency
from lexiseg.values.scans import Planes

MAX_LABELS = 255
"""How many phrases a label map of uint8 can tell apart."""
_WITHIN = 0.8
"""Share of a mask that is covered by a larger one where it is part of that: masks are no better than that."""


@dataclass(frozen=True, eq=False)
class MaskEstimate:
    """A final mask of one plane.

    Attributes:
        mask: bool (H, W).
        iou: the segmenter's estimate of its IoU; 1 where it was not asked.
        probability: float32 (H, W) in [0, 1], what the mask was cut from; None where nothing was drawn, or it
            is not kept.
    """

    mask: BoolArray
    iou: float
    probability: FloatArray | None = None

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> MaskEstimate:
        """An empty mask."""
        return cls(np.zeros(shape, np.bool_), 1.0)


@dataclass(frozen=True, eq=False)
class SliceResult:
    """What a pipeline makes of one phrase in one plane; an absent phrase has no prompts and draws nothing.

    Attributes:
        prompts: what the segmenter was asked.
        estimate: the mask with the segmenter's estimate of it.
        presence: 0 to 1, or NaN where undefined.
        weights: float32 (n,): the region's probability at the n pixels of the mask, in their order, by which
            overlapping phrases are told apart.
        agreement: what the second judge says of the mask, 0 to 1; see `TargetResult.confidence`.
        saliency: where the phrase is, as the encoder sees it; None where stages are not kept.
        region: what was taken for the target before the segmenter drew it; None where stages are not kept.
        matches: the proposals that were retrieved, of a pipeline that has any.
        held: what is said of the kind of scan in view: 1, or the small share of those that can hold what the phrase
            names.
        kinds: each kind's share; {} of encoders that tell none.
    """

    prompts: Prompts
    estimate: MaskEstimate
    presence: float
    weights: FloatArray
    agreement: float = 0.0
    saliency: Saliency | None = None
    region: Region | None = None
    matches: Matches | None = None
    held: float = 1.0
    kinds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        saliency: Saliency,
        region: Region,
        prompts: Prompts,
        estimate: MaskEstimate,
        presence: float,
        agreement: float = 0.0,
        matches: Matches | None = None,
    ) -> SliceResult:
        """With its stages; prompts and agreement count only where something was drawn."""
        shown = bool(estimate.mask.any())
        return cls(
            prompts=prompts if shown else Prompts(),
            estimate=estimate,
            presence=presence,
            weights=region.probability[estimate.mask],
            agreement=agreement if shown else 0.0,
            saliency=saliency,
            region=region,
            matches=matches,
            held=saliency.evidence.get("kind", 1.0),
            kinds={name.removeprefix(KIND): each for name, each in saliency.evidence.items() if name.startswith(KIND)},
        )

    @property
    def present(self) -> bool:
        """Whether anything was drawn."""
        return bool(self.estimate.mask.any())

    @property
    def confidence(self) -> float:
        """Of what is drawn: the geometric mean of the segmenter's estimate and the second judge's; NaN where undefined.

        0 where nothing is drawn.
        """
        return math.sqrt(max(0.0, min(1.0, self.estimate.iou)) * self.agreement) if self.present else 0.0

    def emptied(self) -> SliceResult:
        """The same evidence, with nothing asked and nothing drawn."""
        nothing = MaskEstimate.nothing(self.estimate.mask.shape)
        return replace(self, prompts=Prompts(), estimate=nothing, weights=self.weights[:0], agreement=0.0)


@dataclass(frozen=True, eq=False)
class PlaneResults:
    """All phrases in one plane.

    Attributes:
        items: one for each phrase, in order.
        proposals: the regions that the phrases were retrieved from, of a pipeline that has any.
    """

    items: tuple[SliceResult, ...]
    proposals: Proposals | None = None


@dataclass(frozen=True, eq=False)
class TargetResult:
    """The answer for one phrase.

    Attributes:
        phrase: as it was asked, outer and repeated spaces removed.
        mask: bool on the scan's grid, (H, W) or (D, H, W); all False where the phrase is absent.
        present: whether the phrase was found: presence reaches the preset's threshold and the mask is not
            empty.
        presence: how much speaks for the phrase being in the scan, 0 to 1 (`presence_score`; a volume has its
            planes' largest); NaN where the encoder offers no absolute evidence.  It is evidence, not the
            decision: it may reach the threshold while no region stands out, and is then reported as it is
            beside ``present=False``.
        confidence: how far the answer can be trusted, 0 to 1: for a mask the geometric mean of the
            segmenter's own estimate of its IoU and of a second judge that knows nothing of the first (the
            mask's Dice overlap with the refined region; where the region is the same segmenter's proposal,
            the probability with which it was retrieved); for an absent phrase 1 - presence, and never above
            one half where presence reaches the threshold but nothing could be drawn, since evidence and
            answer then disagree.  NaN where undefined, and for a phrase that is not known: it speaks of an
            answer, and there is none.
        probability: float32 on the scan's grid, what the mask was cut from, 0 where nothing was drawn; None
            of a volume whose stages were not kept.
        prompts: what the segmenter was asked, one entry for each plane (an image has one).
        saliency: the map of each plane, where stages were kept.
        region: the refined region of each plane, where stages were kept.
        matches: the retrieved proposals of each plane, where stages were kept and the pipeline has any.
        known: False where the models were not taught what the phrase names: its mask is then empty, and that
            is no finding.
        other_kind: the scan looks like no kind of scan that can hold it, which made it absent.
        read_as: the target that the phrase was taken for, "" for none of them; None where its own words say it.
        plane: in which planes it was asked, "" of an image.
    """

    phrase: str
    mask: BoolArray
    present: bool
    presence: float
    confidence: float
    probability: FloatArray | None = None
    prompts: tuple[Prompts, ...] = ()
    saliency: tuple[Saliency, ...] = ()
    region: tuple[Region, ...] = ()
    matches: tuple[Matches, ...] = ()
    known: bool = True
    other_kind: bool = False
    read_as: str | None = None
    plane: str = ""

    @property
    def verdict(self) -> str:
        """The answer in a word: "present", "absent" or "unknown"."""
        if not self.known:
            return "unknown"
        return "present" if self.present else "absent"

    def __repr__(self) -> str:
        size = int(self.mask.sum())
        return (
            f"<{self.phrase}: {self.verdict}, presence {self.presence:.2f}, confidence {self.confidence:.2f}, "
            f"{size} of {self.mask.size} {'voxels' if self.mask.ndim == 3 else 'pixels'}>"
        )


@dataclass(frozen=True, eq=False)
class Result:
    """The answers for one scan, in the order of the phrases.

    Attributes:
        id: the scan's.
        targets: one for each phrase.
        mask: all targets as one label map; see `label_map`.
        seconds: wall time of each stage and in all ("total").
        provenance: preset and weights that made it, as written to run.json.
        planes: plane and window as they were used, in words.
        proposals: the nameless regions of each plane, where stages were kept and the pipeline has any.
        uncertainty: float32 of the mask's shape, 0 to 1, how undecided each pixel is, of a pipeline that
            tells it; written beside the mask.
    """

    id: str
    targets: tuple[TargetResult, ...]
    mask: Mask
    seconds: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    planes: Mapping[str, str] = field(default_factory=dict)
    proposals: tuple[Proposals, ...] = ()
    uncertainty: FloatArray | None = None

    @property
    def present(self) -> bool:
        """True where any phrase was found."""
        return any(target.present for target in self.targets)

    def __getitem__(self, phrase: str) -> TargetResult:
        """The answer for a phrase.

        Raises:
            KeyError: the phrase was not asked.
        """
        wanted = " ".join(phrase.split())
        for target in self.targets:
            if target.phrase == wanted:
                return target
        raise KeyError(phrase)

    def __repr__(self) -> str:
        seconds = f", {self.seconds['total']:.2f} s" if "total" in self.seconds else ""
        lines = "".join(f"\n  {target!r}" for target in self.targets)
        return f"<{type(self).__name__} of {self.id}, {len(self.targets)} phrase(s){seconds}>{lines}"


def target_result(
    text: str,
    slices: Sequence[SliceResult],
    planes: Planes,
    *,
    threshold: float | None,
    keep: bool,
    known: bool = True,
) -> TargetResult:
    """One phrase over all planes: present where any plane has it.

    Args:
        text: the phrase.
        slices: one for each plane.
        planes: of the scan.
        threshold: the presence below which the phrase counts as absent; None for none.
        keep: put the stages in too.
        known: whether the models know the phrase; where they do not, the slices have to be empty.
    """
    presences = [each.presence for each in slices if not math.isnan(each.presence)]
    presence = max(presences) if presences else math.nan
    shown = [each for each in slices if each.present]
    if not known:
        confidence = math.nan
    elif shown:
        sizes = np.array([each.estimate.mask.sum() for each in shown], float)
        estimate = float(np.average([each.estimate.iou for each in shown], weights=sizes))
        agreement = float(np.average([each.agreement for each in shown], weights=sizes))
        confidence = math.sqrt(max(0.0, min(1.0, estimate)) * agreement)
    else:
        confidence = 1 - presence
        if threshold is not None and presence >= threshold:
            confidence = min(confidence, 0.5)
    return TargetResult(
        phrase=text,
        mask=planes.assemble([each.estimate.mask for each in slices]),
        present=bool(shown),
        presence=presence,
        confidence=confidence,
        probability=planes.assemble([_probability(each) for each in slices]) if keep or planes.axes is None else None,
        prompts=tuple(each.prompts for each in slices),
        saliency=tuple(each.saliency for each in slices if each.saliency is not None) if keep else (),
        region=tuple(each.region for each in slices if each.region is not None) if keep else (),
        matches=tuple(each.matches for each in slices if each.matches is not None) if keep else (),
        known=known,
        other_kind=known and not shown and threshold is not None and max(each.held for each in slices) < threshold,
        plane="" if planes.axes is None else planes.axes.name,
    )


def _probability(each: SliceResult) -> FloatArray:
    found = each.estimate.probability
    return np.zeros(each.estimate.mask.shape, np.float32) if found is None else found


def label_map(slices: Sequence[Sequence[SliceResult]], planes: Planes, names: tuple[str, ...]) -> Mask:
    """Several targets as one mask: where they overlap, a pixel goes to the one that lies within the other, else to the
    phrase with the larger weight there.

    Of "brain" and "brain tumor" the brain's mask covers the tumor's, mostly with the larger weight: by weights alone
    there would be little left of the tumor.

    Args:
        slices: for each phrase its planes.
        planes: of the scan.
        names: the phrases.  At equal weight the earlier phrase wins.

    Returns:
        uint8 labels on the scan's grid, k for the k-th name (1-based).

    Raises:
        ValueError: more than `MAX_LABELS` phrases.
    """
    if len(names) > MAX_LABELS:
        raise ValueError(f"got {len(names)} masks, expected at most {MAX_LABELS}")
    stacks = [[each.estimate.mask for each in one] for one in zip(*slices, strict=True)]
    inner = _lie_within(stacks)
    found = []
    for one, masks in zip(zip(*slices, strict=True), stacks, strict=True):
        labels = np.zeros(masks[0].shape, np.uint8)
        best = np.full(labels.shape, -1.0)
        for k, each in enumerate(one):
            weights = np.full(labels.shape, -1.0)
            weights[masks[k]] = each.weights
            for smaller in np.flatnonzero(inner[:, k]):
                weights[masks[smaller]] = -1.0
            wins = weights > best
            labels[wins], best[wins] = k + 1, weights[wins]
        found.append(labels)
    return Mask(planes.assemble(found), names)


def _lie_within(stacks: Sequence[Sequence[BoolArray]]) -> BoolArray:
    """Of K masks, which lie within which, [inner, outer]: at least `_WITHIN` of the inner one, which is the smaller.

    Args:
        stacks: of each plane the K masks.
    """
    shared = np.zeros((len(stacks[0]),) * 2)
    for masks in stacks:
        flat = np.stack([mask.ravel() for mask in masks])
        overlapping = flat[:, flat.sum(0) > 1].astype(np.float64)
        shared += overlapping @ overlapping.T
    areas = np.array([sum(int(masks[k].sum()) for masks in stacks) for k in range(len(shared))])
    inner: BoolArray = (areas[:, None] < areas) & (shared >= _WITHIN * areas[:, None]) & (areas[:, None] > 0)
    return inner
