"""What a phrase names decides how its mask is cut: its size, its pieces, its holes, and who draws it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from scans_of import dense_preset, preset_of

from lexiseg.pipelines.base import StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.salip import Salip
from lexiseg.regions.threshold import find_components
from lexiseg.values.arrays import BoolArray
from lexiseg.values.calibration import AS_IT_IS, Calibration
from lexiseg.values.masks import Saliency
from lexiseg.values.scans import Image

SIZE = 64
RED = (16, 16, 32, 48)  # x0 y0 x1 y1
PRESET = dense_preset()


def pipeline(**changes: Any) -> MedclipSam:
    return MedclipSam(PRESET.override(**changes), NamedColours(), FakeSegmenter())


def boxed(*boxes: tuple[int, int, int, int]) -> BoolArray:
    mask = np.zeros((SIZE, SIZE), np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def salip(**changes: Any) -> Salip:
    preset = preset_of("regions", pipeline="salip").override(**changes)
    return Salip(preset, NamedColours(), FakeSegmenter())


class TestSmallTargets:
    """What covers little of a scan, and what its map is seldom sure of."""

    def drawn(self, found: Saliency, measured: Calibration, **presence: float) -> BoolArray:
        made = pipeline(
            prompts={"boxes": "all", "min_area": 0.02},
            mask={"fusion": "region", "min_area": 0.02},
            presence={"threshold": 0.5, "global_weight": 0.0, **presence},
        )
        (phrase,) = made.embed(["red"])
        plane = Image(pixels=np.zeros((SIZE, SIZE), np.float32), id="scan").planes()[0]
        timer = StageTimer()
        draft = made._draft(plane, found, dataclasses.replace(phrase, calibration=measured), timer)
        return made._draw(plane, draft, CachedSegmenter(FakeSegmenter()), timer).estimate.mask

    def saliency(self, spot: BoolArray, sure: float) -> Saliency:
        return Saliency(np.where(spot, sure, 0.001).astype(np.float32), "red", 1.0, "dense", {"dense": 0.9})

    def test_a_small_one_is_no_speck(self) -> None:
        spot = boxed((8, 8, 14, 14))  # 0.9 % of the scan
        found = self.saliency(spot, 0.9)
        assert not self.drawn(found, AS_IT_IS).any()
        assert not self.drawn(found, Calibration(smallest=0.2)).any()
        np.testing.assert_array_equal(self.drawn(found, Calibration(smallest=0.02)), spot)

    def test_of_a_calibrated_map_that_is_never_sure_the_likeliest_is_drawn(self) -> None:
        spot = boxed((8, 8, 40, 40))
        found = self.saliency(spot, 0.3)
        assert not self.drawn(found, AS_IT_IS).any()
        np.testing.assert_array_equal(self.drawn(found, Calibration(0.9, 0.1)), spot)

    def test_a_map_that_promises_little_says_absent(self) -> None:
        """A spot of 0.4 on a ground of 0.05 promises a Dice of 0.52: 2 * 410 over 1,024 + 410 + 154."""
        found = Saliency(
            np.where(boxed((8, 8, 40, 40)), 0.4, 0.05).astype(np.float32), "red", 1.0, "dense", {"dense": 0.9}
        )
        measured = Calibration(0.9, 0.1)
        assert self.drawn(found, measured, min_expected_dice=0.4).any()
        assert not self.drawn(found, measured, min_expected_dice=0.6).any()
        assert self.drawn(self.saliency(boxed(RED), 0.9), AS_IT_IS, min_expected_dice=1.0).any()


class TestWeakPieces:
    """A map that is sure of one square and less sure of another; `least_sure` drops the second."""

    @pytest.mark.parametrize(("change", "kept"), [({}, 1), ({"regions": 7}, 2), ({"holes": True}, 2)])
    def test_are_dropped_but_of_what_comes_in_many_pieces(self, change: dict[str, Any], kept: int) -> None:
        made = pipeline(mask={"fusion": "region", "least_sure": 0.9})
        strong, weak = (np.zeros((SIZE, SIZE), np.bool_) for _ in range(2))
        strong[8:24, 8:24], weak[40:56, 40:56] = True, True
        saliency = Saliency(
            np.where(strong, 0.95, np.where(weak, 0.6, 0.01)).astype(np.float32), "red", 1.0, "dense", {"dense": 0.9}
        )
        (phrase,) = made.embed(["red"])
        plane = Image(pixels=np.zeros((SIZE, SIZE), np.float32), id="scan").planes()[0]
        timer = StageTimer()
        draft = made._draft(plane, saliency, dataclasses.replace(phrase, **change), timer)
        drawn = made._draw(plane, draft, CachedSegmenter(FakeSegmenter()), timer)
        assert len(find_components(drawn.estimate.mask)) == kept


class TestMaskFor:
    """What slices are drawn by, and what is closed between them."""

    def settings(self, make: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], fusion: str) -> Any:
        made: TextPipeline = make(mask={"fusion": fusion, "least_sure": 0.9, "fill_holes": True})
        (phrase,) = made.embed(["red"])
        monkeypatch.setattr(made, "embed", lambda asked: [dataclasses.replace(phrase, **change)])
        return made.mask_for("red")

    @pytest.mark.parametrize("make", [pipeline, salip])
    @pytest.mark.parametrize(
        ("change", "least_sure", "fusion", "fill_holes"),
        [
            ({}, 0.9, "average", True),
            ({"regions": 7}, 0.0, "average", True),
            ({"holes": True}, 0.0, "region", False),
            ({"calibration": Calibration(map_only=True)}, 0.9, "region", True),
        ],
    )
    def test_goes_by_what_the_phrase_names(
        self,
        make: Any,
        monkeypatch: pytest.MonkeyPatch,
        change: dict[str, Any],
        least_sure: float,
        fusion: str,
        fill_holes: bool,
    ) -> None:
        found = self.settings(make, monkeypatch, change, "average")
        assert (found.least_sure, found.fusion, found.fill_holes) == (least_sure, fusion, fill_holes)

    @pytest.mark.parametrize("make", [pipeline, salip])
    @pytest.mark.parametrize("change", [{"holes": True}, {"calibration": Calibration(map_only=True)}])
    def test_where_the_segmenter_alone_draws_it_draws_all(
        self, make: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
    ) -> None:
        assert self.settings(make, monkeypatch, change, "segmenter").fusion == "segmenter"
