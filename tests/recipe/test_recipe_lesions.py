"""Pasted lesions: exact, local, and silent about what is no longer known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from recipe.data import Sample, phantom_samples
from recipe.lesions import UNKNOWN, paste_lesion, with_copied_lesion, with_lesion


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    return next(s for s in phantom_samples(4, 256, 0) if s.organ == "brain").image


@pytest.fixture(scope="module")
def scan() -> Sample:
    """A grey breast without a tumour."""
    image = np.full((256, 256), 120, np.uint8)
    absent = frozenset({"breast tumor", "tumor", "benign breast tumor", "malignant breast tumor"})
    return Sample(image, (256, 256), {}, absent, "breast", "busi", "a normal breast")


@pytest.fixture(scope="module")
def donor() -> Sample:
    """A brighter breast with a black disc, called benign."""
    rows, columns = np.mgrid[:256, :256]
    disc = (np.hypot(rows - 90, columns - 150) < 22).astype(np.uint8)
    image = np.where(disc == 1, 10, 160).astype(np.uint8)
    names = ("breast tumor", "tumor", "benign breast tumor")
    masks = dict.fromkeys(names, disc)
    absent = frozenset({"malignant breast tumor"})
    return Sample(image, (256, 256), masks, absent, "breast", "busi", "a benign tumour")


class TestPasteLesion:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_scan_changes_at_the_lesion_and_nowhere_far_from_it(self, brain: np.ndarray, seed: int) -> None:
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


class TestWithLesion:
    def test_its_kind_is_unknown_and_no_kind_is_absent(self, brain: np.ndarray) -> None:
        sample = next(s for s in phantom_samples(4, 256, 0) if s.organ == "brain")
        old = np.zeros(brain.shape, np.uint8)
        old[100:120, 100:120] = 1
        sample = dataclasses.replace(
            sample,
            masks={"brain tumor": old, "tumor": old, "glioma": old},
            absent=frozenset({"meningioma", "pituitary tumor"}),
        )
        lesioned = with_lesion(sample, np.random.default_rng(1))
        new = (lesioned.masks["brain tumor"] == 1) & (old == 0)
        assert new.any()
        assert (lesioned.masks["brain tumor"][old == 1] == 1).all()
        assert (lesioned.masks["glioma"][new] == UNKNOWN).all()
        assert lesioned.status("meningioma") is None
        assert lesioned.caption == ""


class TestWithCopiedLesion:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_outline_is_that_of_the_pixels(self, scan: Sample, donor: Sample, seed: int) -> None:
        made = with_copied_lesion(scan, donor, np.random.default_rng(seed))
        mask = made.masks["breast tumor"] == 1
        assert mask.any()
        assert made.image[ndimage.binary_erosion(mask, iterations=3)].max() < 40
        assert made.image[~ndimage.binary_dilation(mask, iterations=3)].min() > 100
        # its tissue is as bright as the tissue that it comes to: no frame shows
        assert np.abs(made.image[~ndimage.binary_dilation(mask, iterations=3)].astype(int) - 120).max() <= 12

    def test_its_kind_comes_with_it(self, scan: Sample, donor: Sample) -> None:
        made = with_copied_lesion(scan, donor, np.random.default_rng(0))
        assert made.status("benign breast tumor") is True
        assert made.status("breast tumor") is True
        assert made.status("malignant breast tumor") is False
        assert made.caption == ""

    def test_what_it_covers_is_no_longer_of_another_kind(self, scan: Sample, donor: Sample) -> None:
        whole = np.ones((256, 256), np.uint8)
        masks = dict.fromkeys(("breast tumor", "tumor", "malignant breast tumor"), whole)
        scan = dataclasses.replace(scan, masks=masks, absent=frozenset({"benign breast tumor"}))
        made = with_copied_lesion(scan, donor, np.random.default_rng(0))
        benign, malignant = (made.masks[f"{kind} breast tumor"] == 1 for kind in ("benign", "malignant"))
        assert benign.any()
        assert (benign ^ malignant).all()

    def test_a_scan_without_a_body_stays_as_it_was(self, scan: Sample, donor: Sample) -> None:
        empty = dataclasses.replace(scan, image=np.zeros((256, 256), np.uint8))
        assert with_copied_lesion(empty, donor, np.random.default_rng(0)) is empty
