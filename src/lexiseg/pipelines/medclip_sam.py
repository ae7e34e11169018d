"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lexiseg.pipelines.answer import Answer, SliceAnswers
from lexiseg.pipelines.clock import Clock
from lexiseg.pipelines.drawing import Drawn, draw, questions_of
from lexiseg.pipelines.encode_once import EncodeOnce
from lexiseg.pipelines.pipeline import TextPipeline
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.result import dice
from lexiseg.pipelines.settings import keywords, section
from lexiseg.regions import prompts_from_region, refine
from lexiseg.saliency import frame_scan, make_method, presence_score
from lexiseg.scans import Prompts, Saliency, Scan


class MedclipSam(TextPipeline):
    """Text to mask as MedCLIP-SAM does it (Koleilat et al., MICCAI 2024, zero-shot stage).

    saliency of the phrase -> refined region -> boxes -> the segmenter's mask.  Volumes go slice by slice;
    a slice without the target stays empty.

    Two judges must agree before a phrase is present: presence reaches the preset's threshold (where it has
    one), and a region large enough to be asked for stands out and is drawn.  Presence itself is evidence and
    is reported as measured, whatever was drawn: it keeps ranking scans, and another threshold needs no
    second run.  Where the judges disagree the answer is absent, at a confidence of at most one half.
    """

    sections: ClassVar = ("phrases", "saliency", "regions", "prompts", "mask", "presence", "volume")

    def _check(self, preset: Preset) -> None:
        nothing = Saliency(np.zeros((2, 2), np.float32), "check", 0.0)
        with section("saliency", preset.saliency):
            settings = dict(preset.saliency)
            self._method = make_method(settings.pop("method", "gscorecam"), **settings)
            method = self._method
            frame_scan(
                (2, 2),
                size=self.encoder.input_size,
                mode=method.framing,
                tile=method.tile,
                overlap=method.overlap,
            )
        with section("regions", preset.regions):
            region = refine(nothing, nothing.map, **preset.regions)
        with section("prompts", preset.prompts, keywords(prompts_from_region)):
            prompts_from_region(region.mask, nothing.map, **preset.prompts)

    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        """All phrases in one slice; the segmenter encodes the whole of it once at most."""
        with clock("text"):
            embedded = self._embed(asked)
        with clock("saliency"):
            found = self._method.explain(self.encoder, scan.pixels, embedded)
        segmenter = EncodeOnce(self.segmenter, scan.pixels)
        answers = []
        for saliency in found:
            with clock("region"):
                region = refine(saliency, scan.pixels, **self.preset.regions)
                prompts = prompts_from_region(region.mask, saliency.map, **self.preset.prompts)
            presence = presence_score(saliency.evidence, settings=self._presence)
            drawn = Drawn.nothing(scan.pixels.shape[:2])
            if not prompts.empty and not (self.threshold is not None and presence < self.threshold):
                with clock("segmenter"):
                    questions = questions_of(segmenter, scan.pixels, prompts, self._mask)
                with clock("mask"):
                    drawn = draw(segmenter, questions, region, self._mask)
            shown = bool(drawn.mask.any())
            answers.append(
                Answer(
                    saliency=saliency,
                    region=region,
                    prompts=prompts if shown else Prompts(),
                    drawn=drawn,
                    presence=presence,
                    agreement=dice(drawn.mask, region.mask) if shown else 0.0,
                )
            )
        return SliceAnswers(tuple(answers))
