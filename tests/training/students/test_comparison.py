"""A student laid beside its teacher without labels: good ones pass, planted bad ones do not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from discs import disc

from lexiseg.training.students.comparison import Comparison, compare, steepness
from lexiseg.values.scans import Image

Draw = Callable[[np.ndarray], np.ndarray]


class Drawer:
    """A pipeline that is a function of the pixels: where its probability is above one half there is a mask."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def __call__(self, scan: Any, phrases: Any) -> Any:
        probability = self.draw(scan.pixels).astype(np.float32)
        mask = probability > 0.5
        presence = float(probability.max())
        confidence = float(probability[mask].mean()) if mask.any() else 1 - presence
        target = SimpleNamespace(mask=mask, probability=probability, presence=presence, confidence=confidence)
        return SimpleNamespace(targets=[target] * len(phrases))


def good(pixels: np.ndarray) -> np.ndarray:
    """The disc, which is brighter than the rest at any setting of the machine."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(pixels, 1.5)
    level = (smooth.max() + smooth.min()) / 2
    return 1 / (1 + np.exp(-40 * (smooth - level)))


def noise(pixels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(1e6 * pixels.sum())).random(pixels.shape)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return 0.9 * binary_erosion(good(pixels) > 0.5, iterations=4)


def beside(pixels: np.ndarray) -> np.ndarray:
    return np.roll(good(pixels), 4, axis=1)


def coarse(pixels: np.ndarray) -> np.ndarray:
    """The outline of a network that sees very few pixels."""
    small = good(pixels)[3::6, 3::6]
    return np.kron(small, np.ones((6, 6)))[: pixels.shape[0], : pixels.shape[1]]


def shy(pixels: np.ndarray) -> np.ndarray:
    """Nothing in a third of the scans: those whose disc lies to the left."""
    found = good(pixels)
    columns = np.nonzero((found > 0.5).any(0))[0]
    return found if len(columns) and columns.mean() > 21 else 0.1 * found


BAD: dict[str, Draw] = {
    "noise": noise,
    "nothing": lambda pixels: np.full(pixels.shape, 0.1),
    "everything": lambda pixels: np.full(pixels.shape, 0.9),
    "too small": shrunk,
    "beside": beside,
    "coarse": coarse,
    "misses": shy,
}


@pytest.fixture(scope="module")
def scans() -> list[tuple[Image, str]]:
    return [(Image(disc(k)[0].astype(np.float32) / 255, id=f"d{k}"), f"p{k // 2}") for k in range(12)]


def beside_teacher(student: Draw, scans: list[tuple[Image, str]]) -> Comparison:
    return compare(Drawer(good), Drawer(student), scans, ["disc"], mirror=False, held_out=True)  # type: ignore[arg-type]


class TestVerdict:
    def test_the_teacher_itself_is_no_worse(self, scans: list[tuple[Image, str]]) -> None:
        found = beside_teacher(good, scans)
        assert not found.worse
        assert (found.missed, found.found, found.overlap, found.sizes) == (0, 0, 1.0, 1.0)
        assert all(each.difference == 0 for each in found.measures)

    def test_a_bolder_one_is_no_worse(self, scans: list[tuple[Image, str]]) -> None:
        """What the student finds where the teacher is silent is its gain, not its fault."""
        found = compare(Drawer(shy), Drawer(good), scans, ["disc"], mirror=False, held_out=True)  # type: ignore[arg-type]
        assert not found.worse
        assert found.found > 0

    @pytest.mark.parametrize("name", BAD)
    def test_a_planted_bad_student_is_refused(self, name: str, scans: list[tuple[Image, str]]) -> None:
        assert beside_teacher(BAD[name], scans).worse

    def test_each_reason_says_what_was_seen(self, scans: list[tuple[Image, str]]) -> None:
        found = beside_teacher(BAD["nothing"], scans)
        assert any(f"in {found.sure} of {found.sure} scans" in reason for reason in found.reasons)

    def test_one_scan_is_judged_without_an_interval(self, scans: list[tuple[Image, str]]) -> None:
        assert beside_teacher(BAD["noise"], scans[:1]).worse
        assert not beside_teacher(good, scans[:1]).worse

    def test_its_record_is_plain(self, scans: list[tuple[Image, str]]) -> None:
        import json

        record = beside_teacher(BAD["nothing"], scans).as_dict()
        assert record["sizes"] is None
        json.dumps(record, allow_nan=False)


class TestSteepness:
    def test_an_outline_beside_the_edge_has_less(self) -> None:
        grey, mask = disc(0)
        pixels = grey.astype(np.float32) / 255
        assert steepness(pixels, mask) > 1.5 * steepness(pixels, np.roll(mask, 4, axis=1))

    def test_it_does_not_depend_on_gain(self) -> None:
        grey, mask = disc(1)
        pixels = grey.astype(np.float32) / 255
        # Sums of some thousand float32 in units of their mean: 1e-5 is far more than they round.
        assert steepness(pixels / 2, mask) == pytest.approx(steepness(pixels, mask), rel=1e-5)

    @pytest.mark.parametrize("mask", [np.zeros((8, 8), bool), np.ones((8, 8), bool)])
    def test_undefined_without_an_outline_or_an_edge(self, mask: np.ndarray) -> None:
        assert np.isnan(steepness(np.zeros((8, 8), np.float32), mask))
