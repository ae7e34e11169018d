"""What every pipeline shares: phrases in, planes, one target for each phrase out; no question is asked twice."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, ClassVar

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.models.protocols import Encoder, Segmenter, word_judge
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.fusion import settings_for
from lexiseg.pipelines.packed import Journal, PackedSlices, pack
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MAX_LABELS, PlaneResults, Result, SliceResult, label_map, target_result
from lexiseg.pipelines.settings import MaskSettings, PropagationSettings
from lexiseg.pipelines.sides import planes_with_sides, shows_no_side
from lexiseg.pipelines.volume import VolumeSteps
from lexiseg.saliency.kinds import KindGate, read_gate
from lexiseg.text.embedding import PhraseEmbedding, embed_phrases
from lexiseg.text.known import Vocabulary, bundled_vocabulary, refuse_several
from lexiseg.text.phrases import PhraseSet, check_phrase, default_library, phrase_set
from lexiseg.text.sides import names_one_side
from lexiseg.values.scans import Plane, Planes, Scan

Progress = Callable[[float], None]
"""Called with the share of a scan's work that is done, 0 to 1."""

_PHRASES_KEPT = 4096


class StageTimer:
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
        """Seconds of each stage, and of everything since the timer was made ("total")."""
        return {**self._spent, "total": time.perf_counter() - self._began}


SegmentPlanes = Callable[[Sequence[Plane], tuple[str, ...], CachedSegmenter, StageTimer], list[PlaneResults]]


class TextPipeline(ABC):
    """A scan and phrases to a `Result`.  A new pipeline is a subclass with one hook.

    One loaded pipeline may be shared by several threads.

    Args:
        preset: its settings, which are read when the pipeline is made.
        encoder: the vision-language model.
        segmenter: the promptable segmenter.

    Raises:
        UsageError: the preset asks for what the pipeline cannot do.

    Attributes:
        needs_encoder: False for a pipeline that does not look at the phrase.
        reads_text: the segmenter reads the phrase itself (a `TextSegmenter`).
        needs_truth: the pipeline is a yardstick that is told the true mask, as `truth=` of its call; no other
            pipeline ever sees one.
        journals: it writes a volume's finished slices down where it is told to.
    """

    needs_encoder: ClassVar[bool] = True
    reads_text: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = False
    journals: ClassVar[bool] = True

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        self.preset, self.encoder, self.segmenter = preset, encoder, segmenter
        self._phrases: OrderedDict[str, PhraseEmbedding] = OrderedDict()
        self._lock = Lock()
        self._volume = preset["volume"]
        if self._volume.propagate and not (self.needs_encoder or self.reads_text):
            raise UsageError(
                f"volume: propagate is true, and the pipeline {preset.pipeline!r} does not say how sure it is of a "
                "slice; expected one that reads the phrase"
            )

    @abstractmethod
    def segment_plane(
        self, plane: Plane, asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> PlaneResults:
        """Hook: all phrases in one plane.

        Args:
            plane: what is looked at.
            asked: the phrases.
            segmenter: the pipeline's, which answers nothing twice.
            timer: where the time goes.
        """

    def segment_planes(
        self, planes: Sequence[Plane], asked: tuple[str, ...], segmenter: CachedSegmenter, timer: StageTimer
    ) -> list[PlaneResults]:
        """Hook: all phrases in a few planes of one shape; by default one plane after the other."""
        return [self.segment_plane(plane, asked, segmenter, timer) for plane in planes]

    def __call__(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Progress | None = None,
        encodings: EncodingCache | None = None,
        journal: Journal | None = None,
    ) -> Result:
        """Segment a scan.

        Args:
            scan: an image, or a volume, which is worked plane by plane.
            phrases: one or several; several give a label map too.
            keep_stages: keep what each stage made of each plane in the result.
            progress: called with the share done.
            encodings: kept from call to call; None keeps them for a plane's time alone.
            journal: where a volume's finished slices are written down, and what it has of them already is not
                done again; without effect where stages are kept, and for an image.

        Raises:
            BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, is asked twice, or
                lists several things that the encoder knows one by one.
            UnreadableScan: the window means nothing for the scan's values.
        """
        return self._run(
            scan,
            phrases,
            self.segment_planes,
            keep_stages=keep_stages,
            progress=progress,
            encodings=encodings,
            journal=journal,
        )

    def planes(self, scan: Scan, phrases: str | Sequence[str] = ()) -> Planes:
        """The planes of a scan as this pipeline sees them, by its preset's plane and window.

        Args:
            scan: an image or a volume.
            phrases: what is asked: one that names a side is not asked in sagittal planes, see `planes_with_sides`.

        Raises:
            BadPhrase: a phrase names a side, and there are no planes that show it.
            UnreadableScan: the window means nothing for the scan's values.
        """
        settings = self._volume
        planes = scan.planes(settings.plane, settings.window)
        if not shows_no_side(planes) or not (self.needs_encoder or self.reads_text):
            return planes
        sided = next((text for text in (check_phrases(phrases) if phrases else ()) if self._sided(text)), None)
        return planes if sided is None else planes_with_sides(planes, sided, plane=settings.plane)

    def _sided(self, text: str) -> bool:
        """Whether a phrase names a side, in its own words or as it is read."""
        read_as = None if self.vocabulary is None else self.vocabulary.concept(text)
        return names_one_side(text) or names_one_side(read_as or "")

    def _run(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        segment: SegmentPlanes,
        *,
        keep_stages: bool,
        progress: Progress | None,
        encodings: EncodingCache | None,
        journal: Journal | None = None,
    ) -> Result:
        asked = check_phrases(phrases)
        known = [self._knows(text) for text in asked]
        timer = StageTimer()
        planes = self.planes(scan, asked)
        answers: list[PlaneResults] = []
        packed: list[tuple[bytes, ...]] = []
        light = len(planes) > 1 and not keep_stages
        recalled = journal.recall() if journal is not None and light else {}
        for part in self._parts(len(planes)):
            if light and all(index in recalled for index in part):
                packed += [recalled[index] for index in part]
            else:
                made = segment(
                    [planes[index] for index in part], asked, CachedSegmenter(self.segmenter, encodings), timer
                )
                if light:
                    packed += [self._pack(each) for each in made]
                    for index in part if journal is not None else ():
                        assert journal is not None
                        journal.keep(index, packed[index])
                else:
                    answers += made
            if progress is not None:
                progress(part.stop / len(planes))
        steps = VolumeSteps.of(self, planes, timer, encodings)
        by_phrase: list[Sequence[SliceResult]] = []
        targets = []
        for k, (text, sure) in enumerate(zip(asked, known, strict=True)):
            slices: Sequence[SliceResult] = (
                PackedSlices([each[k] for each in packed]) if light else [each.items[k] for each in answers]
            )
            slices = steps(slices, text) if sure else [each.emptied() for each in slices]
            read_as = None if self.vocabulary is None else self.vocabulary.reading(text)
            found = target_result(text, slices, planes, threshold=self.threshold, keep=keep_stages, known=sure)
            targets.append(replace(found, read_as=read_as))
            # Of several phrases one at a time is held as masks.
            by_phrase.append(PackedSlices([self._pack_one(each, len(asked)) for each in slices]) if light else slices)
        return Result(
            id=scan.id,
            targets=tuple(targets),
            mask=label_map(by_phrase, planes, asked),
            seconds=timer.seconds(),
            provenance=self.provenance,
            planes={**planes.record(), **steps.notes()},
            proposals=tuple(each.proposals for each in answers if each.proposals is not None) if keep_stages else (),
        )

    @property
    def planes_at_once(self) -> int:
        """Planes of a volume that go through the models together where nobody says; a killed run loses as many."""
        return 1 if self.segmenter.device.type == "cpu" else 8

    def _parts(self, count: int) -> list[range]:
        """Planes that go through the models at once, always cut alike: a resumed run sees the same."""
        size = self._volume.batch or self.planes_at_once
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def _pack(self, results: PlaneResults) -> tuple[bytes, ...]:
        return tuple(self._pack_one(each, len(results.items)) for each in results.items)

    def _pack_one(self, of: SliceResult, phrases: int) -> bytes:
        return pack(of, weights=phrases > 1, probability=self._volume.smoothing > 0)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """What the encoder knows; None of encoders that were taught whatever captions say."""
        weights = getattr(self.encoder, "weights", None)
        named = getattr(self.encoder, "begun_from", "") or getattr(weights, "name", "")
        words = bundled_vocabulary() if named == "bundled" else None
        judge = word_judge(self.encoder)
        if judge is None:
            return words
        # Asked again for every slice, and a sentence encoder takes milliseconds.
        hears = lru_cache(maxsize=_PHRASES_KEPT)(judge.names)
        return replace(words or Vocabulary(default_library()), hears=hears, english=judge.words)

    @cached_property
    def kinds(self) -> KindGate | None:
        """Which kind of scan can hold what, for the encoder whose weights it was fitted to; None of others."""
        vocabulary, weights = self.vocabulary, getattr(self.encoder, "weights", None)
        if vocabulary is None or weights is None:
            return None
        gate = read_gate(weights.path.parent)
        return replace(gate, concept=vocabulary.concept) if gate and weights.sha256 == gate.encoder else None

    def _knows(self, text: str) -> bool:
        vocabulary = self.vocabulary
        if vocabulary is None:
            return True
        refuse_several(text, vocabulary)
        return vocabulary.knows(text)

    @property
    def threshold(self) -> float | None:
        """The preset's presence, below which a phrase is absent; None for none."""
        return self.preset.threshold

    @property
    def propagation(self) -> PropagationSettings:
        """When a mask that is carried from plane to plane is lost; those of no preset where it has none."""
        has = self.preset.reads("propagation")
        found: PropagationSettings = self.preset["propagation"] if has else PropagationSettings()
        return found

    def mask_for(self, text: str | None) -> MaskSettings:
        """How a segmenter's answer to a phrase becomes a mask: the preset's settings, as what the phrase names needs
        them; those of no preset where it has none, and as they are where there is no phrase or no encoder reads it.
        """
        settings: MaskSettings = self.preset["mask"] if self.preset.reads("mask") else MaskSettings()
        return settings if text is None or not self.needs_encoder else settings_for(settings, self.embed([text])[0])

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Preset and weights, as plain values."""
        models = {}
        for role, model in (("encoder", self.encoder), ("segmenter", self.segmenter)):
            weights = getattr(model, "weights", None)
            models[role] = weights.as_dict() if weights is not None else {"name": model.name}
        return {"preset": self.preset.as_dict(), **models}

    def embed(self, asked: Sequence[str]) -> list[PhraseEmbedding]:
        """The phrases as vectors; the last some thousand are kept for other planes and scans."""
        with self._lock:
            known = {text: self._phrases[text] for text in asked if text in self._phrases}
        new = [self._worded(text) for text in asked if text not in known]
        if new:
            known |= {phrase.text: phrase for phrase in embed_phrases(self.encoder, new)}
        with self._lock:
            for text in asked:
                self._phrases[text] = known[text]
                self._phrases.move_to_end(text)
            while len(self._phrases) > _PHRASES_KEPT:
                self._phrases.popitem(last=False)
        return [known[text] for text in asked]

    def _worded(self, text: str) -> PhraseSet:
        """A phrase's wordings; where the encoder judges words itself, the name of what the phrase names is enough."""
        words = self.vocabulary if word_judge(self.encoder) is not None else None
        if words is None:
            return phrase_set(text, ensemble=self.preset["phrases"].ensemble)
        named = words.concept(text)
        return phrase_set(text) if named is None else replace(phrase_set(named), text=text, wordings=(named,))


def check_phrases(phrases: str | Sequence[str]) -> tuple[str, ...]:
    """The phrases as they are asked, outer and repeated spaces removed.

    Raises:
        BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, or is asked twice.
    """
    if not isinstance(phrases, (str, Iterable)):
        raise BadPhrase(f"phrases is {phrases!r}; expected a text, or several")
    asked = tuple(check_phrase(text) for text in ((phrases,) if isinstance(phrases, str) else phrases))
    if not asked:
        raise BadPhrase("no phrase was given; say what to look for, for example 'breast tumor'")
    if len(asked) > MAX_LABELS:
        raise BadPhrase(f"{len(asked)} phrases were asked at once; expected at most {MAX_LABELS}")
    folded = [text.casefold() for text in asked]
    repeated = sorted(text for text in asked if folded.count(text.casefold()) > 1)
    if repeated:
        raise BadPhrase(f"phrase {repeated[0]!r} is asked twice; name each target once")
    return asked
