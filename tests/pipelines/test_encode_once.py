from __future__ import annotations

import numpy as np
from fake_segmenter import FakeSegmenter

from lexiseg.pipelines.encode_once import EncodeOnce


def test_the_same_pixels_are_encoded_once_and_others_anew() -> None:
    inner = FakeSegmenter()
    segmenter = EncodeOnce(inner)
    scan = np.arange(12, dtype=np.float32).reshape(3, 4)
    first = segmenter.encode(scan)
    window = segmenter.encode(np.ascontiguousarray(scan[1:]))
    assert segmenter.encode(scan.copy()) is first
    assert segmenter.encode(scan[1:]) is window
    assert segmenter.encode(scan.reshape(4, 3)) is not first
    assert len(inner.encoded) == 3
