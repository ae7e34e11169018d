"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.models.encoder import Encoder
from lexiseg.models.segmenter import Segmenter
from lexiseg.pipelines.drawing import Drawn, MaskSettings, draw
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.result import Finding, Result, dice, label_map
from lexiseg.prompts import PhraseEmbedding, embed_phrases, phrase_set
from lexiseg.regions import Region, prompts_from_region, refine
from lexiseg.saliency import PresenceSettings, make_method, presence_score
from lexiseg.scans import Prompts, Saliency, Scan, iterate_slices

Progress = Callable[[float], None]
"""Called with the share of a scan's work that is done, 0 to 1."""


@dataclass(frozen=True, eq=False)
class _Slice:
    """One phrase in one slice, before slices become a volume's answer."""

    saliency: Saliency
    region: Region
    prompts: Prompts
    drawn: Drawn
    presence: float
    present: bool


class MedclipSam:
    """Text to mask as MedCLIP-SAM does it (Koleilat et al., MICCAI 2024, zero-shot stage).

    saliency of the phrase -> refined region -> boxes -> the segmenter's mask.  Volumes go slice by slice;
    a slice without the target stays empty.
    """

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        """Check the preset's settings and keep the models.

        Raises:
            UsageError: a setting that its stage does not have, or a value that it cannot take.
        """
        self.preset, self.encoder, self.segmenter = preset, encoder, segmenter
        settings = dict(preset.saliency)
        self._method = make_method(settings.pop("method", "gscorecam"), **settings)
        presence = dict(preset.presence)
        threshold = presence.pop("threshold", None)
        if threshold is not None and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise UsageError(f"presence: threshold is {threshold!r}; expected 0 to 1, or null for none")
        self.threshold: float | None = threshold
        try:
            self._presence = PresenceSettings(**presence)
            self._phrases: Callable[[str], Any] = lambda text: phrase_set(text, **preset.phrases)
            self._phrases("check")
            self._mask = MaskSettings(**preset.mask)
        except TypeError as error:
            raise UsageError(f"preset {preset.name}: {error}") from error
        self._embedded: dict[str, PhraseEmbedding] = {}
        # a dry run of the small stages, so that a wrong setting is told before the first scan
        nothing = Saliency(np.zeros((2, 2), np.float32), "check", 0.0)
        try:
            region = refine(nothing, nothing.map, **preset.regions)
            prompts_from_region(region.mask, nothing.map, **preset.prompts)
        except TypeError as error:
            raise UsageError(f"preset {preset.name}: {error}") from error

    def __call__(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Segment a scan.

        Args:
            scan: an image, or a volume, which is worked slice by slice.
            phrases: one or several; several give a label map too.
            keep_stages: keep each slice's saliency and region in the findings.
            progress: called with the share done.

        Raises:
            BadPhrase: a phrase is empty or has no letter, or is asked twice.
        """
        asked = (phrases,) if isinstance(phrases, str) else tuple(phrases)
        clock = Clock()
        with clock("text"):
            embedded = self._embed(asked)
        slices = list(iterate_slices(scan))
        answers: list[list[_Slice]] = []
        for index, each in enumerate(slices):
            answers.append(self._segment(each, embedded, clock))
            if progress is not None:
                progress((index + 1) / len(slices))
        findings = tuple(
            self._finding(text, [answer[k] for answer in answers], scan.volume, keep_stages)
            for k, text in enumerate(asked)
        )
        weights = [
            _stack([answer[k].region.probability for answer in answers], scan.volume)
            for k in range(len(asked))
        ]
        mask = label_map([finding.mask for finding in findings], weights, asked)
        return Result(scan.id, findings, mask, clock.seconds(), self.provenance)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Preset and weights, as plain values."""
        models = {}
        for role, model in (("encoder", self.encoder), ("segmenter", self.segmenter)):
            weights = getattr(model, "weights", None)
            models[role] = weights.as_dict() if weights is not None else {"name": model.name}
        return {"preset": self.preset.as_dict(), **models}

    def _embed(self, asked: tuple[str, ...]) -> list[PhraseEmbedding]:
        if not asked:
            raise UsageError("no phrase was given; say what to look for, for example 'breast tumor'")
        repeated = {text for text in asked if asked.count(text) > 1}
        if repeated:
            raise UsageError(f"phrase {sorted(repeated)[0]!r} is asked twice; name each target once")
        new = [self._phrases(text) for text in asked if text not in self._embedded]
        if new:
            self._embedded |= {phrase.text: phrase for phrase in embed_phrases(self.encoder, new)}
        return [self._embedded[text] for text in asked]

    def _segment(self, scan: Scan, embedded: list[PhraseEmbedding], clock: Clock) -> list[_Slice]:
        """All phrases in one slice; the segmenter encodes it once at most."""
        with clock("saliency"):
            found = self._method.explain(self.encoder, scan.pixels, embedded)
        encoded = None
        answers = []
        for saliency in found:
            with clock("region"):
                region = refine(saliency, scan.pixels, **self.preset.regions)
                prompts = prompts_from_region(region.mask, saliency.map, **self.preset.prompts)
            presence = presence_score(saliency.evidence, settings=self._presence)
            present = not prompts.empty and not (self.threshold is not None and presence < self.threshold)
            drawn = Drawn.nothing(scan.pixels.shape[:2])
            if present:
                if encoded is None and self._mask.final == "segmenter":
                    with clock("segmenter"):
                        encoded = self.segmenter.encode(scan.pixels)
                with clock("mask"):
                    drawn = draw(self.segmenter, encoded, prompts, region, self._mask)
            present = present and bool(drawn.mask.any())
            answers.append(
                _Slice(saliency, region, prompts if present else Prompts(), drawn, presence, present)
            )
        return answers

    def _finding(self, text: str, slices: list[_Slice], volume: bool, keep: bool) -> Finding:
        """One phrase over all slices: present where any slice has it."""
        presences = [s.presence for s in slices if not math.isnan(s.presence)]
        presence = max(presences) if presences else math.nan
        shown = [s for s in slices if s.present]
        if shown:
            sizes = np.array([s.drawn.mask.sum() for s in shown], float)
            estimate = float(np.average([s.drawn.iou for s in shown], weights=sizes))
            agreement = float(np.average([dice(s.drawn.mask, s.region.mask) for s in shown], weights=sizes))
            confidence = math.sqrt(max(0.0, min(1.0, estimate)) * agreement)
        else:
            confidence = 1 - presence
        return Finding(
            phrase=text,
            mask=_stack([s.drawn.mask for s in slices], volume),
            present=bool(shown),
            presence=presence,
            confidence=confidence,
            prompts=tuple(s.prompts for s in slices),
            saliency=tuple(s.saliency for s in slices) if keep else (),
            region=tuple(s.region for s in slices) if keep else (),
        )


def _stack(slices: list[np.ndarray], volume: bool) -> Any:
    return np.stack(slices) if volume else slices[0]


class Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._spent: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time inside the block as `stage`'s."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[stage] = self._spent.get(stage, 0.0) + time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, and of everything since the clock was made ("total")."""
        return {**self._spent, "total": time.perf_counter() - self._began}
