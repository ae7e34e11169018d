from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter

from lexiseg.errors import UsageError
from lexiseg.pipelines.fusion import (
    MaskEstimate,
    MaskSettings,
    _mean_of_views,
    encode_queries,
    segment_best,
    segment_queries,
)
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, Region

SHAPE = (20, 30)
LEFT, RIGHT = (2, 4, 8, 10), (20, 4, 24, 8)


def boxed(*boxes: tuple[int, int, int, int]) -> BoolArray:
    mask = np.zeros(SHAPE, np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def prompts(
    *boxes: tuple[int, int, int, int], inside: list[tuple[float, float]] | None = None, outside: Any = ()
) -> Prompts:
    inside = inside or []
    return Prompts(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        points=np.array([*inside, *outside], np.float32).reshape(-1, 2),
        labels=np.array([1] * len(inside) + [0] * len(outside), np.int64),
    )


def ask(segmenter: FakeSegmenter, asked: Prompts, region: BoolArray | None = None, **settings: Any) -> MaskEstimate:
    mask = boxed(LEFT) if region is None else region
    return drawn_with(segmenter, asked, Region(mask, mask.astype(np.float32)), **settings)


def drawn_with(segmenter: FakeSegmenter, asked: Prompts, region: Region, **settings: Any) -> MaskEstimate:
    how = MaskSettings(**settings)
    return segment_queries(segmenter, encode_queries(segmenter, np.zeros(SHAPE, np.float32), asked, how), region, how)


@pytest.fixture
def segmenter() -> FakeSegmenter:
    return FakeSegmenter()


class TestRegionIsFinal:
    def test_it_is_the_mask_and_the_segmenter_is_not_asked(self, segmenter: FakeSegmenter) -> None:
        region = boxed((3, 3, 9, 12))
        drawn = ask(segmenter, prompts(LEFT), region, fusion="region")
        np.testing.assert_array_equal(drawn.mask, region)
        assert drawn.iou == 1
        assert segmenter.asked == [] and segmenter.encoded == []

    def test_it_is_cleaned(self, segmenter: FakeSegmenter) -> None:
        region = boxed(LEFT, (29, 19, 30, 20))
        region[6, 5] = False
        drawn = ask(segmenter, prompts(LEFT), region, fusion="region", min_area=0.01, fill_holes=True)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT))

    def test_it_is_cut_anew_where_the_mask_shall_promise_the_highest_dice(self, segmenter: FakeSegmenter) -> None:
        """Half of the highest Dice that a lonely 0.4 promises is 0.4 itself over 1.4, some 0.29."""
        probability = np.zeros(SHAPE, np.float32)
        probability[boxed(LEFT)] = 0.4
        region = Region(probability > 0.5, probability)
        drawn = drawn_with(segmenter, prompts(LEFT), region, fusion="region", binarize="expected-dice")
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT))
        assert segmenter.asked == []


class TestAverageIsFinal:
    def test_the_surer_of_the_two_decides_each_pixel(self, segmenter: FakeSegmenter) -> None:
        doubtful, sure = (2, 4, 8, 6), (20, 4, 24, 8)
        probability = np.full(SHAPE, 0.1, np.float32)
        probability[boxed(LEFT)] = 0.6
        probability[boxed(doubtful)] = 0.0
        probability[boxed(sure)] = 0.6
        region = Region(probability > 0.5, probability)
        drawn = drawn_with(segmenter, prompts(LEFT), region, fusion="average")
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT) & ~boxed(doubtful))

    @pytest.mark.parametrize(("weight", "expected"), [(0.0, RIGHT), (0.3, RIGHT), (0.7, LEFT), (1.0, LEFT)])
    def test_the_heavier_of_two_sure_ones_decides(
        self, segmenter: FakeSegmenter, weight: float, expected: tuple[int, int, int, int]
    ) -> None:
        region = Region(boxed(RIGHT), boxed(RIGHT).astype(np.float32))
        drawn = drawn_with(segmenter, prompts(LEFT), region, fusion="average", segmenter_weight=weight)
        np.testing.assert_array_equal(drawn.mask, boxed(expected))

    @pytest.mark.parametrize("side", [3, 6, 12])
    def test_by_size_the_segmenter_decides_small_targets_and_the_map_large_ones(self, side: int) -> None:
        region = Region(boxed((0, 0, side, 2)), boxed((0, 0, side, 2)).astype(np.float32))
        how = {"fusion": "average", "segmenter_weight": "by-size"}
        drawn = drawn_with(FakeSegmenter(sure=9), prompts((20, 10, 24, 14)), region, **how)
        # of 30 columns the segmenter's share is 0.6, 0.53 and 0.4
        expected = boxed((20, 10, 24, 14)) if side < 7.5 else boxed((0, 0, side, 2))
        np.testing.assert_array_equal(drawn.mask, expected)

    @pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), "size"])
    def test_a_weight_beyond_its_range_is_refused(self, weight: Any) -> None:
        with pytest.raises(UsageError, match=r"mask: segmenter_weight is .*; expected a share, 0 to 1"):
            MaskSettings(fusion="average", segmenter_weight=weight)


class TestCut:
    PROBABILITY = np.zeros(SHAPE, np.float32)
    PROBABILITY[4:16, 4:26] = 0.4
    PROBABILITY[8:12, 10:20] = 0.6

    def drawn(self, probability: FloatArray, **settings: Any) -> BoolArray:
        region = Region(probability > 0.25, probability)
        how = {"fusion": "average", "segmenter_weight": 0.0, **settings}
        return drawn_with(FakeSegmenter(), prompts(LEFT), region, **how).mask

    def test_at_one_half_it_is_what_is_likelier_than_not(self) -> None:
        np.testing.assert_array_equal(self.drawn(self.PROBABILITY), self.PROBABILITY > 0.5)

    def test_by_dice_what_is_as_likely_as_the_rest_comes_along(self) -> None:
        np.testing.assert_array_equal(self.drawn(self.PROBABILITY, binarize="expected-dice"), self.PROBABILITY > 0.3)

    def test_by_dice_a_sure_one_keeps_its_edge(self) -> None:
        sure = np.where(self.PROBABILITY > 0.5, np.float32(0.99), self.PROBABILITY / 4)
        np.testing.assert_array_equal(self.drawn(sure, binarize="expected-dice"), sure > 0.5)

    def test_the_segmenters_own_outline_is_cut_likewise(self) -> None:
        how = {"binarize": "expected-dice"}
        drawn = drawn_with(FakeSegmenter(sure=9), prompts(LEFT), Region(boxed(), self.PROBABILITY), **how)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT))


class TestBest:
    BOXES = (LEFT, RIGHT, (0, 0, 3, 3))

    def best(self, ratings: tuple[float, ...], cuts: tuple[BoolArray, ...]) -> tuple[int, MaskEstimate]:
        segmenter, how, pixels = FakeSegmenter(iou=ratings), MaskSettings(), np.zeros(SHAPE, np.float32)
        choices = [
            (encode_queries(segmenter, pixels, prompts(box), how), of)
            for box, of in zip(self.BOXES, cuts, strict=False)
        ]
        return segment_best(segmenter, choices, Region(boxed(), boxed().astype(np.float32)), how)

    def test_of_drawings_that_fit_their_cuts_the_one_rated_best(self) -> None:
        best, drawn = self.best((0.5, 0.9, 0.7), tuple(boxed(box) for box in self.BOXES))
        assert best == 1
        np.testing.assert_array_equal(drawn.mask, boxed(RIGHT))
        assert drawn.iou == pytest.approx(0.9)

    @pytest.mark.parametrize(("rating", "expected"), [(0.75, 1), (0.6, 0)])
    def test_a_drawing_beside_its_cut_counts_as_much_less(self, rating: float, expected: int) -> None:
        """The first covers 6 rows of its cut's 10: a Dice of 3 / 4."""
        taller = boxed((2, 4, 8, 14))
        assert self.best((0.9, rating), (taller, boxed(RIGHT)))[0] == expected

    def test_of_equal_ones_the_first(self) -> None:
        assert self.best((0.8, 0.8), (boxed(LEFT), boxed(RIGHT)))[0] == 0


class TestCloser:
    @pytest.mark.parametrize("box", [LEFT, RIGHT, (0, 0, 3, 3), (26, 15, 30, 20)])
    def test_the_mask_lies_where_it_did(self, segmenter: FakeSegmenter, box: Any) -> None:
        drawn = ask(segmenter, prompts(box), boxed(box), crop_scale=2)
        np.testing.assert_array_equal(drawn.mask, boxed(box))

    def test_a_box_is_shown_in_its_surroundings(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(LEFT), crop_scale=2)  # 6 x 6 pixels, from (2, 4)
        assert segmenter.encoded == [(12, 11)]  # cut at the scan's edge
        assert segmenter.asked[0].boxes is not None
        assert segmenter.asked[0].boxes.tolist() == [[2, 3, 8, 9]]

    def test_a_box_that_fills_the_scan_is_shown_in_all_of_it(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts((2, 2, 26, 18)), crop_scale=2)
        assert segmenter.encoded == [SHAPE]

    def test_a_tiny_box_is_shown_in_an_eighth_of_the_scan(self) -> None:
        segmenter, how = FakeSegmenter(), MaskSettings(crop_scale=2)
        encode_queries(segmenter, np.zeros((160, 160), np.float32), prompts((80, 80, 82, 82)), how)
        assert segmenter.encoded == [(20, 20)]

    def test_points_come_along_and_those_beyond_the_window_stay_away(self, segmenter: FakeSegmenter) -> None:
        asked = prompts(LEFT, inside=[(5, 7)], outside=[(9.5, 7), (25, 15)])
        ask(segmenter, asked, crop_scale=2)
        (question,) = segmenter.asked
        assert question.points is not None and question.labels is not None
        assert question.points.tolist() == [[[5, 6], [9.5, 6]]]
        assert question.labels.tolist() == [[1, 0]]

    def test_boxes_far_apart_are_joined(self, segmenter: FakeSegmenter) -> None:
        drawn = ask(segmenter, prompts(LEFT, RIGHT), boxed(LEFT, RIGHT), crop_scale=1.5, multimask=True)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT, RIGHT))

    def test_points_without_a_box_are_asked_in_the_whole_scan(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(inside=[(5, 7)]), crop_scale=2)
        assert segmenter.encoded == [SHAPE]

    def test_of_several_windows_the_mean_counts(self) -> None:
        segmenter = FakeSegmenter(iou=(0.9, 0.4))
        drawn = ask(segmenter, prompts(LEFT), crop_scale=(1, 0))
        assert segmenter.encoded == [(6, 6), SHAPE]
        assert drawn.iou == pytest.approx(0.65)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT))

    @pytest.mark.parametrize(("ratings", "drawn"), [((0.9, 0.4), True), ((0.4, 0.9), False)])
    def test_where_windows_disagree_the_better_rated_decides(self, ratings: tuple[float, float], drawn: bool) -> None:
        window = (slice(4, 10), slice(2, 8))
        full, nothing = np.ones((6, 6), np.float32), np.zeros(SHAPE, np.float32)
        answers = [((full, ratings[0]), window), ((nothing, ratings[1]), (slice(0, 20), slice(0, 30)))]
        mean = _mean_of_views(answers, SHAPE)
        np.testing.assert_array_equal(mean > 0.5, boxed(LEFT) & drawn)
        assert mean[5, 5] == pytest.approx(ratings[0] / 1.3)
        assert mean[0, 0] == 0

    def test_beyond_every_window_nothing_is_drawn(self) -> None:
        mean = _mean_of_views([((np.ones((6, 6), np.float32), 0.0), (slice(4, 10), slice(2, 8)))], SHAPE)
        np.testing.assert_array_equal(mean, boxed(LEFT).astype(np.float32))

    def test_equal_windows_are_asked_once(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts((2, 2, 26, 18)), crop_scale=(2, 0))
        assert segmenter.encoded == [SHAPE] and len(segmenter.asked) == 1

    @pytest.mark.parametrize("crop_scale", [-1, 0.5, 1000, float("nan"), (), (3, -1), "near"])
    def test_a_window_smaller_than_its_box_is_refused(self, crop_scale: Any) -> None:
        with pytest.raises(UsageError, match=r"mask: crop_scale is .*; expected 0, or"):
            MaskSettings(crop_scale=crop_scale)


class TestBoxes:
    def test_the_mask_is_the_union_over_boxes_asked_one_by_one(self, segmenter: FakeSegmenter) -> None:
        drawn = ask(segmenter, prompts(LEFT, RIGHT))
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT, RIGHT))
        assert drawn.mask.dtype == np.bool_
        assert [q.boxes.tolist() for q in segmenter.asked if q.boxes is not None] == [
            [list(LEFT)],
            [list(RIGHT)],
        ]
        assert all(q.points is None and q.labels is None for q in segmenter.asked)

    def test_its_quality_is_weighed_by_what_each_box_drew(self) -> None:
        drawn = ask(FakeSegmenter(iou=(0.9, 0.4)), prompts(LEFT, RIGHT))  # 36 and 16 pixels
        assert drawn.iou == pytest.approx((36 * 0.9 + 16 * 0.4) / 52)

    def test_nothing_drawn_has_no_quality(self) -> None:
        drawn = ask(FakeSegmenter(blind=True), prompts(LEFT, RIGHT))
        assert not drawn.mask.any()
        assert drawn.iou == 0

    def test_small_pieces_go_and_holes_are_filled(self, segmenter: FakeSegmenter) -> None:
        around = [(5, 2, 15, 5), (5, 9, 15, 12), (5, 5, 8, 9), (12, 5, 15, 9)]
        asked = prompts(*around, (25, 15, 27, 17))
        np.testing.assert_array_equal(ask(segmenter, asked).mask, boxed(*around, (25, 15, 27, 17)))
        cleaned = ask(segmenter, asked, min_area=5 / 600, fill_holes=True)
        np.testing.assert_array_equal(cleaned.mask, boxed((5, 2, 15, 12)))


class TestCandidates:
    def test_the_one_that_overlaps_the_region_most_is_taken(self, segmenter: FakeSegmenter) -> None:
        drawn = ask(segmenter, prompts(LEFT), multimask=True)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT))
        assert drawn.iou == pytest.approx(0.8)
        assert segmenter.asked[0].multimask

    def test_and_not_the_one_of_the_highest_estimate_alone(self, segmenter: FakeSegmenter) -> None:
        whole = np.ones(SHAPE, np.bool_)
        drawn = ask(segmenter, prompts(LEFT), whole, multimask=True)
        np.testing.assert_array_equal(drawn.mask, whole)
        assert drawn.iou == pytest.approx(0.99)

    def test_each_box_picks_for_itself(self, segmenter: FakeSegmenter) -> None:
        drawn = ask(segmenter, prompts(LEFT, RIGHT), boxed(LEFT, RIGHT), multimask=True)
        np.testing.assert_array_equal(drawn.mask, boxed(LEFT, RIGHT))


class TestPoints:
    def test_a_point_goes_with_the_box_that_it_lies_in(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(LEFT, RIGHT, inside=[(22.5, 6.5), (4.5, 5.5)]))
        first, second = segmenter.asked
        assert first.points is not None and first.labels is not None and second.points is not None
        assert (first.points.tolist(), first.labels.tolist()) == ([[[4.5, 5.5]]], [[1]])
        assert second.points.tolist() == [[[22.5, 6.5]]]

    def test_with_each_box_that_it_lies_in(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(LEFT, (4, 4, 12, 12), inside=[(5.5, 5.5)]))
        assert [q.points is not None for q in segmenter.asked] == [True, True]

    def test_a_boxs_end_is_outside_it(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(LEFT, inside=[(8.0, 6.0)]))
        assert segmenter.asked[0].points is None

    def test_points_outside_the_target_go_with_every_box(self, segmenter: FakeSegmenter) -> None:
        ask(segmenter, prompts(LEFT, RIGHT, inside=[(4.5, 5.5)], outside=[(15.5, 6.5)]))
        labels = [q.labels.tolist() for q in segmenter.asked if q.labels is not None]
        assert labels == [[[1, 0]], [[0]]]

    def test_without_a_box_all_points_are_one_question(self, segmenter: FakeSegmenter) -> None:
        drawn = ask(segmenter, prompts(inside=[(5.5, 5.5), (20.5, 10.5)], outside=[(12.5, 12.5)]))
        (question,) = segmenter.asked
        assert question.boxes is None
        assert question.points is not None and question.points.shape == (1, 3, 2)
        assert question.labels is not None and question.labels.tolist() == [[1, 1, 0]]
        np.testing.assert_array_equal(drawn.mask, boxed((4, 4, 7, 7), (19, 9, 22, 12)))


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"fusion": "sam"},
            {"fusion": None},
            {"binarize": 0.5},
            {"multimask": "no"},
            {"fill_holes": 1},
            {"min_area": -0.1},
            {"min_area": 1.5},
            {"min_area": float("nan")},
        ],
    )
    def test_a_value_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=f"mask: {next(iter(wrong))} is .*expected"):
            MaskSettings(**wrong)

    def test_nothing_is_an_empty_mask(self) -> None:
        drawn = MaskEstimate.nothing(SHAPE)
        assert (drawn.mask.shape, drawn.mask.dtype, drawn.mask.any()) == (SHAPE, np.bool_, False)
