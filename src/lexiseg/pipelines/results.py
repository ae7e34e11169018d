"""One phrase in one slice, before slices become a scan's answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lexiseg.pipelines.fusion import Drawn
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches
from lexiseg.regions.region import Region
from lexiseg.values.scan import BoolArray, FloatArray, Mask, Prompts, Saliency


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer for one phrase.

    Attributes:
        phrase: as it was asked, outer and repeated spaces removed.
        mask: bool (H, W), or (D, H, W) for a volume; all False where the phrase is absent.
        present: whether the phrase was found: presence reaches the preset's threshold and the mask is not
            empty.
        presence: how much speaks for the phrase being in the scan, 0 to 1 (`lexiseg.saliency.evidence.presence_score`;
            a volume has its slices' largest); NaN where the encoder offers no absolute evidence.  It is
            evidence, not the decision: it may reach the threshold while no region stands out, and is
            then reported as it is beside ``present=False``.
        confidence: how far the answer can be trusted, 0 to 1: for a mask the geometric mean of the
            segmenter's own estimate of its IoU and of a second judge that knows nothing of the first (the
            mask's Dice overlap with the refined region; where the region is the same segmenter's proposal,
            the probability with which it was retrieved); for an absent phrase 1 - presence, and never above
            one half where presence reaches the threshold but nothing could be drawn, since evidence and
            answer then disagree.  NaN where undefined.
        prompts: what the segmenter was asked, one entry for each slice (an image has one).
        saliency: the map for each slice, where stages were kept.
        region: the refined region of each slice, where stages were kept.
        matches: the retrieved proposals of each slice, where stages were kept and the pipeline has any.
    """

    phrase: str
    mask: BoolArray
    present: bool
    presence: float
    confidence: float
    prompts: tuple[Prompts, ...] = ()
    saliency: tuple[Saliency, ...] = ()
    region: tuple[Region, ...] = ()
    matches: tuple[Matches, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """The answers for one scan, in the order of the phrases.

    Attributes:
        id: the scan's.
        findings: one for each phrase.
        mask: all findings as one label map; see `label_map`.
        seconds: wall time of each stage and in all ("total").
        provenance: preset and weights that made it, as written to run.json.
        proposals: the nameless regions of each slice, where stages were kept and the pipeline has any.
        uncertainty: float32 of the mask's shape, 0 to 1, how undecided each pixel is, of a pipeline that
            tells it; written beside the mask.
    """

    id: str
    findings: tuple[Finding, ...]
    mask: Mask
    seconds: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    proposals: tuple[Proposals, ...] = ()
    uncertainty: FloatArray | None = None

    @property
    def present(self) -> bool:
        """True where any phrase was found."""
        return any(finding.present for finding in self.findings)

    def __getitem__(self, phrase: str) -> Finding:
        """The finding of a phrase.

        Raises:
            KeyError: the phrase was not asked.
        """
        wanted = " ".join(phrase.split())
        for finding in self.findings:
            if finding.phrase == wanted:
                return finding
        raise KeyError(phrase)


MAX_LABELS = 255
"""How many phrases a label map of uint8 can tell apart."""


def label_map(masks: list[BoolArray], weights: list[np.ndarray], names: tuple[str, ...]) -> Mask:
    """Several masks as one: where they overlap, a pixel goes to the phrase with the larger weight there.

    Args:
        masks: bool, equal shapes.
        weights: float arrays of the masks' shape: each phrase's probability at each pixel.  At equal weight
            the earlier phrase wins.
        names: one for each mask.

    Returns:
        uint8 labels, k for the k-th name (1-based).

    Raises:
        ValueError: more than `MAX_LABELS` masks.
    """
    if len(masks) > MAX_LABELS:
        raise ValueError(f"got {len(masks)} masks, expected at most {MAX_LABELS}")
    scores = np.stack([np.where(m, w, -1.0) for m, w in zip(masks, weights, strict=True)])
    winner = scores.argmax(0).astype(np.uint8) + 1
    return Mask(np.where(scores.max(0) >= 0, winner, 0).astype(np.uint8), names)


def dice(first: BoolArray, second: BoolArray) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 1.0 if total == 0 else 2 * int((first & second).sum()) / total


@dataclass(frozen=True, eq=False)
class Answer:
    """What a pipeline makes of one phrase in one slice; an absent phrase has no prompts and draws nothing.

    Attributes:
        saliency: where the phrase is, as the encoder sees it.
        region: what was taken for the target before the segmenter drew it.
        prompts: what the segmenter was asked.
        drawn: the mask with the segmenter's estimate of it.
        presence: 0 to 1, or NaN where undefined.
        agreement: what the second judge says of the mask, 0 to 1; see `Finding.confidence`.
        matches: the proposals that were retrieved, of a pipeline that has any.
    """

    saliency: Saliency
    region: Region
    prompts: Prompts
    drawn: Drawn
    presence: float
    agreement: float = 0.0
    matches: Matches | None = None

    @property
    def present(self) -> bool:
        """Whether anything was drawn."""
        return bool(self.drawn.mask.any())

    def emptied(self) -> Answer:
        """The same evidence, with nothing asked and nothing drawn."""
        return replace(self, prompts=Prompts(), drawn=Drawn.nothing(self.drawn.mask.shape), agreement=0.0)


@dataclass(frozen=True, eq=False)
class SliceAnswers:
    """All phrases in one slice.

    Attributes:
        items: one for each phrase, in order.
        proposals: the regions that the phrases were retrieved from, of a pipeline that has any.
    """

    items: tuple[Answer, ...]
    proposals: Proposals | None = None


def to_finding(text: str, answers: Sequence[Answer], *, volume: bool, threshold: float | None, keep: bool) -> Finding:
    """One phrase over all slices: present where any slice has it.

    Args:
        text: the phrase.
        answers: one for each slice; an image has one.
        volume: whether the slices are a volume's.
        threshold: the presence below which the phrase counts as absent; None for none.
        keep: put the stages in too.
    """
    presences = [answer.presence for answer in answers if not math.isnan(answer.presence)]
    presence = max(presences) if presences else math.nan
    shown = [answer for answer in answers if answer.present]
    if shown:
        sizes = np.array([answer.drawn.mask.sum() for answer in shown], float)
        estimate = float(np.average([answer.drawn.iou for answer in shown], weights=sizes))
        agreement = float(np.average([answer.agreement for answer in shown], weights=sizes))
        confidence = math.sqrt(max(0.0, min(1.0, estimate)) * agreement)
    else:
        confidence = 1 - presence
        if threshold is not None and presence >= threshold:
            confidence = min(confidence, 0.5)
    masks = [answer.drawn.mask for answer in answers]
    return Finding(
        phrase=text,
        mask=np.stack(masks) if volume else masks[0],
        present=bool(shown),
        presence=presence,
        confidence=confidence,
        prompts=tuple(answer.prompts for answer in answers),
        saliency=tuple(answer.saliency for answer in answers) if keep else (),
        region=tuple(answer.region for answer in answers) if keep else (),
        matches=tuple(answer.matches for answer in answers if answer.matches is not None) if keep else (),
    )
