"""What every pipeline shares: phrases in, planes, one target for each phrase out; no question is asked twice."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lexiseg.errors import BadPhrase
from lexiseg.models.protocols import Decoded, EncodedImage, Encoder, Segmenter
from lexiseg.pipelines.fusion import Redraw, encode_queries, make_consistent, segment_queries
from lexiseg.pipelines.preset import PIPELINE_SECTIONS, MaskSettings, Preset
from lexiseg.pipelines.results import MAX_LABELS, PlaneResults, Result, SliceResult, dice, label_map, target_result
from lexiseg.saliency.kinds import KindGate, bundled_gate
from lexiseg.text.known import Vocabulary, bundled_vocabulary, refuse_several
from lexiseg.text.phrases import PhraseEmbedding, check_phrase, embed_phrases, phrase_set
from lexiseg.values.arrays import FloatArray
from lexiseg.values.masks import Prompts, Region
from lexiseg.values.scans import Plane, Planes, Scan

Key = tuple[tuple[int, ...], bytes]


class EncodingCache:
    """Encodings of planes and of windows in them, the least recently used forgotten first; for several threads.

    An encoding is found by its pixels, so a scan seen through another window is another one.

    Args:
        limit: bytes that are kept at most; one encoding is kept whatever its size.
    """

    def __init__(self, limit: int = 2**28) -> None:
        self._limit, self._used = limit, 0
        self._kept: OrderedDict[Key, tuple[EncodedImage, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> EncodedImage | None:
        """The encoding of a key; None where it is not kept."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Key, image: EncodedImage) -> None:
        """Keep an encoding."""
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = image, image.nbytes
            self._used += image.nbytes
            while self._used > self._limit and len(self._kept) > 1:
                _, (_, size) = self._kept.popitem(last=False)
                self._used -= size

    @property
    def nbytes(self) -> int:
        """Bytes of all encodings that are kept."""
        return self._used

    def __len__(self) -> int:
        return len(self._kept)


class CachedSegmenter:
    """A `Segmenter` around another one, which keeps its answers, and encodings of a plane and its windows.

    It is made anew for each plane and used by one thread, so that no answer outlives it.

    Args:
        segmenter: that does the work.
        encodings: that outlive it; its own when None.
    """

    def __init__(self, segmenter: Segmenter, encodings: EncodingCache | None = None) -> None:
        self._segmenter = segmenter
        self._encodings = encodings
        self._own: dict[Key, EncodedImage] = {}
        # the encoding is kept with its answer: while it lives, no other one has its id
        self._answers: dict[Hashable, tuple[EncodedImage, Decoded]] = {}

    @property
    def name(self) -> str:
        """The name of the segmenter inside."""
        return self._segmenter.name

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._segmenter.device

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """As the segmenter does, or what it gave for the same pixels before."""
        key = pixels.shape, hashlib.blake2b(pixels.tobytes()).digest()
        found = self._own.get(key)
        if found is None and self._encodings is not None:
            found = self._encodings.get(key)
        if found is None:
            found = self._segmenter.encode(pixels)
            if self._encodings is not None:
                self._encodings.put(key, found)
        self._own[key] = found
        return found

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """As the segmenter does, or what it answered to the same prompts before."""
        asked = (None if each is None else each.tobytes() for each in (boxes, points, labels))
        key = (id(image), multimask, *asked)
        if key in self._answers:
            return self._answers[key][1]
        decoded = self._segmenter.decode(image, boxes=boxes, points=points, labels=labels, multimask=multimask)
        # a proposal generator asks hundreds at once and never again: keeping those would only fill memory
        if len(decoded.logits) == 1:
            self._answers[key] = image, decoded
        return decoded

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """As the segmenter does."""
        return self._segmenter.upsample(logits, image)


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


SegmentPlane = Callable[[Plane, tuple[str, ...], CachedSegmenter, StageTimer], PlaneResults]


class TextPipeline(ABC):
    """A scan and phrases to a `Result`.  A new pipeline is a subclass with one hook.

    One loaded pipeline may be shared by several threads.

    Args:
        preset: its settings, which are read when the pipeline is made.
        encoder: the vision-language model.
        segmenter: the promptable segmenter.

    Attributes:
        needs_encoder: False for a pipeline that does not look at the phrase.
        needs_truth: the pipeline is a yardstick that is told the true mask, as `truth=` of its call; no other
            pipeline ever sees one.
    """

    needs_encoder: ClassVar[bool] = True
    needs_truth: ClassVar[bool] = False

    def __init__(self, preset: Preset, encoder: Encoder, segmenter: Segmenter) -> None:
        self.preset, self.encoder, self.segmenter = preset, encoder, segmenter
        self._phrases: OrderedDict[str, PhraseEmbedding] = OrderedDict()
        self._lock = Lock()
        self._volume = preset["volume"]

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

    def __call__(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Progress | None = None,
        encodings: EncodingCache | None = None,
    ) -> Result:
        """Segment a scan.

        Args:
            scan: an image, or a volume, which is worked plane by plane.
            phrases: one or several; several give a label map too.
            keep_stages: keep what each stage made of each plane in the result.
            progress: called with the share done.
            encodings: kept from call to call; None keeps them for a plane's time alone.

        Raises:
            BadPhrase: no phrase or too many for a label map; or one is empty, has no letter, is asked twice, or
                lists several things that the encoder knows one by one.
            UnreadableScan: the window means nothing for the scan's values.
        """
        return self._run(
            scan, phrases, self.segment_plane, keep_stages=keep_stages, progress=progress, encodings=encodings
        )

    def planes(self, scan: Scan) -> Planes:
        """The planes of a scan as this pipeline sees them, by its preset's plane and window."""
        return scan.planes(self._volume.plane, self._volume.window)

    def _run(
        self,
        scan: Scan,
        phrases: str | Sequence[str],
        segment: SegmentPlane,
        *,
        keep_stages: bool,
        progress: Progress | None,
        encodings: EncodingCache | None,
    ) -> Result:
        asked = check_phrases(phrases)
        known = [self._knows(text) for text in asked]
        timer = StageTimer()
        planes = self.planes(scan)
        keep = keep_stages or len(planes) == 1
        done: list[PlaneResults] = []
        for plane in planes:
            answers = segment(plane, asked, CachedSegmenter(self.segmenter, encodings), timer)
            done.append(answers if keep else answers.light())
            if progress is not None:
                progress((plane.index + 1) / len(planes))
        redraw = self._redraw(planes, timer, encodings)
        by_phrase = [
            make_consistent([answers.items[k] for answers in done], self._volume, redraw)
            if known[k]
            else [answers.items[k].emptied() for answers in done]
            for k in range(len(asked))
        ]
        threshold = self.threshold
        return Result(
            id=scan.id,
            targets=tuple(
                target_result(text, slices, planes, threshold=threshold, keep=keep_stages, known=sure)
                for text, slices, sure in zip(asked, by_phrase, known, strict=True)
            ),
            mask=label_map(by_phrase, planes, asked),
            seconds=timer.seconds(),
            provenance=self.provenance,
            planes=planes.record(),
            proposals=tuple(each.proposals for each in done if each.proposals is not None) if keep_stages else (),
        )

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the encoder knows; None of encoders that were taught whatever captions say."""
        weights = getattr(self.encoder, "weights", None)
        return bundled_vocabulary() if getattr(weights, "name", "") == "bundled" else None

    @property
    def kinds(self) -> KindGate | None:
        """Which kind of scan can hold what, for the encoder whose weights it was fitted to; None of others."""
        if self.vocabulary is None:
            return None
        gate, weights = bundled_gate(), getattr(self.encoder, "weights", None)
        return gate if getattr(weights, "sha256", "") == gate.encoder else None

    def _knows(self, text: str) -> bool:
        vocabulary = self.vocabulary
        if vocabulary is None:
            return True
        refuse_several(text, vocabulary)
        return vocabulary.knows(text)

    @property
    def threshold(self) -> float | None:
        """The presence below which a phrase is absent; None for none."""
        return None

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
        new = [phrase_set(text, ensemble=self.preset["phrases"].ensemble) for text in asked if text not in known]
        if new:
            known |= {phrase.text: phrase for phrase in embed_phrases(self.encoder, new)}
        with self._lock:
            for text in asked:
                self._phrases[text] = known[text]
                self._phrases.move_to_end(text)
            while len(self._phrases) > _PHRASES_KEPT:
                self._phrases.popitem(last=False)
        return [known[text] for text in asked]

    def _redraw(self, planes: Planes, timer: StageTimer, encodings: EncodingCache | None) -> Redraw | None:
        """How a plane is drawn once more from its neighbours' prompts; None where no segmenter draws."""
        sections = PIPELINE_SECTIONS[self.preset.pipeline]
        settings = self.preset["mask"] if "mask" in sections else MaskSettings()
        if settings.fusion == "region":
            return None

        def again(index: int, prompts: Prompts, expected: Region, gap: SliceResult) -> SliceResult:
            segmenter = CachedSegmenter(self.segmenter, encodings)
            with timer("segmenter"):
                queries = encode_queries(segmenter, planes[index].pixels, prompts, settings)
            with timer("mask"):
                estimate = segment_queries(segmenter, queries, expected, settings)
            return replace(
                gap,
                prompts=prompts,
                estimate=estimate,
                weights=expected.probability[estimate.mask],
                agreement=dice(estimate.mask, expected.mask),
                region=None if gap.region is None else expected,
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
