"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.pipelines.base import Clock, TextPipeline
from lexiseg.pipelines.cached_segmenter import AskOnce
from lexiseg.pipelines.fusion import Drawn, draw_best, questions_of
from lexiseg.pipelines.preset import Preset, keywords, section
from lexiseg.pipelines.results import Answer, SliceAnswers, dice
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.refine import refine
from lexiseg.regions.region import Region
from lexiseg.saliency.evidence import presence_score
from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.registry import make_method
from lexiseg.values.scan import BoolArray, Prompts, Saliency, Scan


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
        with section("prompts", preset.prompts, (*keywords(prompts_from_region), "levels")):
            self._prompts = dict(preset.prompts)
            self._levels = _check_levels(self._prompts.pop("levels", ()))
            prompts_from_region(region.mask, nothing.map, **self._prompts)

    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        """All phrases in one slice; the segmenter encodes the whole of it once at most."""
        with clock("text"):
            embedded = self._embed(asked)
        with clock("saliency"):
            found = self._method.explain(self.encoder, scan.pixels, embedded)
        segmenter = AskOnce(self.segmenter)
        answers = []
        for saliency in found:
            with clock("region"):
                region = refine(saliency, scan.pixels, **self.preset.regions)
                choices = self._choices(region, saliency)
            presence = presence_score(saliency.evidence, settings=self._presence)
            prompts, drawn = Prompts(), Drawn.nothing(scan.pixels.shape[:2])
            if choices and not (self.threshold is not None and presence < self.threshold):
                with clock("segmenter"):
                    asked_of = [(questions_of(segmenter, scan.pixels, each, self._mask), of) for each, of in choices]
                with clock("mask"):
                    best, drawn = draw_best(segmenter, asked_of, region, self._mask)
                prompts = choices[best][0]
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

    def _choices(self, region: Region, saliency: Saliency) -> list[tuple[Prompts, BoolArray]]:
        """What the segmenter could be asked, and what it is the prompts of: the region, or the map's cuts.

        Without a region to ask for there is no choice: no level makes an absent target present.
        """
        own = prompts_from_region(region.mask, saliency.map, **self._prompts), region.mask
        if own[0].empty or not self._levels:
            return [] if own[0].empty else [own]
        cuts = [saliency.map > level for level in self._levels]
        found = [(prompts_from_region(of, saliency.map, **self._prompts), of) for of in cuts]
        return [each for each in found if not each[0].empty] or [own]


def _check_levels(levels: Any) -> tuple[float, ...]:
    """The levels at which the map is cut for prompts: one or several, in order; none where it is empty.

    Raises:
        UsageError: they are not numbers between 0 and 1.
    """
    found = tuple(levels) if isinstance(levels, (list, tuple)) else (levels,)
    if not all(isinstance(each, (int, float)) and 0 < each < 1 for each in found):
        raise UsageError(f"prompts: levels is {levels!r}; expected numbers between 0 and 1, both excluded")
    return found
