"""How bright a scan is shown to the encoder."""

from __future__ import annotations

import numpy as np
import pytest
from fake_saliency_encoder import FakeEncoder

from lexiseg.errors import UsageError
from lexiseg.saliency.base import clip_bright
from lexiseg.saliency.settings import METHODS, SALIENCY_SETTINGS, explain
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray


def test_percentile_becomes_white() -> None:
    tissue = np.linspace(0.1, 0.5, 101, dtype=np.float32)
    scan = np.concatenate([np.zeros(1000, np.float32), tissue]).reshape(3, 367)
    shown = clip_bright(scan, 75)
    assert shown.dtype == np.float32
    # air does not count: three quarters of the tissue lie below 0.4, whatever surrounds it
    np.testing.assert_allclose(shown, np.minimum(scan / 0.4, 1), rtol=1e-5)


def test_one_bright_pixel_does_not_leave_the_rest_dark(scan: FloatArray) -> None:
    dark = scan * np.float32(0.3)
    dark[5, 7] = 1
    shown = clip_bright(dark, 99)
    assert np.percentile(shown, 50) == pytest.approx(0.5, abs=0.05)
    assert shown.max() == 1


def test_channels_are_scaled_alike(scan: FloatArray) -> None:
    colour = np.stack([scan * np.float32(share) for share in (0.2, 0.4, 0.1)], axis=-1)
    shown = clip_bright(colour, 100 - 1e-9)
    np.testing.assert_allclose(shown, colour / colour.max(), rtol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0])
def test_a_flat_scan_stays(level: float) -> None:
    scan = np.full((4, 5), level, np.float32)
    np.testing.assert_array_equal(clip_bright(scan, 99), scan)


def test_a_hundred_is_the_scan_itself(scan: FloatArray) -> None:
    assert clip_bright(scan, 100) is scan


@pytest.mark.parametrize("name", sorted(METHODS))
def test_dark_and_bright_scans_give_one_map(
    name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
) -> None:
    bright, dark = (
        explain(encoder, scan * np.float32(level), phrases, method=name, clip_percentile=99) for level in (1.0, 0.6)
    )
    for a, b in zip(bright, dark, strict=True):
        # not exactly: what counts as black does not scale with the scan
        np.testing.assert_allclose(a.map, b.map, atol=0.03)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("clip_percentile", [49, 101, float("nan")])
def test_bad_percentile(name: str, clip_percentile: float) -> None:
    with pytest.raises(UsageError, match="clip_percentile"):
        SALIENCY_SETTINGS[name](clip_percentile=clip_percentile)
