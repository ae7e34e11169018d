"""SaLIP: SAM proposes every region, CLIP retrieves what fits the phrase, its boxes prompt SAM again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lexiseg.pipelines.base import Clock, TextPipeline, check_phrases
from lexiseg.pipelines.cached_segmenter import AskOnce
from lexiseg.pipelines.fusion import Drawn, draw, questions_of
from lexiseg.pipelines.preset import Preset, keywords, section
from lexiseg.pipelines.results import Answer, SliceAnswers
from lexiseg.proposals.crops import CropSettings, embed_crops
from lexiseg.proposals.generator import propose
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches, RetrievalSettings, retrieve
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.region import Region
from lexiseg.saliency.base import SaliencyMethod, global_evidence
from lexiseg.saliency.evidence import presence_score
from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.registry import make_method
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.scan import BoolArray, FloatArray, Prompts, Saliency, Scan

_PROMPTS = ("margin", "points", "negatives")


@dataclass(frozen=True, eq=False)
class Look:
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
    Volumes go slice by slice; a slice without the target stays empty.

    Presence is weighed as in `presence_score` from two probabilities: that of the best retrieved region
    (0 where nothing was retrieved) and that of the whole scan, each against the null phrases where the
    encoder was trained with a softmax.  Below the preset's threshold nothing is drawn.

    The saliency that comes with the answer is the probability of the likeliest proposal at each pixel, or the
    map that the regions were weighed by where the preset's retrieval asks for one.
    """

    sections: ClassVar = (
        "phrases",
        "proposals",
        "crops",
        "retrieval",
        "saliency",
        "prompts",
        "mask",
        "presence",
        "volume",
    )

    def _check(self, preset: Preset) -> None:
        with section("proposals", preset.proposals, keywords(ProposalSettings)):
            self._proposals = ProposalSettings(**preset.proposals)
        with section("crops", preset.crops, keywords(CropSettings)):
            self._crops = CropSettings(**preset.crops)
        with section("retrieval", preset.retrieval, keywords(RetrievalSettings)):
            self._retrieval = RetrievalSettings(**preset.retrieval)
        self._method: SaliencyMethod | None = None
        with section("saliency", preset.saliency):
            if self._retrieval.score != "crop" or preset.saliency:
                settings = dict(preset.saliency)
                self._method = make_method(settings.pop("method", "dense"), **settings)
        with section("prompts", preset.prompts, _PROMPTS):
            prompts_from_region(np.ones((2, 2), np.bool_), boxes="hull", **preset.prompts)

    def propose(self, scan: Scan) -> Proposals:
        """All regions of an image, before any phrase."""
        return propose(self.segmenter, scan.pixels, self._proposals)

    def look(self, scan: Scan, phrases: Sequence[str], proposals: Proposals) -> Look:
        """What is retrieved from an image's proposals for each phrase; nothing is drawn."""
        return self._look(scan, self._embed(check_phrases(phrases)), Clock(), proposals)

    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        with clock("text"):
            embedded = self._embed(asked)
        segmenter = AskOnce(self.segmenter)
        with clock("proposals"):
            proposals = propose(segmenter, scan.pixels, self._proposals)
        seen = self._look(scan, embedded, clock, proposals)
        shape = (scan.pixels.shape[0], scan.pixels.shape[1])
        answers = []
        for matches, saliency, presence in zip(seen.matches, seen.saliency, seen.presence, strict=True):
            region = Region(matches.union(shape), saliency.map)
            prompts = self._ask(matches, saliency.map >= self._retrieval.trim)
            drawn = Drawn.nothing(shape)
            if not prompts.empty and not (self.threshold is not None and presence < self.threshold):
                with clock("mask"):
                    questions = questions_of(segmenter, scan.pixels, prompts, self._mask)
                    drawn = draw(segmenter, questions, region, self._mask)
            shown = bool(drawn.mask.any())
            answers.append(
                Answer(
                    saliency=saliency,
                    region=region,
                    prompts=prompts if shown else Prompts(),
                    drawn=drawn,
                    presence=presence,
                    agreement=matches.probability if shown else 0.0,
                    matches=matches,
                )
            )
        return SliceAnswers(tuple(answers), seen.proposals)

    def _look(self, scan: Scan, embedded: Sequence[PhraseEmbedding], clock: Clock, proposals: Proposals) -> Look:
        crops = maps = None
        if self._retrieval.score != "saliency":
            with clock("crops"):
                crops = embed_crops(self.encoder, scan.pixels, proposals, self._crops)
        with clock("saliency"):
            if self._method is not None:
                maps = self._method.explain(self.encoder, scan.pixels, embedded)
            else:
                whole = self._whole(scan.pixels, embedded)
        with clock("retrieval"):
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
        presence = tuple(
            presence_score({**each.evidence, "dense": found.probability}, settings=self._presence)
            for each, found in zip(maps, matches, strict=True)
        )
        return Look(proposals, matches, tuple(maps), presence)

    def _whole(self, pixels: FloatArray, embedded: Sequence[PhraseEmbedding]) -> list[dict[str, float]]:
        """What the encoder says of the whole scan and each phrase."""
        red, green, blue = (float(value) for value in self.encoder.mean.flatten().tolist())
        (frame,) = frame_scan((pixels.shape[0], pixels.shape[1]), size=self.encoder.input_size, fill=(red, green, blue))
        rows = self.encoder.encode_image(frame.apply(pixels).to(self.encoder.device)).detach().float()
        return [global_evidence(self.encoder, rows, phrase) for phrase in embedded]

    def _ask(self, matches: Matches, supported: BoolArray) -> Prompts:
        """A box for each match, around what of it is supported, with points where the preset asks for any."""
        asked = []
        for match in matches.items:
            region = match.proposal.mask & supported
            shown = region if region.any() else match.proposal.mask
            asked.append(prompts_from_region(shown, boxes="hull", **self.preset.prompts))
        if not asked:
            return Prompts()
        return Prompts(
            boxes=np.concatenate([each.boxes for each in asked]),
            points=np.concatenate([each.points for each in asked]),
            labels=np.concatenate([each.labels for each in asked]),
        )


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
