"""MedCLIP-SAM: a phrase's saliency, refined to a region, boxed, and outlined by SAM."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.models.encoder import Encoder
from lexiseg.models.segmenter import Segmenter
from lexiseg.pipelines.drawing import Drawn, MaskSettings, draw
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.result import MAX_LABELS, Finding, Result, dice, label_map
from lexiseg.prompts import PhraseEmbedding, check_phrase, embed_phrases, phrase_set
from lexiseg.regions import Region, prompts_from_region, refine
from lexiseg.saliency import PresenceSettings, frame_scan, make_method, presence_score
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

    Two judges must agree before a phrase is present: presence reaches the preset's threshold (where it has
    one), and a region large enough to be asked for stands out and is drawn.  Presence itself is evidence and
    is reported as measured, whatever was drawn: it keeps ranking scans, and another threshold needs no
    second run.  Where the judges disagree the answer is absent, at a confidence of at most one half.
    """

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        """Check the preset's settings and keep the models.

        Raises:
            UsageError: a setting that its stage does not have, or a value that it cannot take.
        """
        self.preset, self.encoder, self.segmenter = preset, encoder, segmenter
        self._embedded: dict[str, PhraseEmbedding] = {}
        # Every stage is made, or tried on nothing, so that a wrong setting is told before the first scan.
        nothing = Saliency(np.zeros((2, 2), np.float32), "check", 0.0)
        with _section("phrases", preset.phrases, ("ensemble",)):
            self._ensemble = preset.phrases.get("ensemble", False)
            if not isinstance(self._ensemble, bool):
                raise UsageError(f"phrases: ensemble is {self._ensemble!r}; expected true or false")
        with _section("saliency", preset.saliency):
            settings = dict(preset.saliency)
            self._method = make_method(settings.pop("method", "gscorecam"), **settings)
            method = self._method
            frame_scan(
                (2, 2), size=encoder.input_size, mode=method.framing, tile=method.tile, overlap=method.overlap
            )
        with _section("regions", preset.regions):
            region = refine(nothing, nothing.map, **preset.regions)
        with _section("prompts", preset.prompts, _keywords(prompts_from_region)):
            prompts_from_region(region.mask, nothing.map, **preset.prompts)
        with _section("mask", preset.mask, _keywords(MaskSettings)):
            self._mask = MaskSettings(**preset.mask)
        with _section("presence", preset.presence, ("threshold", *_keywords(PresenceSettings))):
            presence = dict(preset.presence)
            self.threshold = _threshold(presence.pop("threshold", None))
            self._presence = PresenceSettings(**presence)

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
            BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, or is asked
                twice.
        """
        asked = _asked(phrases)
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
        new = [phrase_set(text, ensemble=self._ensemble) for text in asked if text not in self._embedded]
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
                if encoded is None and self._mask.final != "region":
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
            if self.threshold is not None and presence >= self.threshold:
                confidence = min(confidence, 0.5)
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


def _asked(phrases: str | Sequence[str]) -> tuple[str, ...]:
    asked = tuple(check_phrase(text) for text in ((phrases,) if isinstance(phrases, str) else phrases))
    if not asked:
        raise BadPhrase("no phrase was given; say what to look for, for example 'breast tumor'")
    if len(asked) > MAX_LABELS:
        raise BadPhrase(f"{len(asked)} phrases were asked at once; expected at most {MAX_LABELS}")
    repeated = sorted({text for text in asked if asked.count(text) > 1})
    if repeated:
        raise BadPhrase(f"phrase {repeated[0]!r} is asked twice; name each target once")
    return asked


def _threshold(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= 1):
        raise UsageError(f"presence: threshold is {value!r}; expected 0 to 1, or null for none")
    return None if value is None else float(value)


def _keywords(stage: Callable[..., Any]) -> tuple[str, ...]:
    """The keyword-only arguments of a function or of a dataclass's making."""
    return tuple(p.name for p in inspect.signature(stage).parameters.values() if p.kind is p.KEYWORD_ONLY)


@contextmanager
def _section(name: str, settings: Mapping[str, Any], known: tuple[str, ...] = ()) -> Iterator[None]:
    """Tell what is wrong with a preset's section as the person who wrote it knows it.

    Args:
        name: the section's.
        settings: its content.
        known: the settings that there are; empty where the block itself refuses others.
    """
    unknown = sorted(repr(key) for key in settings if known and key not in known)
    if unknown:
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; expected among {', '.join(known)}")
    try:
        yield
    except TypeError as error:
        raise UsageError(
            f"{name}: {dict(settings)!r} holds a name or a value of the wrong kind ({error})"
        ) from error


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
