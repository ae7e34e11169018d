"""SAM 3's own text: one model reads the phrase and draws it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.models.protocols import Encoder, Instances, Segmenter, TextSegmenter
from lexiseg.pipelines.base import StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, SliceResult
from lexiseg.regions.threshold import clean_mask
from lexiseg.saliency.presence import presence_score
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Plane


class Sam3(TextPipeline):
    """Text to mask by a segmenter that reads the phrase.

    phrase -> candidates with scores -> those above `instances.min_score` -> their union.

    Presence is the model's own, calibrated as everywhere; below the preset's threshold nothing is drawn.  Confidence is
    the score of the surest candidate that was taken, which has presence in it.  The saliency that comes with the answer
    is at each pixel the likeliest candidate's probability times its score.  The boxes are those of the candidates.
    """

    needs_encoder: ClassVar = False
    reads_text: ClassVar = True

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        super().__init__(preset, encoder, segmenter)
        if not isinstance(segmenter, TextSegmenter):
            raise UsageError(f"{segmenter.name} reads no text; expected SAM 3, such as facebook/sam3")
        self._reader: TextSegmenter = segmenter
        self._instances, self._presence = preset["instances"], preset["presence"]

    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """See `TextPipeline.segment_plane`."""
        with timer("segmenter"):
            found = self._reader.find(plane.pixels, asked)
        with timer("mask"):
            return PlaneResults(tuple(self._answer(text, each) for text, each in zip(asked, found, strict=True)))

    def _answer(self, text: str, found: Instances) -> SliceResult:
        scores = found.scores.cpu().numpy()
        chosen = np.flatnonzero(scores > self._instances.min_score)
        presence = presence_score({"global": found.presence}, settings=self._presence)
        # The surest candidate is looked at where none is taken: its place is the map of what was nearly found.
        shown = chosen if len(chosen) else scores.argmax(axis=0, keepdims=True)
        each = self._reader.probabilities(found, shown.tolist())
        saliency = Saliency(
            map=(each * scores[shown, None, None]).max(axis=0).astype(np.float32),
            phrase=text,
            score=float(scores.max()),
            layer="sam3",
            evidence={"global": found.presence},
        )
        drawn = len(chosen) and not (self.threshold is not None and presence < self.threshold)
        probability = each.max(axis=0) if drawn else np.zeros(found.shape, np.float32)
        mask = clean_mask(probability > 0.5, min_area=self._instances.min_area, fill_holes=self._instances.fill_holes)
        sure = float(scores[chosen].max()) if drawn else 1.0
        boxes = found.boxes[shown.tolist()].cpu().numpy().astype(np.float32)
        return SliceResult.of(
            saliency=saliency,
            region=Region(mask, probability),
            prompts=Prompts(boxes=boxes),
            estimate=MaskEstimate(mask, sure, probability if drawn else None),
            presence=presence,
            agreement=sure,
        )
