from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from regions_of import boxes_of, filled
from scans_of import volume_of

from lexiseg.errors import UsageError
from lexiseg.pipelines import baselines, loading
from lexiseg.pipelines.baselines import NoEncoder, OracleBox, Unprompted
from lexiseg.pipelines.loading import load
from lexiseg.pipelines.preset import load_preset
from lexiseg.proposals.proposal import Proposals
from lexiseg.values.scans import Image

SHAPE = (40, 60)
LARGE, CENTRAL = (0, 0, 30, 30), (26, 16, 34, 24)
SCAN = Image(np.random.default_rng(0).random(SHAPE, dtype=np.float32))


def unprompted(monkeypatch: pytest.MonkeyPatch, proposals: Proposals, **changes: Any) -> Unprompted:
    monkeypatch.setattr(baselines, "propose", lambda *_: proposals)
    segmenter = FakeSegmenter()
    encoder: Any = NoEncoder(segmenter.device, "float32")
    return Unprompted(load_preset("sam-unprompted", **changes), encoder, segmenter)


class TestUnprompted:
    @pytest.mark.parametrize(("pick", "box"), [("largest", LARGE), ("central", CENTRAL)])
    def test_one_proposal_whatever_the_phrase(
        self, monkeypatch: pytest.MonkeyPatch, pick: str, box: tuple[int, int, int, int]
    ) -> None:
        made = unprompted(monkeypatch, boxes_of(SHAPE, CENTRAL, LARGE), retrieval={"pick": pick})
        result = made(SCAN, ["lungs", "teapot"])
        for found in result.targets:
            np.testing.assert_array_equal(found.mask, filled(SHAPE, box))
            assert found.present and math.isnan(found.presence) and math.isnan(found.confidence)
        assert result.provenance["encoder"] == {"name": "none"}

    def test_nothing_proposed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = unprompted(monkeypatch, Proposals(SHAPE))(SCAN, "lungs")["lungs"]
        assert not found.present and not found.mask.any()

    def test_a_wrong_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match="pick is 'smallest'; expected largest or central"):
            unprompted(monkeypatch, Proposals(SHAPE), retrieval={"pick": "smallest"})

    def test_no_encoder_is_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter = FakeSegmenter()
        segmenter.precision = "float32"  # type: ignore[attr-defined]
        monkeypatch.setattr(loading, "load_segmenter", lambda *_, **__: segmenter)
        monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: 1 / 0)
        assert load("sam-unprompted", device="cpu").encoder.name == "none"


class TestTrueBoxes:
    def made(self, segmenter: FakeSegmenter | None = None) -> OracleBox:
        segmenter = segmenter or FakeSegmenter()
        encoder: Any = NoEncoder(segmenter.device, "float32")
        return OracleBox(load_preset("sam-box"), encoder, segmenter)

    def test_the_true_masks_boxes_are_asked(self) -> None:
        truth = filled(SHAPE, LARGE, (40, 10, 50, 30))
        truth[0, 0] = False
        found = self.made()(SCAN, "lungs", truth=truth)["lungs"]
        assert sorted(found.prompts[0].boxes.tolist()) == [[0, 0, 30, 30], [40, 10, 50, 30]]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, LARGE, (40, 10, 50, 30)))
        assert found.presence == 1 and math.isnan(found.confidence)

    def test_an_empty_truth_is_an_empty_mask(self) -> None:
        segmenter = FakeSegmenter()
        found = self.made(segmenter)(SCAN, "lungs", truth=filled(SHAPE))["lungs"]
        assert (found.present, found.presence) == (False, 0) and segmenter.asked == []

    def test_a_volumes_truth_goes_slice_by_slice(self) -> None:
        volume = volume_of(np.zeros((3, *SHAPE), np.float32))
        truth = np.stack([filled(SHAPE), filled(SHAPE, LARGE), filled(SHAPE)])
        found = self.made()(volume, "lungs", truth=truth)["lungs"]
        np.testing.assert_array_equal(found.mask, truth)

    def test_without_a_truth_it_is_refused(self) -> None:
        with pytest.raises(UsageError, match="none was given"):
            self.made()(SCAN, "lungs")
        with pytest.raises(ValueError, match="the true mask has shape"):
            self.made()(SCAN, "lungs", truth=filled((4, 4), (0, 0, 1, 1)))
