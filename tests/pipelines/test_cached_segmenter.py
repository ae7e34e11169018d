from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from fake_segmenter import FakeSegmenter, Query

from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache


def test_the_same_pixels_are_encoded_once_and_others_anew() -> None:
    inner = FakeSegmenter()
    segmenter = CachedSegmenter(inner)
    scan = np.arange(12, dtype=np.float32).reshape(3, 4)
    first = segmenter.encode(scan)
    window = segmenter.encode(np.ascontiguousarray(scan[1:]))
    assert segmenter.encode(scan.copy()) is first
    assert segmenter.encode(scan[1:]) is window
    assert segmenter.encode(scan.reshape(4, 3)) is not first
    assert len(inner.encoded) == 3


def test_views_of_one_scan_are_read_once_for_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, read = FakeSegmenter(), []
    hashed = hashlib.blake2b
    monkeypatch.setattr(hashlib, "blake2b", lambda content: read.append(content.nbytes) or hashed(content))
    segmenter = CachedSegmenter(inner)
    scan = np.arange(48, dtype=np.float32).reshape(6, 8)
    for _ in range(3):
        segmenter.encode_many([scan[:, :], scan[1:5, 2:6], scan[1:5, 3:7], scan[::2]])
        segmenter.encode(scan[1:5, 2:6])
    assert read == [192, 64, 64, 96]
    assert len(inner.encoded) == 4
    # Turned, a square lies at the same place and has the same shape.
    square = scan[:4, :4]
    assert segmenter.encode(square) is not segmenter.encode(square.T)
    # A scan that is gone leaves its place to no other one.
    other = segmenter.encode((scan + 1)[1:5, 2:6])
    assert other is not segmenter.encode(scan[1:5, 2:6])


def test_the_same_prompts_are_answered_once_and_others_anew() -> None:
    inner = FakeSegmenter()
    segmenter = CachedSegmenter(inner)
    scan = segmenter.encode(np.zeros((20, 30), np.float32))
    window = segmenter.encode(np.zeros((10, 10), np.float32))
    box = np.array([[2, 3, 8, 9]], np.float32)
    first = segmenter.decode(scan, boxes=box)
    assert segmenter.decode(scan, boxes=box.copy()) is first
    others = [
        segmenter.decode(window, boxes=box),
        segmenter.decode(scan, boxes=box + 1),
        segmenter.decode(scan, boxes=box, multimask=True),
        segmenter.decode(scan, points=box[None, :, :2], labels=np.ones((1, 1), np.int64)),
    ]
    assert all(other is not first for other in others)
    assert len(inner.asked) == 5


def test_another_segmenters_encodings_are_not_taken() -> None:
    shared, scan = EncodingCache(), np.zeros((4, 4), np.float32)
    one, other, again = FakeSegmenter(), FakeSegmenter(), FakeSegmenter()
    other.name = "another"
    first = CachedSegmenter(one, shared).encode(scan)
    assert CachedSegmenter(other, shared).encode(scan) is not first
    assert CachedSegmenter(again, shared).encode(scan) is first
    assert (len(one.encoded), len(other.encoded), len(again.encoded)) == (1, 1, 0)


class ManySegmenter(FakeSegmenter):
    """Answers each point of a batch, as real ones do."""

    def decode(self, image: EncodedImage, *, points: Any = None, **others: Any) -> Decoded:
        self.asked.append(Query(None, points, None, False))
        return Decoded(torch.zeros(len(points), 1, 2, 2), torch.zeros(len(points), 1), MaskGrid((2, 2), (1, 1)))


def test_answers_to_many_prompts_at_once_are_not_kept() -> None:
    """A proposal generator's would fill the memory."""
    inner = ManySegmenter()
    segmenter = CachedSegmenter(inner)
    scan = segmenter.encode(np.zeros((20, 30), np.float32))
    for asked, calls in [(np.zeros((64, 1, 2), np.float32), 2), (np.zeros((1, 1, 2), np.float32), 1)]:
        inner.asked.clear()
        for _ in range(2):
            segmenter.decode(scan, points=asked)
        assert len(inner.asked) == calls


def test_many_scans_are_encoded_at_once_and_none_twice() -> None:
    inner = FakeSegmenter()
    segmenter = CachedSegmenter(inner)
    scans = [np.full((4, 4), value, np.float32) for value in (0.1, 0.2, 0.3, 0.1)]
    first = segmenter.encode(scans[1])
    found = segmenter.encode_many(scans, at_once=1)
    assert found[1] is first and found[0] is found[3]
    assert len(inner.encoded) == 3
    assert segmenter.encode(scans[2]) is found[2]


def test_a_mask_is_part_of_the_question() -> None:
    inner = FakeSegmenter()
    segmenter = CachedSegmenter(inner)
    scan = segmenter.encode(np.zeros((20, 30), np.float32))
    box = np.array([[2, 3, 8, 9]], np.float32)
    mask = segmenter.shrink(np.ones((20, 30), np.bool_), scan)[None]
    asked = [segmenter.decode(scan, boxes=box, masks=each) for each in (None, mask, -mask, mask)]
    assert asked[1] is asked[3] and len({id(each) for each in asked}) == 3
    np.testing.assert_array_equal(inner.asked[1].masks, mask)


class TogetherSegmenter(FakeSegmenter):
    """Decodes boxes of several images at once."""

    together = 0

    def decode_many(self, images: Any, boxes: np.ndarray, *, multimask: bool = False) -> list[Decoded]:
        self.together += 1
        return [
            self.decode(image, boxes=box[None], multimask=multimask) for image, box in zip(images, boxes, strict=True)
        ]


def test_boxes_of_several_images_are_answered_at_once_and_only_new_ones() -> None:
    inner = TogetherSegmenter()
    segmenter = CachedSegmenter(inner)
    images = [segmenter.encode(np.full((20, 30), value, np.float32)) for value in (0.1, 0.2, 0.3)]
    box = np.array([[2, 3, 8, 9]], np.float32)
    known = segmenter.decode(images[0], boxes=box)
    questions = [(image, box) for image in images]
    segmenter.decode_boxes([*questions, questions[-1]])
    assert (inner.together, len(inner.asked)) == (1, 3)
    assert segmenter.decode(images[0], boxes=box) is known
    for image in images:
        segmenter.decode(image, boxes=box)
    assert len(inner.asked) == 3


def test_without_such_a_segmenter_each_box_is_decoded_when_it_is_asked() -> None:
    inner = FakeSegmenter()
    segmenter = CachedSegmenter(inner)
    images = [segmenter.encode(np.full((20, 30), value, np.float32)) for value in (0.1, 0.2)]
    segmenter.decode_boxes([(image, np.array([[2, 3, 8, 9]], np.float32)) for image in images])
    assert not inner.asked
