from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from regions_of import Box, boxes_of, filled, proposal
from scans_of import preset_of, volume_of
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.pipelines import salip
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.salip import Salip
from lexiseg.proposals.candidates import point_grid
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.settings import CropSettings, RetrievalSettings
from lexiseg.values.arrays import BoolArray
from lexiseg.values.calibration import Calibration
from lexiseg.values.masks import Saliency
from lexiseg.values.scans import Image, Scan

SHAPE = (64, 64)
RED, GREEN, GREEN_TOO, BLACK = (16, 16, 32, 48), (48, 0, 64, 16), (48, 40, 60, 60), (0, 0, 12, 12)
PRESET = preset_of("test", pipeline="salip", presence={"threshold": 0.5, "global_weight": 0.0}, retrieval={"top": 1})


class Colours(NamedColours):
    """A phrase with a colour's name in it is that colour, any other is its opposite; counts its images."""

    def __init__(self) -> None:
        super().__init__(bias=-15.0)
        self.image_calls: list[int] = []

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.image_calls.append(len(pixels))
        return super().encode_image(pixels)


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Every scan is proposed its coloured boxes (those that are not black) and a black one; counts calls."""
    calls: list[tuple[int, ...]] = []

    def propose(segmenter: Any, pixels: np.ndarray, settings: Any) -> Proposals:
        calls.append(pixels.shape)
        segmenter.encode(pixels)
        lit = [box for box in (RED, GREEN, GREEN_TOO) if pixels[box[1], box[0]].any()]
        return boxes_of(SHAPE, BLACK, *lit) if lit else Proposals(SHAPE)

    monkeypatch.setattr(salip, "propose", propose)
    return calls


def pipeline(segmenter: FakeSegmenter | None = None, **changes: Any) -> Salip:
    return Salip(PRESET.override(**changes), Colours(), segmenter or FakeSegmenter())


def painted(*boxes: tuple[Box, tuple[float, float, float]]) -> Scan:
    pixels = np.zeros((*SHAPE, 3), np.float32)
    for box, colour in boxes:
        pixels[filled(SHAPE, box)] = colour
    return Image(pixels, id="colours")


@pytest.fixture
def scan() -> Scan:
    """Black, with one red and two green rectangles."""
    return painted((RED, (1, 0, 0)), (GREEN, (0, 1, 0)), (GREEN_TOO, (0, 0.9, 0)))


@pytest.mark.usefixtures("proposed")
class TestPresent:
    def test_the_region_that_fits_is_boxed_and_drawn(self, scan: Scan) -> None:
        found = pipeline()(scan, "red")["red"]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, RED))
        assert found.present and found.presence > 0.9
        assert found.prompts[0].boxes.tolist() == [list(RED)]

    def test_the_scan_is_encoded_once_for_proposals_and_mask(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        pipeline(segmenter)(scan, ["red", "green"])
        assert segmenter.encoded == [(*SHAPE, 3)]

    def test_two_regions_where_two_are_asked_for(self, scan: Scan) -> None:
        found = pipeline(retrieval={"top": 2})(scan, "green", keep_stages=True)["green"]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, GREEN, GREEN_TOO))
        assert {match.index for match in found.matches[0].items} == {2, 3}

    def test_more_than_there_are_takes_all(self, scan: Scan) -> None:
        found = pipeline(retrieval={"top": 9})(scan, "red", keep_stages=True)["red"]
        assert len(found.matches[0].items) == len(found.prompts[0].boxes) == 4

    def test_points_and_margin_of_the_prompts(self, scan: Scan) -> None:
        found = pipeline(prompts={"margin": 0.25, "points": "center"})(scan, "red")["red"]
        assert found.prompts[0].boxes.tolist() == [[12, 8, 36, 56]]
        assert found.prompts[0].labels.tolist() == [1]

    def test_boxes_are_trimmed_to_what_the_map_supports(
        self, scan: Scan, proposed: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = pipeline(retrieval={"score": "saliency", "min_saliency": 0.5}, saliency={"method": "dense"})
        x0, y0, x1, _ = RED

        def prompted(height: int) -> list[list[float]]:
            upper = np.where(filled(SHAPE, RED), np.float32(0.4), np.float32(0))
            upper[y0 : y0 + height, x0:x1] = 1
            found = Saliency(upper, "red", 1.0, "dense", {"logit": 9.0, "dense": 1.0})
            monkeypatch.setattr(type(asked._method), "explain", lambda *_, **__: [found])
            boxes: list[list[float]] = asked(scan, "red", keep_stages=True)["red"].prompts[0].boxes.tolist()
            return boxes

        assert prompted(24) == [[x0, y0, x1, y0 + 24]]
        matches = asked.region_evidence(scan, ["red"], boxes_of(SHAPE, RED)).matches[0]
        assert asked._ask(matches, np.zeros(SHAPE, np.bool_)).boxes.tolist() == [list(RED)]

    def test_boxes_of_the_map_are_asked_in_place_of_a_grid(self, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = pipeline(proposals={"map_levels": [0.4, 0.8], "min_area": 0.01})
        map_ = np.where(filled(SHAPE, RED), np.float32(0.5), np.float32(0))
        map_[filled(SHAPE, GREEN)] = 0.9
        map_[0, 0] = 1
        told: list[np.ndarray] = []

        def propose(_: Any, __: Any, ___: Any, *, boxes: np.ndarray) -> Proposals:
            told.append(boxes)
            return boxes_of(SHAPE, RED, GREEN)

        monkeypatch.setattr(salip, "propose", propose)
        explained: list[int] = []

        def explain(_: Any, __: Any, pixels: Any, phrases: list[Any], **___: Any) -> list[Saliency]:
            explained.append(len(phrases))
            return [Saliency(map_, phrase.text, 1.0, "dense", {"logit": 9.0, "dense": 1.0}) for phrase in phrases]

        monkeypatch.setattr(type(asked._method), "explain", explain)
        found = asked(scan, ["red", "green"])
        assert [boxes.tolist() for boxes in told] == [[list(RED), list(GREEN)]]
        assert explained == [2]
        np.testing.assert_array_equal(found["red"].mask, filled(SHAPE, RED))
        assert len(asked.propose(asked.planes(scan)[0], ["red"])) == 2

    def test_the_grid_is_asked_near_the_map_alone(self, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = pipeline(proposals={"points_per_side": 8, "map_near": 0.1})
        maps = {"red": np.zeros(SHAPE, np.float32), "green": np.zeros(SHAPE, np.float32)}
        maps["red"][3, 5] = 0.2
        told: list[np.ndarray] = []

        def propose(_: Any, __: Any, ___: Any, *, where: np.ndarray) -> Proposals:
            told.append(where)
            return boxes_of(SHAPE, RED, GREEN)

        def explain(_: Any, __: Any, ___: Any, phrases: list[Any], **____: Any) -> list[Saliency]:
            return [Saliency(maps[p.text], p.text, 1.0, "dense", {"logit": 9.0, "dense": 1.0}) for p in phrases]

        monkeypatch.setattr(salip, "propose", propose)
        monkeypatch.setattr(type(asked._method), "explain", explain)
        asked(scan, ["red", "green"])
        (where,) = told
        # One pixel of a map is enough for the point that is nearest to it, and for no point of the far side.
        points = point_grid(SHAPE, 8).astype(int)
        near = where[points[:, 1], points[:, 0]]
        assert 1 <= near.sum() <= 4
        assert near[np.abs(points - (5, 3)).sum(1).argmin()]

    def test_from_proposals_made_before(self, scan: Scan, proposed: list[Any]) -> None:
        segmenter = FakeSegmenter()
        asked = pipeline(segmenter)
        plane = asked.planes(scan)[0]
        found = asked.from_proposals(plane, ["red"], boxes_of(SHAPE, GREEN, RED), CachedSegmenter(segmenter))
        np.testing.assert_array_equal(found.items[0].estimate.mask, filled(SHAPE, RED))
        assert proposed == []

    def test_confidence_is_the_segmenters_and_the_retrievals(self, scan: Scan) -> None:
        found = pipeline(FakeSegmenter(iou=(0.64,)))(scan, "red", keep_stages=True)["red"]
        assert found.confidence == pytest.approx(math.sqrt(0.64 * found.matches[0].probability))

    def test_the_regions_themselves_can_be_the_mask(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        found = pipeline(segmenter, mask={"fusion": "region"})(scan, "red")["red"]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, RED))
        assert segmenter.asked == []


class TestWhatAPhraseNames:
    """A red ring is proposed; the segmenter draws the whole box that it is asked for."""

    def ring(self) -> BoolArray:
        return filled(SHAPE, RED) & ~filled(SHAPE, (20, 24, 28, 40))

    def asked(self, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> Salip:
        monkeypatch.setattr(salip, "propose", lambda *_: Proposals(SHAPE, (proposal(self.ring()),)))
        made = pipeline(mask={"fusion": "average", "least_sure": 0.9, "fill_holes": True})
        (phrase,) = made.embed(["red"])
        monkeypatch.setattr(made, "embed", lambda asked: [dataclasses.replace(phrase, **change) for _ in asked])
        return made

    def test_a_ring_keeps_its_hole_and_no_box_is_asked(self, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
        np.testing.assert_array_equal(self.asked(monkeypatch, {})(scan, "red")["red"].mask, filled(SHAPE, RED))
        made = self.asked(monkeypatch, {"holes": True})
        np.testing.assert_array_equal(made(scan, "red")["red"].mask, self.ring())
        segmenter: Any = made.segmenter
        assert segmenter.asked == []

    def test_a_calibrated_map_that_expects_little_says_absent(
        self, scan: Scan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = self.asked(monkeypatch, {"calibration": Calibration(0.9, 0.1)})
        assert made(scan, "red")["red"].mask.any()
        made._presence = dataclasses.replace(made._presence, min_expected_dice=1.0)
        assert not made(scan, "red")["red"].mask.any()


class TestAbsent:
    def test_below_the_threshold_nothing_is_drawn(self, scan: Scan, proposed: list[Any]) -> None:
        segmenter = FakeSegmenter()
        found = pipeline(segmenter)(scan, "blue")["blue"]
        assert not found.present and not found.mask.any() and found.prompts[0].empty
        assert found.presence < 0.1 and found.confidence == pytest.approx(1 - found.presence)
        assert segmenter.asked == []

    @pytest.mark.parametrize("threshold", [0.5, None])
    def test_no_proposal_at_all(self, proposed: list[Any], threshold: float | None) -> None:
        dark = Image(np.zeros(SHAPE, np.float32))
        found = pipeline(presence={"threshold": threshold})(dark, "red", keep_stages=True)
        assert proposed and len(found.proposals[0]) == 0
        assert not found["red"].present
        # Nothing was looked at, so nothing is known: neither presence nor how sure that is.
        assert math.isnan(found["red"].presence) and math.isnan(found["red"].confidence)
        assert found["red"].mask.shape == SHAPE and not found["red"].mask.any()

    def test_none_of_these_regions_is_it(self, scan: Scan, proposed: list[Any]) -> None:
        asked = pipeline(presence={"threshold": None}, retrieval={"min_score": 0.5})
        assert not asked(scan, "blue")["blue"].present
        assert asked(scan, "red")["red"].present

    def test_the_whole_scan_has_a_say(self, scan: Scan, proposed: list[Any]) -> None:
        alone = pipeline()(scan, "red")["red"].presence
        both = pipeline(presence={"global_weight": 0.5})(scan, "red")["red"].presence
        whole = 1 / (1 + math.exp(15 - 20 * float(_cosine(scan, (1, 0, 0)))))
        assert both == pytest.approx(math.sqrt(alone * whole), rel=1e-3)


def _cosine(scan: Scan, colour: tuple[float, float, float]) -> float:
    mean = scan.pixels.mean((0, 1))
    return float(mean @ np.array(colour) / np.linalg.norm(mean))


@pytest.mark.usefixtures("proposed")
class TestStages:
    def test_phrases_share_proposals_and_crops(self, scan: Scan, proposed: list[Any]) -> None:
        asked = pipeline()
        result = asked(scan, ["red", "green", "blue"])
        assert len(proposed) == 1
        assert asked.encoder.image_calls == [4, 1]  # type: ignore[attr-defined]  # crops, the whole scan
        assert result.mask.names == ("red", "green", "blue")
        np.testing.assert_array_equal(result.mask.labels, filled(SHAPE, RED) * 1 + filled(SHAPE, GREEN) * 2)

    def test_kept_where_asked(self, scan: Scan) -> None:
        kept, left = (pipeline()(scan, "red", keep_stages=keep) for keep in (True, False))
        assert len(kept.proposals[0]) == 4 and kept["red"].matches[0].items[0].proposal.box == RED
        np.testing.assert_array_equal(kept["red"].region[0].mask, filled(SHAPE, RED))
        assert left.proposals == () and left["red"].matches == () and left["red"].region == ()

    def test_the_saliency_is_the_likeliest_proposals_probability(self, scan: Scan) -> None:
        found = pipeline()(scan, "red", keep_stages=True)["red"]
        probabilities = found.matches[0].probabilities
        saliency = found.saliency[0]
        assert (saliency.layer, saliency.phrase) == ("proposals", "red")
        np.testing.assert_allclose(saliency.map[20, 20], probabilities[1], rtol=1e-6)
        np.testing.assert_allclose(saliency.map[2, 2], probabilities[0], rtol=1e-6)
        assert saliency.map[40, 2] == 0

    def test_a_saliency_method_can_weigh_the_regions(self, scan: Scan) -> None:
        settings = {"retrieval": {"score": "saliency"}, "saliency": {"method": "dense"}}
        asked = pipeline(**settings, presence={"threshold": 0.3})
        found = asked(scan, "red", keep_stages=True)["red"]
        assert found.saliency[0].layer == "dense"
        assert found.present and found.matches[0].items[0].index == 1
        assert asked.encoder.image_calls == [1]  # type: ignore[attr-defined]  # no crop was looked at

    def test_the_same_again(self, scan: Scan) -> None:
        first, again = (pipeline()(scan, ["red", "green"], keep_stages=True) for _ in range(2))
        np.testing.assert_array_equal(first.mask.labels, again.mask.labels)
        assert [f.presence for f in first.targets] == [f.presence for f in again.targets]

    def test_seconds_by_stage(self, scan: Scan) -> None:
        assert set(pipeline()(scan, "red").seconds) == {
            "text", "proposals", "crops", "saliency", "retrieval", "mask", "total",
        }  # fmt: skip


class TestVolume:
    @pytest.fixture
    def volume(self) -> Scan:
        """Six slices: bright in the second to fourth, and once more, elsewhere, in the last."""
        pixels = np.zeros((6, *SHAPE), np.float32)
        pixels[1:4, 16:48, 16:32] = 0.8
        pixels[5, :16, 48:] = 0.8
        return volume_of(pixels, id="volume")

    def drawn(self, volume: Scan, **settings: Any) -> list[bool]:
        found = pipeline(volume=settings)(volume, "bright")["bright"]
        return [bool(mask.any()) for mask in found.mask]

    def test_slices_without_the_target_stay_empty(self, volume: Scan, proposed: list[Any]) -> None:
        assert self.drawn(volume) == [False, True, True, True, False, True]
        assert len(proposed) == 6

    def test_a_lone_slice_is_dropped_where_asked(self, volume: Scan, proposed: list[Any]) -> None:
        assert self.drawn(volume, min_slices=2) == [False, True, True, True, False, False]

    def test_a_gap_is_asked_again_where_asked(self, volume: Scan, proposed: list[Any]) -> None:
        volume.values[2] = 0
        assert self.drawn(volume, max_gap=1) == [False, True, True, True, False, True]
        assert self.drawn(volume, max_gap=0) == [False, True, False, True, False, True]

    def test_proposals_are_not_piled_up_unless_asked(self, volume: Scan, proposed: list[Any]) -> None:
        assert pipeline()(volume, "bright").proposals == ()
        assert len(pipeline()(volume, "bright", keep_stages=True).proposals) == 6


class TestSettings:
    @pytest.mark.parametrize(
        ("section", "settings", "words"),
        [
            ("proposals", {"points": 3}, "proposals has no setting 'points'; expected among points_per_side"),
            ("proposals", {"points_per_side": 0}, "points_per_side is 0"),
            ("crops", {"visual": "x"}, "crops has no setting 'visual'; expected among visual_prompt"),
            ("crops", {"visual_prompt": "circle"}, "no visual prompt 'circle'"),
            ("crops", {"margin": "wide"}, "crops: {'margin': 'wide'} holds"),
            ("retrieval", {"n": 2}, "retrieval has no setting 'n'; expected among score, top"),
            ("retrieval", {"top": 0}, "top is 0"),
            ("saliency", {"method": "cam"}, "saliency has no method 'cam'"),
            ("prompts", {"boxes": "all"}, "prompts has no setting 'boxes'; expected among margin"),
            ("prompts", {"points": "edge"}, "points is 'edge'"),
            ("mask", {"fusion": "sam"}, "mask: fusion is 'sam'"),
            ("presence", {"threshold": 2}, "presence: threshold is 2"),
            ("volume", {"plane": "x"}, "volume: plane is 'x'; expected one of auto, axial"),
            ("volume", {"drop_isolated": True}, "drop_isolated' any more: it is called min_slices"),
            ("volume", {"fill_gaps": True}, "fill_gaps' any more: it is called max_gap (mm)"),
            ("volume", {"min_slices": 0}, "volume: min_slices is 0"),
            ("volume", {"min_slices": True}, "volume: min_slices is True"),
            ("volume", {"batch": -1}, "volume: batch is -1"),
            ("volume", {"gate": 1.5}, "volume: gate is 1.5"),
            ("volume", {"max_gap": float("inf")}, "volume: max_gap is inf; expected mm"),
            ("volume", {"smoothing": "2"}, "volume: smoothing is '2'"),
            ("volume", {"keep": "two"}, "volume: keep is 'two'; expected all or largest"),
            ("volume", {"propagate": 1}, "volume: propagate is 1"),
            ("volume", {"min_overlap": 0}, "volume: min_overlap is 0"),
            ("regions", {"method": "crf"}, "the pipeline 'salip' reads no section regions"),
        ],
    )
    def test_a_wrong_one_is_told_before_the_first_scan(
        self, section: str, settings: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            pipeline(**{section: settings})
        assert words in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_the_published_preset_has_the_papers_models_and_settings(self) -> None:
        preset = load_preset("salip")
        assert (preset.encoder, preset.segmenter) == ("ViT-L-14:openai", "facebook/sam-vit-huge")
        assert preset["proposals"].crop_layers == 1 and preset["proposals"].crop_points_downscale == 2
        assert (preset["crops"], preset["retrieval"]) == (CropSettings(), RetrievalSettings())
        Salip(preset, Colours(), FakeSegmenter())

    def test_the_bundled_preset_fits_its_stages(self) -> None:
        Salip(load_preset("demo-salip"), Colours(), FakeSegmenter())
