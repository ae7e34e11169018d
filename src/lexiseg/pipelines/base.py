"""What every pipeline shares: phrases in, a scan slice by slice, one finding for each phrase out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.models.protocols import Encoder, Segmenter
from lexiseg.pipelines.cached_segmenter import AskOnce
from lexiseg.pipelines.consistency import Retry, VolumeSettings, make_consistent
from lexiseg.pipelines.fusion import MaskSettings, draw, questions_of
from lexiseg.pipelines.preset import SECTIONS, Preset, keywords, presence_threshold, section
from lexiseg.pipelines.results import MAX_LABELS, Answer, Result, SliceAnswers, dice, label_map, to_finding
from lexiseg.regions.region import Region
from lexiseg.saliency.evidence import PresenceSettings
from lexiseg.text.embedding import PhraseEmbedding, embed_phrases
from lexiseg.text.phrases import check_phrase, phrase_set
from lexiseg.values.scan import Prompts, Scan
from lexiseg.values.slices import iterate_slices


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


Progress = Callable[[float], None]
"""Called with the share of a scan's work that is done, 0 to 1."""
Segment = Callable[[int, Scan, tuple[str, ...], Clock], SliceAnswers]


class TextPipeline(ABC):
    """A scan and phrases to a `Result`.  A new pipeline is a subclass with two hooks.

    Attributes:
        sections: the preset's sections that the pipeline reads; settings in any other are refused.
        needs_encoder: False for a pipeline that does not look at the phrase.
        needs_truth: the pipeline is a yardstick that is told the true mask, as `truth=` of its call; no other
            pipeline ever sees one.
    """

    sections: ClassVar[tuple[str, ...]]
    needs_encoder: ClassVar[bool] = True
    needs_truth: ClassVar[bool] = False

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        """Check the preset's settings and keep the models.

        Raises:
            UsageError: a setting that its stage does not have, or a value that it cannot take.
        """
        self.preset, self.encoder, self.segmenter = preset, encoder, segmenter
        self._embedded: dict[str, PhraseEmbedding] = {}
        idle = [name for name in SECTIONS if name not in self.sections and getattr(preset, name)]
        if idle:
            raise UsageError(
                f"the pipeline {preset.pipeline!r} reads no section {', '.join(idle)}; "
                f"expected among {', '.join(self.sections)}"
            )
        with section("phrases", preset.phrases, ("ensemble",)):
            self._ensemble = preset.phrases.get("ensemble", False)
            if not isinstance(self._ensemble, bool):
                raise UsageError(f"phrases: ensemble is {self._ensemble!r}; expected true or false")
        with section("mask", preset.mask, keywords(MaskSettings)):
            self._mask = MaskSettings(**preset.mask)
        with section("presence", preset.presence, ("threshold", *keywords(PresenceSettings))):
            presence = dict(preset.presence)
            self.threshold = presence_threshold(presence.pop("threshold", None))
            self._presence = PresenceSettings(**presence)
        with section("volume", preset.volume, keywords(VolumeSettings)):
            self._volume = VolumeSettings(**preset.volume)
        self._check(preset)

    @abstractmethod
    def _check(self, preset: Preset) -> None:
        """Hook: make every stage of one's own, or try it on nothing, so that a wrong setting is told before
        the first scan.
        """

    @abstractmethod
    def _segment(self, index: int, scan: Scan, asked: tuple[str, ...], clock: Clock) -> SliceAnswers:
        """Hook: all phrases in one slice, the `index`-th."""

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
            keep_stages: keep what each stage made of each slice in the result.
            progress: called with the share done.

        Raises:
            BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, or is asked
                twice.
        """
        return self._run(scan, phrases, self._segment, keep_stages=keep_stages, progress=progress)

    def _run(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        segment: Segment,
        *,
        keep_stages: bool,
        progress: Progress | None,
    ) -> Result:
        asked = check_phrases(phrases)
        clock = Clock()
        slices = list(iterate_slices(scan))
        done: list[SliceAnswers] = []
        for index, each in enumerate(slices):
            answers = segment(index, each, asked, clock)
            # A slice's proposals are many masks: a volume's together would fill the memory.
            done.append(answers if keep_stages else replace(answers, proposals=None))
            if progress is not None:
                progress((index + 1) / len(slices))
        retry = self._retry(slices, clock)
        by_phrase = [
            make_consistent([answers.items[k] for answers in done], self._volume, retry) for k in range(len(asked))
        ]
        findings = tuple(
            to_finding(text, answers, volume=scan.volume, threshold=self.threshold, keep=keep_stages)
            for text, answers in zip(asked, by_phrase, strict=True)
        )
        weights = [_stack([answer.region.probability for answer in each], scan.volume) for each in by_phrase]
        return Result(
            id=scan.id,
            findings=findings,
            mask=label_map([finding.mask for finding in findings], weights, asked),
            seconds=clock.seconds(),
            provenance=self.provenance,
            proposals=tuple(answers.proposals for answers in done if answers.proposals is not None),
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Preset and weights, as plain values."""
        models = {}
        for role, model in (("encoder", self.encoder), ("segmenter", self.segmenter)):
            weights = getattr(model, "weights", None)
            models[role] = weights.as_dict() if weights is not None else {"name": model.name}
        return {"preset": self.preset.as_dict(), **models}

    def _embed(self, asked: tuple[str, ...]) -> list[PhraseEmbedding]:
        """The phrases as vectors; each is encoded once for all slices and scans."""
        new = [phrase_set(text, ensemble=self._ensemble) for text in asked if text not in self._embedded]
        if new:
            self._embedded |= {phrase.text: phrase for phrase in embed_phrases(self.encoder, new)}
        return [self._embedded[text] for text in asked]

    def _retry(self, slices: Sequence[Scan], clock: Clock) -> Retry | None:
        """How a slice is drawn once more from its neighbours' prompts; None where no segmenter draws."""
        if self._mask.final == "region":
            return None

        def again(index: int, prompts: Prompts, expected: Region, gap: Answer) -> Answer:
            pixels = slices[index].pixels
            segmenter = AskOnce(self.segmenter)
            with clock("segmenter"):
                questions = questions_of(segmenter, pixels, prompts, self._mask)
            with clock("mask"):
                drawn = draw(segmenter, questions, expected, self._mask)
            return replace(
                gap, region=expected, prompts=prompts, drawn=drawn, agreement=dice(drawn.mask, expected.mask)
            )

        return again


def check_phrases(phrases: str | Sequence[str]) -> tuple[str, ...]:
    """The phrases as they are asked, outer and repeated spaces removed.

    Raises:
        BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, or is asked twice.
    """
    asked = tuple(check_phrase(text) for text in ((phrases,) if isinstance(phrases, str) else phrases))
    if not asked:
        raise BadPhrase("no phrase was given; say what to look for, for example 'breast tumor'")
    if len(asked) > MAX_LABELS:
        raise BadPhrase(f"{len(asked)} phrases were asked at once; expected at most {MAX_LABELS}")
    repeated = sorted({text for text in asked if asked.count(text) > 1})
    if repeated:
        raise BadPhrase(f"phrase {repeated[0]!r} is asked twice; name each target once")
    return asked


def _stack(slices: Sequence[np.ndarray], volume: bool) -> Any:
    return np.stack(slices) if volume else slices[0]
