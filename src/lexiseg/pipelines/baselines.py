"""Yardsticks: what the segmenter does without the phrase, and what it could do with true boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from lexiseg.errors import UsageError
from lexiseg.pipelines.base import Progress, StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.fusion import encode_queries, segment_queries
from lexiseg.pipelines.packed import Journal
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, Result, SliceResult
from lexiseg.proposals.generator import propose
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Plane, Scan


@dataclass(frozen=True)
class NoEncoder:
    """Stands where a pipeline has an encoder, in one that looks at no phrase."""

    device: torch.device
    precision: str
    name: str = "none"


class Unprompted(TextPipeline):
    """The segmenter on its own: its largest (or most central) proposal, whatever the phrase.

    Presence and confidence are undefined: nobody asked for the phrase.
    """

    needs_encoder: ClassVar = False

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """See `TextPipeline.segment_plane`."""
        with timer("proposals"):
            proposals = propose(self.segmenter, plane.pixels, self.preset["proposals"])
        best = picked(proposals, self.preset["retrieval"].pick)
        estimate, prompts = MaskEstimate.nothing(proposals.shape), Prompts()
        if best is not None:
            estimate = MaskEstimate(best.mask, best.iou)
            prompts = Prompts(points=np.array([best.point], np.float32), labels=np.ones(1, np.int64))
        answers = [_answer(text, estimate.mask, estimate, prompts, math.nan) for text in asked]
        return PlaneResults(tuple(answers), proposals)


class OracleBox(TextPipeline):
    """The segmenter asked with the boxes of the true mask's pieces: the most that boxes could give.

    It is told the answer's place by a person, whatever the phrase: an upper bound, never a result.
    """

    needs_encoder: ClassVar = False
    needs_truth: ClassVar = True

    def __call__(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Progress | None = None,
        encodings: EncodingCache | None = None,
        journal: Journal | None = None,
        truth: BoolArray | None = None,
    ) -> Result:
        """Segment a scan as any pipeline does, told its true mask.

        Args:
            scan: an image or a volume.
            phrases: one or several, which all get the same answer.
            keep_stages: keep what each stage made of each plane in the result.
            progress: called with the share done.
            encodings, journal: as for any pipeline.
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
        true = self.planes(scan).cut(truth)

        def told(
            planes: Sequence[Plane], asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
        ) -> list[PlaneResults]:
            return [self._told(true[plane.index], plane, asked, segmenter, timer) for plane in planes]

        return self._run(
            scan,
            phrases,
            told,
            keep_stages=keep_stages,
            progress=progress,
            encodings=encodings,
            journal=journal,
        )

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """Not without the truth, which the call is told."""
        raise NotImplementedError("true boxes are drawn by a call that is told the truth")

    def _told(
        self, mask: BoolArray, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        mask = np.ascontiguousarray(mask)
        region = Region(mask, mask.astype(np.float32))
        prompts = self.preset["prompts"].prompts(mask, region.probability)
        estimate = MaskEstimate.nothing(mask.shape)
        if not prompts.empty:
            settings = self.preset["mask"]
            with timer("segmenter"):
                queries = encode_queries(segmenter, plane.pixels, prompts, settings)
            with timer("mask"):
                estimate = segment_queries(segmenter, queries, region, settings)
        present = float(mask.any())
        return PlaneResults(tuple(_answer(text, mask, estimate, prompts, present) for text in asked))


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


def _answer(text: str, mask: BoolArray, estimate: MaskEstimate, prompts: Prompts, presence: float) -> SliceResult:
    region = Region(mask, mask.astype(np.float32))
    saliency = Saliency(region.probability, text, math.nan)
    return SliceResult.of(
        saliency=saliency, region=region, prompts=prompts, estimate=estimate, presence=presence, agreement=math.nan
    )
