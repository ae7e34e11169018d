"""Pasted lesions: exact, local, and silent about what is no longer known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from lexiseg.bundled.recipe.data import phantom_samples
from lexiseg.bundled.recipe.lesions import UNKNOWN, paste_lesion, with_brain_lesion


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    return next(s for s in phantom_samples(4, 256, 0) if s.organ == "brain").image


class TestPasteLesion:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_scan_changes_at_the_lesion_and_nowhere_far_from_it(
        self, brain: np.ndarray, seed: int
    ) -> None:
        pasted = paste_lesion(brain, np.random.default_rng(seed))
        assert pasted is not None
        image, mask = pasted
        assert image.shape == mask.shape == brain.shape
        assert set(np.unique(mask)) == {0, 1}
        assert ndimage.label(mask)[1] == 1
        far = ~ndimage.binary_dilation(mask, iterations=14)
        assert (image[far] == brain[far]).all()
        inside = ndimage.binary_erosion(mask, iterations=2)
        if inside.any():
            assert np.abs(image[inside].astype(float) - brain[inside]).mean() > 3

    def test_one_seed_one_lesion(self, brain: np.ndarray) -> None:
        first, second = (paste_lesion(brain, np.random.default_rng(5)) for _ in range(2))
        assert first is not None
        assert second is not None
        assert (first[0] == second[0]).all()
        assert (first[1] == second[1]).all()

    def test_a_scan_without_a_body_has_no_room(self) -> None:
        assert paste_lesion(np.zeros((128, 128), np.uint8), np.random.default_rng(0)) is None


class TestWithBrainLesion:
    def test_its_kind_is_unknown_and_no_kind_is_absent(self, brain: np.ndarray) -> None:
        sample = next(s for s in phantom_samples(4, 256, 0) if s.organ == "brain")
        old = np.zeros(brain.shape, np.uint8)
        old[100:120, 100:120] = 1
        sample = dataclasses.replace(
            sample,
            masks={"brain tumor": old, "tumor": old, "glioma": old},
            absent=frozenset({"meningioma", "pituitary tumor"}),
        )
        lesioned = with_brain_lesion(sample, np.random.default_rng(1))
        new = (lesioned.masks["brain tumor"] == 1) & (old == 0)
        assert new.any()
        assert (lesioned.masks["brain tumor"][old == 1] == 1).all()
        assert (lesioned.masks["glioma"][new] == UNKNOWN).all()
        assert lesioned.status("meningioma") is None
        assert lesioned.caption == ""
