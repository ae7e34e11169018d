import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.regions.crf import CRFSettings, dense_crf
from lexiseg.regions.refine import REFINERS, refine
from lexiseg.regions.region import Refiner, Region
from lexiseg.regions.threshold import otsu
from lexiseg.values.masks import Saliency

METHODS = pytest.mark.parametrize("method", REFINERS)


@pytest.fixture
def case(speckled_scan):
    saliency, image = speckled_scan((40, 50), seed=1)
    return Saliency(saliency, "breast tumor", 0.7), image


class TestRefine:
    def test_the_crf_is_the_default(self, case):
        saliency, image = case
        region = refine(saliency, image, iterations=2)
        expected = dense_crf(saliency.map, image, settings=CRFSettings(iterations=2))
        np.testing.assert_array_equal(region.probability, expected)

    def test_a_rule_keeps_the_saliency_as_probability(self, case):
        saliency, image = case
        region = refine(saliency, image, method="otsu")
        np.testing.assert_array_equal(region.mask, otsu(saliency.map))
        np.testing.assert_array_equal(region.probability, saliency.map)

    @METHODS
    def test_every_method_finds_the_blob(self, case, method):
        saliency, image = case
        region = refine(saliency, image, method=method)
        assert isinstance(REFINERS[method], Refiner)
        assert isinstance(region, Region)
        assert region.mask.shape == region.probability.shape == (40, 50)
        assert region.mask[saliency.map.argmax() // 50, saliency.map.argmax() % 50]
        assert region.mask.mean() < 0.5

    @METHODS
    @pytest.mark.parametrize("level", [0.0, 0.9])
    def test_a_flat_map_is_an_absent_target(self, case, method, level):
        flat = Saliency(np.full((40, 50), level, np.float32), "breast tumor", 0.0)
        assert refine(flat, case[1], method=method).empty

    @METHODS
    def test_colour_scans(self, speckled_scan, method):
        saliency, image = speckled_scan((40, 50), seed=1, colour=True)
        assert not refine(Saliency(saliency, "polyp", 0.7), image, method=method).empty

    def test_a_method_of_ones_own(self, case, monkeypatch):
        class Everything:
            settings = ("level",)

            def __call__(self, saliency, pixels, *, level=1.0):
                return Region(np.ones(saliency.shape, np.bool_), np.full(saliency.shape, level, np.float32))

        monkeypatch.setitem(REFINERS, "everything", Everything())
        assert refine(*case, method="everything", level=0.5).probability.max() == 0.5


class TestErrors:
    def test_unknown_method(self, case):
        with pytest.raises(UsageError, match=r"'watershed'.*crf, otsu"):
            refine(*case, method="watershed")

    def test_unknown_setting(self, case):
        with pytest.raises(UsageError, match=r"'otsu' has no setting bins, expected any of: none"):
            refine(*case, method="otsu", bins=3)
        with pytest.raises(UsageError, match=r"no setting sxy, expected any of: spatial_sxy"):
            refine(*case, sxy=3)

    def test_setting_out_of_range(self, case):
        with pytest.raises(UsageError, match="tau"):
            refine(*case, tau=0)

    @METHODS
    def test_another_grid(self, case, method):
        with pytest.raises(ValueError, match="one grid"):
            refine(case[0], np.zeros((40, 51), np.float32), method=method)

    @METHODS
    def test_not_finite(self, case, method):
        broken = case[0].map.copy()
        broken[3, 3] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            refine(Saliency(broken, "breast tumor", 0.0), case[1], method=method)


class TestRegion:
    def test_kinds_and_shapes_are_checked(self):
        with pytest.raises(TypeError, match="expected bool and float32"):
            Region(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32))
        with pytest.raises(ValueError, match="expected one"):
            Region(np.zeros((2, 2), np.bool_), np.zeros((2, 3), np.float32))
