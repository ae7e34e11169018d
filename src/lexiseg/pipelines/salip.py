"""SaLIP: SAM proposes every region, CLIP retrieves what fits the phrase, its boxes prompt SAM again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from lexiseg.models.protocols import Encoder, Segmenter
from lexiseg.pipelines.base import StageTimer, TextPipeline, check_phrases
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.fusion import encode_queries, expects_too_little, segment_queries, settings_for
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, SliceResult
from lexiseg.proposals.crops import embed_crops
from lexiseg.proposals.generator import propose
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches, retrieve
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.regions.threshold import find_components
from lexiseg.saliency.base import SaliencyMethod, global_evidence
from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.kinds import kind_evidence
from lexiseg.saliency.presence import presence_score
from lexiseg.saliency.settings import make_method
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Plane


@dataclass(frozen=True, eq=False)
class RegionEvidence:
    """What SaLIP makes of one slice before anything is drawn.

    Attributes:
        proposals: all regions.
        matches: those that were retrieved, for each phrase.
        saliency: where each phrase is.
        presence: how much speaks for each phrase being there, 0 to 1 or NaN.
    """

    proposals: Proposals
    matches: tuple[Matches, ...]
    saliency: tuple[Saliency, ...]
    presence: tuple[float, ...]


class Salip(TextPipeline):
    """Text to mask as SaLIP does it (Aleem et al., CVPRW 2024): no training, no labels.

    proposals -> crops -> retrieval of the best for each phrase -> their boxes -> the segmenter's mask.
    Volumes go plane by plane; a plane without the target stays empty.

    Presence is weighed as in `presence_score` from two probabilities: that of the best retrieved region
    (0 where nothing was retrieved) and that of the whole scan, each against the negative phrases where the
    encoder was trained with a softmax.  Below the preset's threshold nothing is drawn.

    The saliency that comes with the answer is the probability of the likeliest proposal at each pixel, or the
    map that the regions were weighed by where the preset's retrieval asks for one.
    """

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        super().__init__(preset, encoder, segmenter)
        self._retrieval = preset["retrieval"]
        self._prompts = preset["prompts"]
        self._mask = preset["mask"]
        self._presence = preset["presence"]
        self._method: SaliencyMethod | None = None
        self._proposals = preset["proposals"]
        if self._retrieval.score != "crop" or "saliency" in preset.sections or self._proposals.by_map:
            self._method = make_method(preset["saliency"])

    def propose(self, plane: Plane, phrases: Sequence[str] = ()) -> Proposals:
        """All regions of a plane; the phrases count only where the preset asks by their maps."""
        maps = self._maps(plane, self.embed(check_phrases(phrases))) if self._proposals.by_map else None
        return self._propose(self.segmenter, plane, maps)

    def _propose(self, segmenter: Segmenter, plane: Plane, maps: Sequence[Saliency] | None) -> Proposals:
        if not self._proposals.by_map:
            return propose(segmenter, plane.pixels, self._proposals)
        assert maps is not None
        if not self._proposals.cuts:
            where = cells_near([each.map for each in maps], self._proposals)
            return propose(segmenter, plane.pixels, self._proposals, where=where)
        boxes = boxes_of_maps([each.map for each in maps], self._proposals.cuts, self._proposals.min_area)
        return propose(segmenter, plane.pixels, self._proposals, boxes=boxes)

    def _maps(self, plane: Plane, embedded: Sequence[PhraseEmbedding]) -> list[Saliency]:
        assert self._method is not None
        return self._method.explain(self.encoder, plane.pixels, embedded, kinds=self.kinds)

    def region_evidence(self, plane: Plane, phrases: Sequence[str], proposals: Proposals) -> RegionEvidence:
        """What is retrieved from a plane's proposals for each phrase; nothing is drawn."""
        return self._region_evidence(plane, self.embed(check_phrases(phrases)), StageTimer(), proposals)

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """See `TextPipeline.segment_plane`."""
        with timer("text"):
            embedded = self.embed(asked)
        maps = None
        if self._proposals.by_map:
            with timer("saliency"):
                maps = self._maps(plane, embedded)
        with timer("proposals"):
            proposals = self._propose(segmenter, plane, maps)
        return self._answer(plane, embedded, segmenter, timer, proposals=proposals, maps=maps)

    def from_proposals(
        self, plane: Plane, phrases: Sequence[str], proposals: Proposals, segmenter: CachedSegmenter
    ) -> PlaneResults:
        """All phrases in a plane whose proposals were made before."""
        return self._answer(plane, self.embed(check_phrases(phrases)), segmenter, StageTimer(), proposals=proposals)

    def _answer(
        self,
        plane: Plane,
        embedded: Sequence[PhraseEmbedding],
        segmenter: CachedSegmenter,
        timer: StageTimer,
        *,
        proposals: Proposals,
        maps: Sequence[Saliency] | None = None,
    ) -> PlaneResults:
        seen = self._region_evidence(plane, embedded, timer, proposals, maps)
        answers = []
        for phrase, matches, saliency, presence in zip(
            embedded, seen.matches, seen.saliency, seen.presence, strict=True
        ):
            region = Region(matches.union(plane.shape), saliency.map)
            prompts = self._ask(matches, saliency.map >= self._retrieval.min_saliency)
            estimate = MaskEstimate.nothing(plane.shape)
            too_weak = self.threshold is not None and presence < self.threshold
            if not (prompts.empty or too_weak or expects_too_little(saliency.map, phrase, self._presence)):
                with timer("mask"):
                    settings = settings_for(self._mask, phrase)
                    queries = encode_queries(segmenter, plane.pixels, prompts, settings)
                    estimate = segment_queries(segmenter, queries, region, settings)
            answers.append(
                SliceResult.of(
                    saliency=saliency,
                    region=region,
                    prompts=prompts,
                    estimate=estimate,
                    presence=presence,
                    agreement=matches.probability,
                    matches=matches,
                )
            )
        return PlaneResults(tuple(answers), seen.proposals)

    def _region_evidence(
        self,
        plane: Plane,
        embedded: Sequence[PhraseEmbedding],
        timer: StageTimer,
        proposals: Proposals,
        maps: Sequence[Saliency] | None = None,
    ) -> RegionEvidence:
        crops = None
        if self._retrieval.score != "saliency":
            with timer("crops"):
                crops = embed_crops(self.encoder, plane.pixels, proposals, self.preset["crops"])
        with timer("saliency"):
            if self._method is None:
                whole = self._whole(plane.pixels, embedded)
            elif maps is None:
                maps = self._maps(plane, embedded)
        with timer("retrieval"):
            matches = retrieve(
                proposals,
                embedded,
                self._retrieval,
                encoder=self.encoder,
                crops=crops,
                saliency=None if maps is None else [each.map for each in maps],
            )
            if maps is None:
                maps = [_saliency(proposals, each, evidence) for each, evidence in zip(matches, whole, strict=True)]
        # Where the segmenter proposed nothing, nothing was looked at: that is no evidence. A map that asks for nothing
        # is some.
        unseen = not len(proposals) and not self._proposals.by_map
        presence = tuple(
            math.nan
            if unseen
            else presence_score({**each.evidence, "dense": found.probability}, settings=self._presence)
            for each, found in zip(maps, matches, strict=True)
        )
        return RegionEvidence(proposals, matches, tuple(maps), presence)

    def _whole(self, pixels: FloatArray, embedded: Sequence[PhraseEmbedding]) -> list[dict[str, float]]:
        """What the encoder says of the whole scan and each phrase."""
        red, green, blue = (float(value) for value in self.encoder.mean.flatten().tolist())
        (frame,) = frame_scan((pixels.shape[0], pixels.shape[1]), size=self.encoder.input_size, fill=(red, green, blue))
        rows = self.encoder.encode_image(frame.apply(pixels).to(self.encoder.device)).detach().float()
        found = [global_evidence(self.encoder, rows, phrase) for phrase in embedded]
        if self.kinds is not None:
            for evidence, phrase in zip(found, embedded, strict=True):
                evidence["kind"] = self.kinds.share(rows, phrase.text)
                evidence.update(kind_evidence(self.kinds, rows))
        return found

    def _ask(self, matches: Matches, supported: BoolArray) -> Prompts:
        """A box for each match, around what of it is supported, with points where the preset asks for any."""
        asked = []
        for match in matches.items:
            region = match.proposal.mask & supported
            shown = region if region.any() else match.proposal.mask
            asked.append(self._prompts.prompts(shown))
        if not asked:
            return Prompts()
        return Prompts(
            boxes=np.concatenate([each.boxes for each in asked]),
            points=np.concatenate([each.points for each in asked]),
            labels=np.concatenate([each.labels for each in asked]),
        )


def cells_near(maps: Sequence[FloatArray], settings: ProposalSettings) -> BoolArray:
    """The pixels around which some map (H, W) reaches `ProposalSettings.map_near` within half a step of the grid.

    So the least piece of a map, between the grid's points, has one that is asked.
    """
    highest = np.max(maps, axis=0)
    # A pixel more on each side, since points lie half a pixel off.
    step = [math.ceil(side / settings.points_per_side) + 2 for side in highest.shape]
    found: BoolArray = maximum_filter(highest, size=step) >= settings.map_near
    return found


def boxes_of_maps(maps: Sequence[FloatArray], levels: Sequence[float], min_area: float) -> FloatArray:
    """Boxes around the pieces of maps cut at some values, float32 (N, 4), end-exclusive, each once.

    Args:
        maps: (H, W) in [0, 1].
        levels: where they are cut.
        min_area: pieces smaller than this fraction of the scan have no box.
    """
    boxes = {
        component.box: None
        for each in maps
        for level in levels
        for component in find_components(each >= level, min_area=min_area)
    }
    return np.array(list(boxes), np.float32).reshape(-1, 4)


def _saliency(proposals: Proposals, matches: Matches, evidence: dict[str, float]) -> Saliency:
    """At each pixel the probability of the likeliest proposal; where none is known, the matches alone."""
    found = np.zeros(proposals.shape, np.float32)
    known = np.isfinite(matches.probabilities)
    for index in np.flatnonzero(known).tolist():
        mask = proposals[index].mask
        found[mask] = np.maximum(found[mask], np.float32(matches.probabilities[index]))
    if not known.all():
        found[matches.union(proposals.shape)] = 1
    return Saliency(
        map=found,
        phrase=matches.phrase,
        score=evidence["margin"] if "margin" in evidence else evidence["logit"],
        layer="proposals",
        evidence=evidence,
    )
