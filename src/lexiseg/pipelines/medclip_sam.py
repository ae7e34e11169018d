"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

from lexiseg.models.protocols import Encoder, Segmenter
from lexiseg.pipelines.base import CachedSegmenter, StageTimer, TextPipeline
from lexiseg.pipelines.fusion import encode_queries, segment_best
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, SliceResult, dice
from lexiseg.regions.refine import refine
from lexiseg.saliency.base import presence_score
from lexiseg.saliency.settings import make_method
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Plane


class MedclipSam(TextPipeline):
    """Text to mask as MedCLIP-SAM does it (Koleilat et al., MICCAI 2024, zero-shot stage).

    saliency of the phrase -> refined region -> boxes -> the segmenter's mask.  Volumes go plane by plane;
    a plane without the target stays empty.

    Two judges must agree before a phrase is present: presence reaches the preset's threshold (where it has
    one), and a region large enough to be asked for stands out and is drawn.  Presence itself is evidence and
    is reported as measured, whatever was drawn: it keeps ranking scans, and another threshold needs no
    second run.  Where the judges disagree the answer is absent, at a confidence of at most one half.
    """

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        super().__init__(preset, encoder, segmenter)
        self._method = make_method(preset["saliency"])
        self._refiner = preset["regions"]
        self._prompts = preset["prompts"]
        self._mask = preset["mask"]
        self._presence = preset["presence"]

    @property
    def threshold(self) -> float | None:
        """The preset's."""
        threshold: float | None = self._presence.threshold
        return threshold

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """See `TextPipeline.segment_plane`; the segmenter encodes the whole of a plane once at most."""
        with timer("text"):
            embedded = self.embed(asked)
        with timer("saliency"):
            found = self._method.explain(self.encoder, plane.pixels, embedded, kinds=self.kinds)
        return PlaneResults(tuple(self._segment(plane, saliency, segmenter, timer) for saliency in found))

    def _segment(self, plane: Plane, saliency: Saliency, segmenter: CachedSegmenter, timer: StageTimer) -> SliceResult:
        with timer("region"):
            region = refine(saliency, plane.pixels, self._refiner)
            choices = self._choices(region, saliency)
        presence = presence_score(saliency.evidence, settings=self._presence)
        prompts, estimate = Prompts(), MaskEstimate.nothing(plane.shape)
        if choices and not (self.threshold is not None and presence < self.threshold):
            with timer("segmenter"):
                queries = [(encode_queries(segmenter, plane.pixels, each, self._mask), of) for each, of in choices]
            with timer("mask"):
                best, estimate = segment_best(segmenter, queries, region, self._mask)
            prompts = choices[best][0]
        return SliceResult.of(
            saliency=saliency,
            region=region,
            prompts=prompts,
            estimate=estimate,
            presence=presence,
            agreement=dice(estimate.mask, region.mask),
        )

    def _choices(self, region: Region, saliency: Saliency) -> list[tuple[Prompts, BoolArray]]:
        """What the segmenter could be asked, and what it is the prompts of: the region, or the map's cuts.

        Without a region to ask for there is no choice: no level makes an absent target present.
        """
        own = self._prompts.prompts(region.mask, saliency.map), region.mask
        if own[0].empty or not self._prompts.cuts:
            return [] if own[0].empty else [own]
        cuts = [saliency.map > level for level in self._prompts.cuts]
        found = [(self._prompts.prompts(of, saliency.map), of) for of in cuts]
        return [each for each in found if not each[0].empty] or [own]
