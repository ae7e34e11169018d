from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder, NamedColours
from fake_segmenter import FakeSegmenter
from scans_of import dense_preset, volume_of
from torch import Tensor

from lexiseg.errors import BadPhrase
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Image, Scan

SIZE = 64
RED, GREEN = (16, 16, 32, 48), (48, 0, 64, 16)  # x0 y0 x1 y1, whole cells of the encoder's map


class Colours(NamedColours):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.text_calls: list[tuple[str, ...]] = []
        self.image_calls: list[int] = []

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        self.text_calls.append(tuple(phrases))
        return super().encode_text(phrases)

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.image_calls.append(len(pixels))
        return super().encode_image(pixels)


PRESET = dense_preset()


def certain(presence: float) -> dict[str, float]:
    """Settings under which everything has this presence."""
    return {"a": 0.0, "b": math.log(presence / (1 - presence))}


def pipeline(segmenter: FakeSegmenter | None = None, **changes: Any) -> MedclipSam:
    return MedclipSam(PRESET.override(**changes), Colours(), segmenter or FakeSegmenter())


def boxed(*boxes: tuple[int, int, int, int]) -> BoolArray:
    mask = np.zeros((SIZE, SIZE), np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def scan() -> Scan:
    """Black, with a red and a green rectangle."""
    pixels = np.zeros((SIZE, SIZE, 3), np.float32)
    pixels[boxed(RED)] = (1, 0, 0)
    pixels[boxed(GREEN)] = (0, 1, 0)
    return Image(pixels, id="colours")


@pytest.fixture
def volume() -> Scan:
    """Four slices, of which the second and third have something bright."""
    pixels = np.zeros((4, SIZE, SIZE), np.float32)
    pixels[1][boxed(RED)] = 0.8
    pixels[2][boxed(GREEN)] = 0.8
    return volume_of(pixels, id="volume")


class TestPresent:
    def test_the_phrase_is_boxed_and_outlined(self, scan: Scan) -> None:
        result = pipeline()(scan, "red")
        found = result["red"]
        np.testing.assert_array_equal(found.mask, boxed(RED))
        assert found.mask.dtype == np.bool_
        assert [each.boxes.tolist() for each in found.prompts] == [[list(RED)]]
        assert (found.present, result.present, result.id) == (True, True, "colours")
        assert found.presence > 0.9

    def test_confidence_is_both_judges_geometric_mean(self, scan: Scan) -> None:
        found = pipeline(FakeSegmenter(iou=(0.64,)))(scan, "red", keep_stages=True)["red"]
        assert found.confidence == pytest.approx(math.sqrt(0.64 * dice(found.mask, found.region[0].mask)))
        assert 0.7 < found.confidence < 0.8  # the region's corners are rounder than the box

    def test_an_estimate_out_of_range_is_cut(self, scan: Scan) -> None:
        assert pipeline(FakeSegmenter(iou=(1.3,)))(scan, "red")["red"].confidence <= 1
        assert pipeline(FakeSegmenter(iou=(-0.2,)))(scan, "red")["red"].confidence == 0

    def test_the_region_can_be_the_mask(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        found = pipeline(segmenter, mask={"fusion": "region"})(scan, "red", keep_stages=True)["red"]
        np.testing.assert_array_equal(found.mask, found.region[0].mask)
        assert segmenter.encoded == []

    def test_without_a_threshold_any_region_is_present(self, scan: Scan) -> None:
        presence = {"threshold": None, **certain(0.01)}
        found = pipeline(presence=presence)(scan, "red")["red"]
        assert (found.present, found.presence) == (True, pytest.approx(0.01))

    @pytest.mark.parametrize(("presence", "present"), [(0.31, True), (0.29, False)])
    def test_the_threshold_decides(self, scan: Scan, presence: float, present: bool) -> None:
        found = pipeline(presence={"threshold": 0.3, **certain(presence)})(scan, "red")["red"]
        assert found.present is present
        assert found.mask.any() == present


class TestLevels:
    LEVELS: ClassVar = {"boxes": "all", "levels": [0.1, 0.5, 0.9]}

    def test_the_boxes_that_are_rated_best_are_taken(self, scan: Scan) -> None:
        found = {
            best: pipeline(FakeSegmenter(iou=tuple(0.9 if k == best else 0.2 for k in range(3))),
                           prompts=self.LEVELS)(scan, "red")["red"]
            for best in range(3)
        }  # fmt: skip
        widths = [float(np.ptp(found[best].prompts[0].boxes[0][::2])) for best in range(3)]
        assert widths[0] > widths[1] > widths[2]
        for each in found.values():
            x0, y0, x1, y1 = each.prompts[0].boxes[0].astype(int)
            np.testing.assert_array_equal(each.mask, boxed((x0, y0, x1, y1)))

    def test_the_scan_is_encoded_once(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        pipeline(segmenter, prompts=self.LEVELS)(scan, ["red", "green"])
        assert segmenter.encoded == [(SIZE, SIZE, 3)]

    def test_no_level_makes_an_absent_target_present(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        changes = {"prompts": self.LEVELS, "regions": {"threshold": 1.0}, "presence": {"threshold": None}}
        found = pipeline(segmenter, **changes)(scan, "red")["red"]
        assert not found.present and not found.mask.any()
        assert segmenter.encoded == []


class TestAbsent:
    def test_below_the_threshold_the_mask_is_empty_and_the_segmenter_idle(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        result = pipeline(segmenter, presence=certain(0.2))(scan, "red", keep_stages=True)
        found = result["red"]
        assert (found.present, result.present) == (False, False)
        assert found.mask.shape == (SIZE, SIZE)
        assert not found.mask.any() and not result.mask.foreground.any()
        assert found.prompts[0].empty
        assert not found.region[0].empty  # it was presence that said no
        assert (found.presence, found.confidence) == (pytest.approx(0.2), pytest.approx(0.8))
        assert segmenter.encoded == [] and segmenter.asked == []

    def test_an_empty_region_never_asks_the_segmenter(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        found = pipeline(segmenter, presence={"threshold": None})(scan, "blue")["blue"]
        assert not found.present and not found.mask.any()
        assert found.prompts[0].empty
        assert segmenter.encoded == [] and segmenter.asked == []
        assert found.confidence == pytest.approx(1 - found.presence)

    def test_a_scan_of_one_value_has_nothing(self) -> None:
        segmenter = FakeSegmenter()
        flat = Image(np.full((SIZE, SIZE), 0.5, np.float32))
        found = pipeline(segmenter, presence={"threshold": None})(flat, "bright")["bright"]
        assert not found.present and not found.mask.any()
        assert segmenter.encoded == []


class TestJudgesDisagree:
    """Presence says yes, and nothing could be drawn: absent, presence as measured, confidence at most 1/2."""

    NOTHING_LARGE_ENOUGH: ClassVar = {"min_area": 0.9}

    @pytest.mark.parametrize(
        ("threshold", "presence", "confidence"), [(0.5, 0.74, 0.26), (0.3, 0.4, 0.5), (0.3, 0.3001, 0.5)]
    )
    def test_no_region(self, scan: Scan, threshold: float, presence: float, confidence: float) -> None:
        asked = pipeline(prompts=self.NOTHING_LARGE_ENOUGH, presence={"threshold": threshold, **certain(presence)})
        found = asked(scan, "red")["red"]
        assert not found.present and not found.mask.any()
        assert found.presence == pytest.approx(presence)
        assert found.confidence == pytest.approx(confidence)

    def test_nothing_drawn(self, scan: Scan) -> None:
        found = pipeline(FakeSegmenter(blind=True), presence=certain(0.74))(scan, "red")["red"]
        assert not found.present and found.prompts[0].empty
        assert (found.presence, found.confidence) == (pytest.approx(0.74), pytest.approx(0.26))

    def test_both_say_no(self, scan: Scan) -> None:
        presence = {"threshold": 0.3, **certain(0.2)}
        found = pipeline(prompts=self.NOTHING_LARGE_ENOUGH, presence=presence)(scan, "red")["red"]
        assert found.confidence == pytest.approx(0.8)

    def test_without_a_threshold_presence_says_nothing_to_disagree_with(self, scan: Scan) -> None:
        presence = {"threshold": None, **certain(0.2)}
        found = pipeline(prompts=self.NOTHING_LARGE_ENOUGH, presence=presence)(scan, "red")["red"]
        assert found.confidence == pytest.approx(0.8)

    def test_undefined_presence_stays_undefined(self, scan: Scan) -> None:
        class Bare(FakeEncoder):
            """Softmax-trained; its map is stretched, and without negatives nothing is absolute."""

        asked = MedclipSam(
            PRESET.override(saliency={"activation": "minmax"}, prompts=self.NOTHING_LARGE_ENOUGH),
            Bare(),
            FakeSegmenter(),
        )
        embedded = dataclasses.replace(asked.embed(("red",))[0], negatives=torch.zeros(0, 6))
        asked._phrases["red"] = embedded
        found = asked(scan, "red")["red"]
        assert math.isnan(found.presence) and math.isnan(found.confidence)
        assert not found.present


class TestPhrases:
    def test_several_share_one_look_at_the_scan(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        asked = pipeline(segmenter)
        result = asked(scan, ["red", "green", "blue"])
        encoder = asked.encoder
        assert isinstance(encoder, Colours)
        assert (encoder.dense_calls, encoder.image_calls) == ([1], [1])
        assert len(encoder.text_calls) == 1
        assert segmenter.encoded == [(SIZE, SIZE, 3)]
        assert len(segmenter.asked) == 2
        assert [found.phrase for found in result.targets] == ["red", "green", "blue"]

    def test_they_give_a_label_map(self, scan: Scan) -> None:
        mask = pipeline()(scan, ["red", "blue", "green"]).mask
        assert mask.names == ("red", "blue", "green")
        np.testing.assert_array_equal(mask.labels, boxed(RED) * 1 + boxed(GREEN) * 3)

    def test_a_known_phrase_is_embedded_once_for_many_scans(self, scan: Scan) -> None:
        asked = pipeline()
        asked(scan, "red")
        asked(scan, ["red", "green"])
        encoder = asked.encoder
        assert isinstance(encoder, Colours)
        assert "red" in encoder.text_calls[0]
        assert len(encoder.text_calls) == 2
        assert "red" not in encoder.text_calls[1]

    def test_spaces_do_not_matter(self, scan: Scan) -> None:
        result = pipeline()(scan, "  red \t mass ")
        assert result.targets[0].phrase == "red mass"
        assert result["red  mass"].present

    @pytest.mark.parametrize(
        ("phrases", "words"),
        [
            ([], "no phrase was given"),
            (["red", "green", "red"], "'red' is asked twice"),
            (["red mass", "red  mass"], "'red mass' is asked twice"),
            (["red", "Red"], "'Red' is asked twice"),
            (None, "phrases is None; expected a text, or several"),
            ([3], "the phrase is 3; expected a text such as 'breast tumor'"),
            ("", "the phrase is empty"),
            (["red", " "], "the phrase is empty"),
            ("12", "no letter"),
            ([f"red {k}" for k in range(256)], "256 phrases were asked at once; expected at most 255"),
        ],
    )
    def test_what_cannot_be_asked(self, scan: Scan, phrases: Any, words: str) -> None:
        asked = pipeline()
        with pytest.raises(BadPhrase, match=words) as caught:
            asked(scan, phrases)
        assert len(str(caught.value).splitlines()) == 1
        encoder = asked.encoder
        assert isinstance(encoder, Colours)
        assert encoder.text_calls == [] and encoder.dense_calls == []


class TestVolume:
    def test_slices_without_the_target_stay_empty(self, volume: Scan) -> None:
        segmenter = FakeSegmenter()
        found = pipeline(segmenter)(volume, "bright")["bright"]
        assert found.mask.shape == (4, SIZE, SIZE)
        np.testing.assert_array_equal(found.mask, np.stack([boxed(), boxed(RED), boxed(GREEN), boxed()]))
        assert [len(each.boxes) for each in found.prompts] == [0, 1, 1, 0]
        assert segmenter.encoded == [(SIZE, SIZE)] * 2

    def test_presence_is_the_slices_largest(self, volume: Scan) -> None:
        found = pipeline()(volume, "bright")["bright"]
        alone = [pipeline()(Image(pixels), "bright")["bright"].presence for pixels in volume.values]
        assert found.presence == max(alone)
        assert min(alone) < 0.01 < 0.99 < max(alone)

    def test_confidence_is_weighed_by_what_each_slice_drew(self, volume: Scan) -> None:
        asked = pipeline(FakeSegmenter(iou=(0.9, 0.3)))
        found = asked(volume, "bright", keep_stages=True)["bright"]
        first, second = (dice(found.mask[k], found.region[k].mask) for k in (1, 2))
        estimate, agreement = (512 * 0.9 + 256 * 0.3) / 768, (512 * first + 256 * second) / 768
        assert found.confidence == pytest.approx(math.sqrt(estimate * agreement))

    def test_absent_in_every_slice(self, volume: Scan) -> None:
        result = pipeline()(volume, ["hole", "bright"])
        assert not result["hole"].present
        assert result["hole"].mask.shape == (4, SIZE, SIZE)
        assert set(np.unique(result.mask.labels)) == {0, 2}
        assert result.mask.labels.shape == (4, SIZE, SIZE)

    def test_a_single_slice_is_still_a_volume(self, volume: Scan) -> None:
        one = volume_of(volume.values[1:2])
        assert pipeline()(one, "bright")["bright"].mask.shape == (1, SIZE, SIZE)

    @pytest.mark.parametrize(("batch", "expected"), [(1, [0.25, 0.5, 0.75, 1.0]), (3, [0.75, 1.0])])
    def test_progress_is_told_after_each_batch(self, volume: Scan, batch: int, expected: list[float]) -> None:
        told: list[float] = []
        pipeline(volume={"batch": batch})(volume, "bright", progress=told.append)
        assert told == expected


class TestAnswer:
    def test_stages_are_kept_where_asked(self, volume: Scan) -> None:
        kept = pipeline()(volume, "bright", keep_stages=True)["bright"]
        assert [each.map.shape for each in kept.saliency] == [(SIZE, SIZE)] * 4
        assert [each.phrase for each in kept.saliency] == ["bright"] * 4
        assert [each.empty for each in kept.region] == [True, False, False, True]
        left = pipeline()(volume, "bright")["bright"]
        assert left.saliency == () and left.region == ()
        assert len(left.prompts) == 4

    def test_seconds_by_stage(self, scan: Scan) -> None:
        seconds = pipeline()(scan, "red").seconds
        assert set(seconds) == {"text", "saliency", "region", "segmenter", "mask", "total"}
        parts = [value for name, value in seconds.items() if name != "total"]
        assert all(value >= 0 for value in parts)
        assert 0 < sum(parts) <= seconds["total"]

    def test_what_was_not_done_took_no_time(self, scan: Scan) -> None:
        assert set(pipeline()(scan, "blue").seconds) == {"text", "saliency", "region", "total"}

    def test_provenance_names_preset_and_weights(self, scan: Scan) -> None:
        segmenter = FakeSegmenter()
        segmenter.weights = WeightsInfo("org/sam", Path("home/doe/model.safetensors"), "ab" * 32, revision="r1")
        provenance = pipeline(segmenter)(scan, "red").provenance
        assert provenance["preset"] == PRESET.as_dict()
        assert provenance["encoder"] == {"name": "colour"}
        assert provenance["segmenter"]["sha256"] == "ab" * 32
        assert "doe" not in json.dumps(provenance)

    def test_the_same_again(self, scan: Scan) -> None:
        asked = pipeline(regions={"method": "crf"}, saliency={"shifts": 2})
        first, again = (asked(scan, ["red", "green"], keep_stages=True) for _ in range(2))
        fresh = pipeline(regions={"method": "crf"}, saliency={"shifts": 2})(scan, ["red", "green"], keep_stages=True)
        for other in (again, fresh):
            np.testing.assert_array_equal(first.mask.labels, other.mask.labels)
            for one, two in zip(first.targets, other.targets, strict=True):
                assert (one.presence, one.confidence) == (two.presence, two.confidence)
                np.testing.assert_array_equal(one.saliency[0].map, two.saliency[0].map)
                np.testing.assert_array_equal(one.region[0].probability, two.region[0].probability)

    def test_the_scan_is_left_as_it_was(self, scan: Scan) -> None:
        before = scan.pixels.copy()
        scan.pixels.flags.writeable = False
        pipeline(regions={"method": "crf"})(scan, "red")
        np.testing.assert_array_equal(scan.pixels, before)
