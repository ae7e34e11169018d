from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.regions.crf import CRFSettings, dense_crf
from lexiseg.regions.refine import REFINERS, make_refiner, refine
from lexiseg.regions.threshold import fixed_threshold, kmeans, otsu, percentile_threshold
from lexiseg.values.masks import Refiner, Region, Saliency

METHODS = pytest.mark.parametrize("method", REFINERS)


@pytest.fixture
def case(speckled_scan):
    saliency, image = speckled_scan((40, 50), seed=1)
    return Saliency(saliency, "breast tumor", 0.7), image


class TestRefine:
    def test_the_crf_is_the_default(self, case):
        saliency, image = case
        region = refine(saliency, image, make_refiner(iterations=2))
        expected = dense_crf(saliency.map, image, settings=CRFSettings(iterations=2))
        np.testing.assert_array_equal(region.probability, expected)

    def test_a_rule_keeps_the_saliency_as_probability(self, case):
        saliency, image = case
        region = refine(saliency, image, make_refiner("otsu"))
        np.testing.assert_array_equal(region.mask, otsu(saliency.map))
        np.testing.assert_array_equal(region.probability, saliency.map)

    @METHODS
    def test_every_method_finds_the_blob(self, case, method):
        saliency, image = case
        refiner = make_refiner(method)
        region = refine(saliency, image, refiner)
        assert isinstance(refiner, Refiner)
        assert refiner.method == method
        assert refiner == REFINERS[method]()
        assert isinstance(region, Region)
        assert region.mask.shape == region.probability.shape == (40, 50)
        assert region.mask[saliency.map.argmax() // 50, saliency.map.argmax() % 50]
        assert region.mask.mean() < 0.5

    @METHODS
    @pytest.mark.parametrize("level", [0.0, 0.9])
    def test_a_flat_map_is_an_absent_target(self, case, method, level):
        flat = Saliency(np.full((40, 50), level, np.float32), "breast tumor", 0.0)
        assert refine(flat, case[1], make_refiner(method)).empty

    @pytest.mark.parametrize(
        ("method", "setting", "rule"),
        [
            ("threshold", {"threshold": 0.8}, fixed_threshold),
            ("percentile", {"percentile": 99}, percentile_threshold),
            ("kmeans", {"clusters": 4}, kmeans),
        ],
    )
    def test_a_rules_setting_reaches_it(self, case, method, setting, rule):
        saliency, image = case
        mask = refine(saliency, image, make_refiner(method, **setting)).mask
        np.testing.assert_array_equal(mask, rule(saliency.map, **setting))
        assert (mask != rule(saliency.map)).any()

    @METHODS
    def test_colour_scans(self, speckled_scan, method):
        saliency, image = speckled_scan((40, 50), seed=1, colour=True)
        assert not refine(Saliency(saliency, "polyp", 0.7), image, make_refiner(method)).empty

    def test_a_method_of_ones_own(self, case, monkeypatch):
        @dataclass(frozen=True, kw_only=True)
        class Everything:
            method: ClassVar[str] = "everything"

            level: float = 1.0

            def __call__(self, saliency, pixels):
                return Region(np.ones(saliency.shape, np.bool_), np.full(saliency.shape, self.level, np.float32))

        monkeypatch.setitem(REFINERS, "everything", Everything)
        assert refine(*case, make_refiner("everything", level=0.5)).probability.max() == 0.5


class TestErrors:
    def test_unknown_method(self):
        with pytest.raises(UsageError, match=r"'watershed'.*crf, otsu"):
            make_refiner("watershed")

    def test_unknown_setting(self):
        with pytest.raises(UsageError, match=r"'otsu' has no setting bins, expected any of: none"):
            make_refiner("otsu", bins=3)
        with pytest.raises(UsageError, match=r"no setting sxy, expected any of: spatial_sxy"):
            make_refiner(sxy=3)

    @pytest.mark.parametrize(
        ("method", "setting"),
        [
            ("crf", {"tau": 0}),
            ("threshold", {"threshold": 1.5}),
            ("percentile", {"percentile": -1}),
            ("kmeans", {"clusters": 1}),
        ],
    )
    def test_setting_out_of_range(self, method, setting):
        with pytest.raises(UsageError, match=next(iter(setting))):
            make_refiner(method, **setting)

    @METHODS
    def test_another_grid(self, case, method):
        with pytest.raises(ValueError, match="one grid"):
            refine(case[0], np.zeros((40, 51), np.float32), make_refiner(method))

    @METHODS
    def test_not_finite(self, case, method):
        broken = case[0].map.copy()
        broken[3, 3] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            refine(Saliency(broken, "breast tumor", 0.0), case[1], make_refiner(method))


class TestRegion:
    def test_kinds_and_shapes_are_checked(self):
        with pytest.raises(TypeError, match="expected bool and float32"):
            Region(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32))
        with pytest.raises(ValueError, match="expected one"):
            Region(np.zeros((2, 2), np.bool_), np.zeros((2, 3), np.float32))
