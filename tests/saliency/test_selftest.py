from __future__ import annotations

import pytest
import torch
from fake_saliency_encoder import FakeEncoder
from selftest import blob_scan, selftest

from lexiseg.errors import BrokenWeights, LexisegError
from lexiseg.saliency.settings import METHODS, method_class

NAMES = sorted(METHODS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [0.0, -8.0])
def test_healthy(name: str, bias: float) -> None:
    selftest(FakeEncoder(bias=bias), method_class(name)())


@pytest.mark.parametrize("name", NAMES)
def test_text_tower_that_ignores_words(name: str) -> None:
    encoder = FakeEncoder()
    same = encoder.vector("anything")
    encoder.table = {"breast tumor": same, "lungs": same}
    with pytest.raises(BrokenWeights, match="the same"):
        selftest(encoder, method_class(name)())


@pytest.mark.parametrize("name", NAMES)
def test_image_tower_that_ignores_pixels(name: str) -> None:
    encoder = FakeEncoder()
    encoder.conv1.weight.data.zero_()
    encoder.conv2.weight.data.zero_()
    with pytest.raises(BrokenWeights, match="flat"):
        selftest(encoder, method_class(name)())


@pytest.mark.parametrize("name", NAMES)
def test_not_finite(name: str) -> None:
    encoder = FakeEncoder()
    encoder.conv2.weight.data[0, 0, 0, 0] = torch.inf
    with pytest.raises(BrokenWeights, match="finite"):
        selftest(encoder, method_class(name)())


def test_all_zero_projection() -> None:
    encoder = FakeEncoder()
    encoder.projection.zero_()
    with pytest.raises(LexisegError):
        selftest(encoder, method_class("gscorecam")())


def test_a_sigmoid_near_zero_everywhere_is_no_fault() -> None:
    """Log-odds are judged, not probabilities: a tower may be sure that a blob in noise is no lung."""
    selftest(FakeEncoder(bias=-60.0), method_class("dense")())


def test_gscorecam_is_cheap() -> None:
    encoder = FakeEncoder(channels=64)
    selftest(encoder, method_class("gscorecam")())
    assert sum(encoder.image_calls) <= 16


def test_image_is_seeded() -> None:
    first = blob_scan(24)
    assert first.tobytes() == blob_scan(24).tobytes()
    assert first.min() >= 0 and first.max() <= 1
