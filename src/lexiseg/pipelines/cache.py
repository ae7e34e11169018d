"""What was encoded and answered is kept: of planes and windows in them, and of prompts."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.protocols import Decoded, EncodedImage, ManyDecoder, Segmenter
from lexiseg.values.arrays import BoolArray, FloatArray

Key = tuple[str, tuple[int, ...], bytes]


class EncodingCache:
    """Encodings of planes and of windows in them, the least recently used forgotten first; for several threads.

    An encoding is found by its segmenter's name and its pixels, so a scan seen through another window is another one.

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

    It is made anew for each plane, or for planes that are worked on at once, and used by one thread, so that no
    answer outlives it.

    Args:
        segmenter: that does the work.
        encodings: that outlive it; its own when None.
    """

    def __init__(self, segmenter: Segmenter, encodings: EncodingCache | None = None) -> None:
        self._segmenter = segmenter
        self._encodings = encodings
        self._own: dict[Key, EncodedImage] = {}
        # By where pixels lie: while they are kept here, nothing else lies there.
        self._keys: dict[Hashable, tuple[FloatArray, Key]] = {}
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

    @property
    def takes_masks(self) -> bool:
        """Whether the segmenter reads masks as prompts."""
        return self._segmenter.takes_masks

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """As the segmenter does, or what it gave for the same pixels before."""
        key = self._key(pixels)
        found = self._found(key)
        if found is None:
            found = self._keep(key, self._segmenter.encode(np.ascontiguousarray(pixels)))
        self._own[key] = found
        return found

    def encode_many(self, scans: Sequence[FloatArray], at_once: int = 0) -> list[EncodedImage]:
        """As the segmenter does, at most so many at once (0: as it pleases), of those that it did not encode before."""
        keys = [self._key(pixels) for pixels in scans]
        new = {key: pixels for key, pixels in zip(keys, scans, strict=True) if self._found(key) is None}
        waiting = list(new.items())
        size = at_once or max(1, len(waiting))
        for start in range(0, len(waiting), size):
            part = waiting[start : start + size]
            made = self._segmenter.encode_many([np.ascontiguousarray(pixels) for _, pixels in part])
            for (key, _), image in zip(part, made, strict=True):
                self._own[key] = self._keep(key, image)
        # What the shared cache forgot meanwhile is encoded once more.
        return [self._found(key) or self.encode(pixels) for key, pixels in zip(keys, scans, strict=True)]

    def _found(self, key: Key) -> EncodedImage | None:
        found = self._own.get(key)
        return self._encodings.get(key) if found is None and self._encodings is not None else found

    def _keep(self, key: Key, image: EncodedImage) -> EncodedImage:
        if self._encodings is not None:
            self._encodings.put(key, image)
        return image

    def decode_boxes(self, questions: Sequence[tuple[EncodedImage, np.ndarray]], *, multimask: bool = False) -> None:
        """Answer several questions of one box (1, 4) each, at once where the segmenter can; `decode` then has them."""
        if not isinstance(self._segmenter, ManyDecoder):
            return
        new = {
            key: question
            for question in questions
            if (key := _question(question[0], multimask, question[1])) not in self._answers
        }
        if len(new) < 2:
            return
        images = [image for image, _ in new.values()]
        found = self._segmenter.decode_many(
            images, np.concatenate([boxes for _, boxes in new.values()]), multimask=multimask
        )
        self._answers |= dict(zip(new, zip(images, found, strict=True), strict=True))

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """As the segmenter does, or what it answered to the same prompts before."""
        key = _question(image, multimask, boxes, points, labels, masks)
        if key in self._answers:
            return self._answers[key][1]
        extra = {} if masks is None else {"masks": masks}
        decoded = self._segmenter.decode(image, boxes=boxes, points=points, labels=labels, multimask=multimask, **extra)
        # a proposal generator asks hundreds at once and never again: keeping those would only fill memory
        if len(decoded.logits) == 1:
            self._answers[key] = image, decoded
        return decoded

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """As the segmenter does."""
        return self._segmenter.upsample(logits, image)

    def shrink(self, mask: BoolArray, image: EncodedImage) -> np.ndarray:
        """As the segmenter does."""
        return self._segmenter.shrink(mask, image)

    def _key(self, pixels: FloatArray) -> Key:
        """What pixels are known by; those of a view that was asked before are not read again, which took a tenth of a
        scan's time.
        """
        place = pixels.__array_interface__["data"][0], pixels.shape, pixels.strides
        if place not in self._keys:
            # Presets with other segmenters may share a cache: what one encoded means nothing to another.
            key = self._segmenter.name, pixels.shape, hashlib.blake2b(np.ascontiguousarray(pixels).data).digest()
            self._keys[place] = pixels, key
        return self._keys[place][1]


def _question(image: EncodedImage, multimask: bool, *prompts: np.ndarray | None) -> Hashable:
    asked = [None if each is None else each.tobytes() for each in prompts]
    return (id(image), multimask, *asked, *[None] * (4 - len(asked)))
