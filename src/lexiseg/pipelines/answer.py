"""One phrase in one slice, before slices become a scan's answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lexiseg.pipelines.drawing import Drawn
from lexiseg.pipelines.result import Finding
from lexiseg.proposals import Matches, Proposals
from lexiseg.regions import Region
from lexiseg.scans import Prompts, Saliency


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


def to_finding(
    text: str, answers: Sequence[Answer], *, volume: bool, threshold: float | None, keep: bool
) -> Finding:
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
