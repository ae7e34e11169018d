"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lexiseg.models.protocols import Encoder, Segmenter
from lexiseg.pipelines.base import StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.fusion import encode_queries, expects_too_little, query_windows, segment_best, settings_for
from lexiseg.pipelines.look import LookSettings
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, SliceResult
from lexiseg.pipelines.settings import MaskSettings
from lexiseg.regions.refine import PromptSettings, refine
from lexiseg.regions.threshold import best_by_expected_dice
from lexiseg.saliency.kinds import surest_kind
from lexiseg.saliency.presence import presence_score
from lexiseg.saliency.settings import make_method
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.overlap import dice, soft_dice
from lexiseg.values.scans import Plane


@dataclass(frozen=True, eq=False)
class _Draft:
    """One phrase in one plane before anything is drawn.

    Attributes:
        saliency: where the phrase is.
        region: the saliency, refined.
        presence: how much speaks for the phrase.
        choices: what the segmenter could be asked, and what it is the prompts of; none of an absent phrase.
        mask: how the segmenter's answer becomes a mask.
    """

    saliency: Saliency
    region: Region
    presence: float
    choices: list[tuple[Prompts, BoolArray]]
    mask: MaskSettings


@dataclass(frozen=True)
class Sureness:
    """How sure an encoder is of what it sees.

    Attributes:
        phrases: of each, 0 to 1: presence times the highest Dice that its map expects of any mask, see
            `best_by_expected_dice`; NaN where presence is undefined.
        kind: of the likeliest kind of scan, 0 to 1; 1 where nobody tells kinds.
    """

    phrases: tuple[float, ...]
    kind: float = 1.0


class MedclipSam(TextPipeline):
    """Text to mask as MedCLIP-SAM does it (Koleilat et al., MICCAI 2024, zero-shot stage).

    saliency of the phrase -> refined region -> boxes -> the segmenter's mask.  Volumes go plane by plane;
    a plane without the target stays empty.

    Two judges must agree before a phrase is present: presence reaches the preset's threshold (where it has one),
    and a region large enough to be asked for stands out and is drawn; a calibrated map must expect enough Dice of
    its best mask, too. Presence itself is evidence and is reported as measured, whatever was drawn: it keeps
    ranking scans, and another threshold needs no second run. Where the judges disagree the answer is absent, at a
    confidence of at most one half.
    """

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        super().__init__(preset, encoder, segmenter)
        self._look: LookSettings = preset["look"]
        self._method = make_method(preset["saliency"])
        self._refiner = preset["regions"]
        self._prompts = preset["prompts"]
        self._mask = preset["mask"]
        self._presence = preset["presence"]

    @property
    def planes_at_once(self) -> int:
        """On a CPU a few gain a little, where one forward sees them all."""
        return max(4, super().planes_at_once) if self._method.sees_many else super().planes_at_once

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """See `TextPipeline.segment_plane`; the segmenter encodes the whole of a plane once at most."""
        return self.segment_planes([plane], asked, segmenter, timer)[0]

    def segment_planes(
        self, planes: Sequence[Plane], asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> list[PlaneResults]:
        """See `TextPipeline.segment_planes`; planes go through either model together."""
        planes = [self._look.show(plane) for plane in planes]
        with timer("text"):
            embedded = self.embed(asked)
        with timer("saliency"):
            scans = [plane.pixels for plane in planes]
            found = self._method.explain_many(self.encoder, scans, embedded, kinds=self.kinds)
        drafts = [
            [self._draft(plane, saliency, phrase, timer) for saliency, phrase in zip(of, embedded, strict=True)]
            for plane, of in zip(planes, found, strict=True)
        ]
        windows = [
            window
            for plane, of in zip(planes, drafts, strict=True)
            for draft in of
            for prompts, _ in draft.choices
            for window in query_windows(plane.pixels, prompts, draft.mask)
        ]
        if windows:
            with timer("segmenter"):
                segmenter.encode_many(windows, self.preset["volume"].batch)
        return [
            PlaneResults(tuple(self._draw(plane, draft, segmenter, timer) for draft in of))
            for plane, of in zip(planes, drafts, strict=True)
        ]

    def sureness(self, plane: Plane, asked: tuple[str, ...]) -> Sureness:
        """How sure the encoder is of what it sees in a plane; nothing is drawn."""
        pixels = self._look.show(plane).pixels
        found = self._method.explain(self.encoder, pixels, self.embed(asked), kinds=self.kinds)
        phrases = [
            presence_score(each.evidence, settings=self._presence)
            * soft_dice(each.map, best_by_expected_dice(each.map))
            for each in found
        ]
        return Sureness(tuple(phrases), surest_kind(found[0].evidence))

    def _draft(self, plane: Plane, saliency: Saliency, phrase: PhraseEmbedding, timer: StageTimer) -> _Draft:
        with timer("region"):
            asking = replace(self._prompts, min_area=phrase.calibration.min_area(self._prompts.min_area))
            region = refine(saliency, plane.pixels, self._refiner)
            choices = self._choices(region, saliency, asking)
            if not choices and phrase.calibration.calibrated:
                # What is seldom sure stands out nowhere, and its map says by itself where to cut.
                region = Region(best_by_expected_dice(saliency.map), saliency.map)
                choices = self._choices(region, saliency, asking)
        presence = presence_score(saliency.evidence, settings=self._presence)
        too_weak = self.threshold is not None and presence < self.threshold
        if too_weak or expects_too_little(saliency.map, phrase, self._presence):
            choices = []
        return _Draft(saliency, region, presence, choices, settings_for(self._mask, phrase))

    def _draw(self, plane: Plane, draft: _Draft, segmenter: CachedSegmenter, timer: StageTimer) -> SliceResult:
        prompts, estimate, region = Prompts(), MaskEstimate.nothing(plane.shape), draft.region
        if draft.choices:
            with timer("segmenter"):
                queries = [
                    (encode_queries(segmenter, plane.pixels, each, draft.mask), of) for each, of in draft.choices
                ]
            with timer("mask"):
                best, estimate = segment_best(segmenter, queries, region, draft.mask)
            prompts = draft.choices[best][0]
        return SliceResult.of(
            saliency=draft.saliency,
            region=region,
            prompts=prompts,
            estimate=estimate,
            presence=draft.presence,
            agreement=dice(estimate.mask, region.mask),
        )

    def _choices(self, region: Region, saliency: Saliency, asking: PromptSettings) -> list[tuple[Prompts, BoolArray]]:
        """What the segmenter could be asked, and what it is the prompts of: the region, or the map's cuts.

        Without a region to ask for there is no choice: no level makes an absent target present.
        """
        own = asking.prompts(region.mask, saliency.map), region.mask
        if own[0].empty or not asking.cuts:
            return [] if own[0].empty else [own]
        cuts = [saliency.map > level for level in asking.cuts]
        found = [(asking.prompts(of, saliency.map), of) for of in cuts]
        return [each for each in found if not each[0].empty] or [own]
