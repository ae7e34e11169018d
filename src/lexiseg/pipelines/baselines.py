"""Yardsticks: what the segmenter does without the phrase, and what it could do with true boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from lexiseg.errors import UsageError
from lexiseg.pipelines.base import Clock, Progress, TextPipeline
from lexiseg.pipelines.cached_segmenter import AskOnce
from lexiseg.pipelines.fusion import Drawn, draw, questions_of
from lexiseg.pipelines.preset import Preset, keywords, section
from lexiseg.pipelines.results import Answer, Result, SliceAnswers
from lexiseg.proposals.generator import propose
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.region import Region
from lexiseg.values.scan import BoolArray, Prompts, Saliency, Scan


@dataclass(frozen=True)
class NoEncoder:
    """Stands where a pipeline has an encoder, in one that looks at no phrase."""

    device: torch.device
    precision: str
    name: str = "none"


@dataclass(frozen=True, kw_only=True)
class PickSettings:
    """Which proposal is taken without a phrase.

    Attributes:
        pick: "largest", or "central" for the one whose centre of mass lies nearest to the scan's centre.

    Raises:
        UsageError: a value that the setting cannot take.
    """

    pick: str = "largest"

    def __post_init__(self) -> None:
        if self.pick not in ("largest", "central"):
            raise UsageError(f"retrieval: pick is {self.pick!r}; expected largest or central")


class Unprompted(TextPipeline):
    """The segmenter on its own: its largest (or most central) proposal, whatever the phrase.

    Presence and confidence are undefined: nobody asked for the phrase.
    """

    sections: ClassVar = ("proposals", "retrieval", "volume")
    needs_encoder: ClassVar = False

    def _check(self, preset: Preset) -> None:
        with section("proposals", preset.proposals, keywords(ProposalSettings)):
            self._proposals = ProposalSettings(**preset.proposals)
        with section("retrieval", preset.retrieval, keywords(PickSettings)):
            self._pick = PickSettings(**preset.retrieval)

    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        with clock("proposals"):
            proposals = propose(self.segmenter, scan.pixels, self._proposals)
        best = picked(proposals, self._pick.pick)
        drawn, prompts = Drawn.nothing(proposals.shape), Prompts()
        if best is not None:
            drawn = Drawn(best.mask, best.iou)
            prompts = Prompts(points=np.array([best.point], np.float32), labels=np.ones(1, np.int64))
        answers = [_answer(text, drawn.mask, drawn, prompts, math.nan) for text in asked]
        return SliceAnswers(tuple(answers), proposals)


class TrueBoxes(TextPipeline):
    """The segmenter asked with the boxes of the true mask's pieces: the most that boxes could give.

    It is told the answer's place by a person, whatever the phrase: an upper bound, never a result.
    """

    sections: ClassVar = ("prompts", "mask", "volume")
    needs_encoder: ClassVar = False
    needs_truth: ClassVar = True

    def _check(self, preset: Preset) -> None:
        with section("prompts", preset.prompts, keywords(prompts_from_region)):
            prompts_from_region(np.ones((2, 2), np.bool_), np.ones((2, 2), np.float32), **preset.prompts)

    def __call__(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Progress | None = None,
        truth: BoolArray | None = None,
    ) -> Result:
        """Segment a scan as any pipeline does, told its true mask.

        Args:
            scan: an image or a volume.
            phrases: one or several, which all get the same answer.
            keep_stages: keep what each stage made of each slice in the result.
            progress: called with the share done.
            truth: bool, of the scan's shape.

        Raises:
            UsageError: there is no true mask.
            ValueError: it has another shape than the scan.
            BadPhrase: as for any pipeline.
        """
        if truth is None:
            raise UsageError(
                f"{self.preset.name} asks with the boxes of true masks and none was given; give a manifest with masks"
            )
        if truth.shape != scan.shape:
            raise ValueError(f"the true mask has shape {truth.shape}, its scan {scan.shape}")
        told = partial(self._told, list(truth) if scan.volume else [truth])
        return self._run(scan, phrases, told, keep_stages=keep_stages, progress=progress)

    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        raise NotImplementedError("true boxes are drawn by a call that is told the truth")

    def _told(
        self, truth: Sequence[BoolArray], index: int, scan: Scan, asked: tuple[str, ...], clock: Clock
    ) -> SliceAnswers:
        mask = truth[index]
        region = Region(mask, mask.astype(np.float32))
        prompts = prompts_from_region(mask, region.probability, **self.preset.prompts)
        drawn = Drawn.nothing(mask.shape)
        if not prompts.empty:
            segmenter = AskOnce(self.segmenter)
            with clock("segmenter"):
                questions = questions_of(segmenter, scan.pixels, prompts, self._mask)
            with clock("mask"):
                drawn = draw(segmenter, questions, region, self._mask)
        present = float(mask.any())
        return SliceAnswers(tuple(_answer(text, mask, drawn, prompts, present) for text in asked))


def picked(proposals: Proposals, pick: str) -> Proposal | None:
    """The proposal that is taken without a phrase ("largest" or "central"), of equal ones the first; None
    where there is none.
    """
    if not len(proposals):
        return None
    if pick == "largest":
        return max(proposals, key=lambda proposal: proposal.area)
    middle = np.array(proposals.shape) / 2
    return min(
        proposals,
        key=lambda proposal: float(np.hypot(*(np.argwhere(proposal.mask).mean(axis=0) + 0.5 - middle))),
    )


def _answer(text: str, mask: BoolArray, drawn: Drawn, prompts: Prompts, presence: float) -> Answer:
    region = Region(mask, mask.astype(np.float32))
    saliency = Saliency(region.probability, text, math.nan)
    shown = bool(drawn.mask.any())
    return Answer(saliency, region, prompts if shown else Prompts(), drawn, presence, agreement=math.nan)
