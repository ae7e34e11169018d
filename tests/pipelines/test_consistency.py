from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from regions_of import Box, filled

from lexiseg.pipelines.consistency import (
    close_gaps,
    drop_pieces,
    drop_unsure,
    of_one_kind,
    skipped_steps,
    smooth,
    thickness_of,
    with_mask,
)
from lexiseg.pipelines.results import MaskEstimate, SliceResult
from lexiseg.pipelines.settings import VolumeSettings
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Image, Volume

SHAPE = (20, 20)
HERE, NEAR, AWAY = (2, 2, 10, 10), (4, 4, 12, 12), (14, 14, 20, 20)
FIVE = np.full(20, 5.0)


def answer(*boxes: Box, presence: float = 0.7, iou: float = 0.9) -> SliceResult:
    mask = filled(SHAPE, *boxes)
    return SliceResult.of(
        saliency=Saliency(mask.astype(np.float32), "x", 0.0),
        region=Region(mask, mask.astype(np.float32)),
        prompts=Prompts(boxes=np.array(boxes, np.float32)) if boxes else Prompts(),
        estimate=MaskEstimate(mask, iou, mask.astype(np.float32)),
        presence=presence,
        agreement=0.8 if boxes else 0.0,
    )


def slices(*boxes: Box | None) -> list[SliceResult]:
    return [answer(*([box] if box else [])) for box in boxes]


def shown(answers: list[SliceResult]) -> list[bool]:
    return [each.present for each in answers]


def sizes(answers: list[SliceResult]) -> list[int]:
    return [int(each.estimate.mask.sum()) for each in answers]


class Redraw:
    """Draws the box that it is asked, or another one."""

    def __init__(self, box: Box | None = None) -> None:
        self.box, self.asked = box, []  # type: ignore[var-annotated]

    def __call__(self, index: int, prompts: Prompts, expected: Region, gap: SliceResult) -> SliceResult:
        self.asked.append((index, prompts.boxes[0].tolist(), expected))
        x0, y0, x1, y1 = (int(v) for v in prompts.boxes[0])
        return answer(self.box or (x0, y0, x1, y1), presence=gap.presence)


class TestGaps:
    def test_a_gap_is_asked_with_the_box_between_its_ends(self) -> None:
        redraw = Redraw()
        kept = close_gaps(slices(HERE, None, NEAR), FIVE, VolumeSettings(max_gap=5), redraw)
        assert shown(kept) == [True, True, True]
        ((index, box, expected),) = redraw.asked
        assert (index, box) == (1, [3, 3, 11, 11])
        np.testing.assert_array_equal(expected.mask, filled(SHAPE, HERE, NEAR))
        assert expected.probability[9, 9] == 1 and expected.probability[2, 2] == 0.5

    def test_a_gap_is_measured_in_mm(self) -> None:
        for thickness, gap, filled_up in ((5, 10, True), (5, 9.9, False), (3, 9, True), (1, 3, True), (1, 2, False)):
            wide = slices(HERE, None, None, HERE) if thickness == 5 else slices(HERE, None, None, None, HERE)
            kept = close_gaps(wide, np.full(5, float(thickness)), VolumeSettings(max_gap=gap), Redraw())
            assert shown(kept) == [filled_up or each.present for each in wide]

    def test_boxes_move_from_one_end_to_the_other_by_the_distance(self) -> None:
        """Slices at 0, 2, 8 and 10 mm: the ends' boxes are 8 pixels apart."""
        ends = [(0, 0, 8, 8), (8, 0, 16, 8)]
        redraw, positions = Redraw(), np.array([0.0, 2.0, 8.0, 10.0])
        settings = VolumeSettings(max_gap=100, min_overlap=1e-9)
        close_gaps(slices((0, 0, 12, 8), None, None, (4, 0, 16, 8)), thickness_of(positions), settings, redraw)
        # Their slices' middles lie at 0, 2.5, 7.5 and 10 mm of the thicknesses 2, 4, 4 and 2, the first at 1 mm.
        found = [box[0] for _, box, _ in redraw.asked]
        middles = np.cumsum(thickness_of(positions)) - thickness_of(positions) / 2
        expected = 4 * (middles[1:3] - middles[0]) / (middles[3] - middles[0])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        redraw.asked.clear()
        # The ends do not overlap: nothing is asked.
        close_gaps(slices(ends[0], None, None, ends[1]), thickness_of(positions), settings, redraw)
        assert redraw.asked == []

    @pytest.mark.parametrize(
        "boxes", [(None, HERE, NEAR), (HERE, NEAR, None), (HERE, None, None, NEAR), (HERE, None, AWAY)]
    )
    def test_ends_wide_gaps_and_things_that_do_not_go_on_stay(self, boxes: tuple[Box | None, ...]) -> None:
        redraw = Redraw()
        kept = close_gaps(slices(*boxes), FIVE, VolumeSettings(max_gap=5), redraw)
        assert shown(kept) == [box is not None for box in boxes] and redraw.asked == []

    def test_what_the_segmenter_rates_low_is_not_there(self) -> None:
        """0.9 at either end, and a share of 0.75 of it: 0.675."""
        for rated, taken in ((0.68, True), (0.67, False)):

            def redraw(
                index: int, prompts: Prompts, expected: Region, gap: SliceResult, iou: float = rated
            ) -> SliceResult:
                return answer(HERE, iou=iou)

            settings = VolumeSettings(max_gap=5)
            kept = close_gaps(slices(HERE, None, NEAR), FIVE, settings, redraw, min_iou=0.75)
            assert shown(kept) == [True, taken, True]

    def test_an_answer_elsewhere_is_not_taken(self) -> None:
        kept = close_gaps(slices(HERE, None, NEAR), FIVE, VolumeSettings(max_gap=5), Redraw(AWAY))
        assert shown(kept) == [True, False, True]


class TestPieces:
    def dropped(self, answers: list[SliceResult], thickness: np.ndarray | None = FIVE, **settings: object) -> list[int]:
        known = None if thickness is None else thickness[: len(answers)]
        return sizes(drop_pieces(answers, known, 1.0, VolumeSettings(**settings)))  # type: ignore[arg-type]

    def test_a_piece_that_spans_too_few_slices_goes(self) -> None:
        kept = drop_pieces(slices(HERE, NEAR, None, AWAY, None), FIVE[:5], 1.0, VolumeSettings(min_slices=2))
        assert shown(kept) == [True, True, False, False, False]
        assert kept[3].prompts.empty and kept[3].presence == 0.7

    def test_slices_that_share_no_pixel_are_not_one_piece(self) -> None:
        assert self.dropped(slices(HERE, AWAY, HERE), min_slices=2) == [0, 0, 0]

    def test_of_a_slice_with_two_pieces_one_can_go(self) -> None:
        both = [answer(HERE), answer(NEAR, (15, 0, 18, 3)), answer(NEAR)]
        assert self.dropped(both, min_slices=2) == [64, 64, 64]
        kept = drop_pieces(both, FIVE[:3], 1.0, VolumeSettings(min_slices=2))
        np.testing.assert_array_equal(kept[1].estimate.mask, filled(SHAPE, NEAR))
        assert kept[1].weights.shape == (64,) and kept[0] is both[0]

    def test_sizes_are_mm3(self) -> None:
        """64 pixels of 1 mm2 in slices of 5 mm are 320 mm3, 36 are 180."""
        apart = slices(HERE, None, AWAY)
        assert self.dropped(apart, min_volume=180) == [64, 0, 36]
        assert self.dropped(apart, min_volume=180.1) == [64, 0, 0]
        thick = np.array([5.0, 5.0, 5.1])
        assert self.dropped(apart, thick, min_volume=183) == [64, 0, 36]

    def test_a_share_of_the_largest(self) -> None:
        apart = slices(HERE, None, AWAY)
        assert self.dropped(apart, min_share=36 / 64) == [64, 0, 36]
        assert self.dropped(apart, min_share=0.6) == [64, 0, 0]

    def test_the_largest_by_mm3_and_not_by_pixels(self) -> None:
        apart = slices(HERE, None, AWAY)
        assert self.dropped(apart, keep="largest") == [64, 0, 0]
        assert self.dropped(apart, np.array([5.0, 5.0, 10.0]), keep="largest") == [0, 0, 36]

    def test_where_no_distance_is_known_voxels_are_counted(self) -> None:
        apart = slices(HERE, None, AWAY)
        assert self.dropped(apart, None, keep="largest", min_volume=1e9) == [64, 0, 0]

    def test_a_piece_stays_where_its_surest_slice_is_nearly_as_sure_as_the_volumes(self) -> None:
        """Surety is presence times the root of IoU times agreement; the last two are alike here."""
        unsure = [answer(HERE, presence=p) for p in (0.5, 0.9, 0.4)]
        other = [answer(), *(answer(AWAY, presence=p) for p in (0.7, 0.8))]
        both = [*unsure, *other]
        assert sizes(drop_unsure(both, 0.9)) == [64, 64, 64, 0, 0, 0]
        assert sizes(drop_unsure(both, 0.88)) == [64, 64, 64, 0, 36, 36]  # 0.8 / 0.9
        blind = [replace(each, presence=np.nan) for each in both]
        assert sizes(drop_unsure(blind, 0.9)) == [64, 64, 64, 0, 36, 36]

    def test_what_the_segmenter_doubts_is_not_sure(self) -> None:
        apart = [answer(HERE, iou=0.9), answer(), answer(AWAY, iou=0.4, presence=0.9)]
        # 0.7 sqrt(0.9 0.8) = 0.59 and 0.9 sqrt(0.4 0.8) = 0.51
        assert sizes(drop_unsure(apart, 0.9)) == [64, 0, 0]

    def test_nothing_changes_unless_asked(self) -> None:
        before = slices(HERE, None, AWAY, NEAR)
        assert drop_pieces(before, FIVE, 1.0, VolumeSettings()) == before
        nothing = slices(None, None)
        assert drop_pieces(nothing, FIVE, 1.0, VolumeSettings(min_slices=2, keep="largest")) == nothing
        assert drop_unsure(before, 0) == before and drop_unsure(nothing, 1) == nothing


def soft(value: float) -> SliceResult:
    """One pixel of a probability."""
    probability = np.full((1, 1), value, np.float32)
    return SliceResult(
        Prompts(), MaskEstimate(probability > 0.5, 0.9, probability), 0.9, np.ones(int(value > 0.5), np.float32)
    )


def cut(probability: np.ndarray) -> np.ndarray:
    return np.asarray(probability > 0.5)


class TestSmoothing:
    def test_neighbours_are_averaged_by_a_gaussian_of_mm(self) -> None:
        before = [soft(0.9), soft(0.6), soft(0.9)]
        found = smooth(before, np.array([0.0, 2.0, 6.0]), 2.0, cut)[1].estimate.probability
        near, far = np.exp(-0.5), np.exp(-2.0)
        assert found is not None
        assert found.item() == pytest.approx((0.9 * near + 0.6 + 0.9 * far) / (near + 1 + far), rel=1e-5)

    def test_empty_slices_neither_give_nor_receive(self) -> None:
        before = [soft(0.9), soft(0.1), soft(0.9), soft(0.4)]
        after = smooth(before, np.arange(4.0), 1.0, cut)
        assert shown(after) == [True, False, True, False]
        assert after[0].estimate.probability is not None
        assert after[0].estimate.probability.item() == pytest.approx(0.9)

    def test_slices_far_apart_have_no_weight(self) -> None:
        before = [soft(0.9), soft(0.6)]
        assert smooth(before, np.array([0.0, 6.1]), 2.0, cut) == before


def test_thickness_is_half_of_the_way_to_either_neighbour() -> None:
    assert thickness_of(np.array([0.0, 2.0, 8.0, 10.0])).tolist() == [2, 4, 4, 2]
    assert thickness_of(np.array([0.0])).tolist() == [1]


def test_steps_in_mm_need_a_distance_between_slices() -> None:
    values = np.arange(24.0).reshape(4, 2, 3)
    known = Volume(values, Geometry.of_spacing((4, 2, 3), (5.0, 1.0, 1.0))).planes()
    in_time = Volume(values, Geometry((4, 2, 3), np.diag([1.0, 1.0, 5.0, 1.0]), time=True)).planes()
    settings = VolumeSettings(max_gap=10, smoothing=2, min_slices=2)
    assert skipped_steps(settings, known) == ()
    assert skipped_steps(settings, in_time) == ("max_gap", "smoothing")
    assert skipped_steps(VolumeSettings(min_slices=2, gate=0.9), in_time) == ()


def test_planes_know_where_they_lie() -> None:
    uneven = Geometry((3, 2, 2), np.diag([-1.0, -1.0, 4.0, 1.0]), positions=(0.0, 3.0, 8.0))
    volume = Volume(np.arange(12.0).reshape(3, 2, 2), uneven)
    assert volume.planes("axial").positions == (0.0, 3.0, 8.0)
    assert volume.planes("coronal").positions == (0.0, 1.0)
    upside_down = Geometry((3, 2, 2), np.diag([-1.0, -1.0, -4.0, 1.0]), positions=(0.0, 3.0, 8.0))
    assert Volume(volume.values, upside_down).planes("axial").positions == (0.0, 5.0, 8.0)
    assert Image(np.zeros((2, 2), np.float32)).planes().positions is None


def test_a_mask_that_changes_keeps_the_weights_of_its_pixels() -> None:
    before = answer(HERE)
    weighed = replace(before, weights=np.linspace(0, 1, 64).astype(np.float32))
    fewer = with_mask(weighed, filled(SHAPE, (2, 2, 10, 4)))
    np.testing.assert_array_equal(fewer.weights, weighed.weights[:16])
    more = with_mask(weighed, filled(SHAPE, (2, 2, 11, 10)))
    assert more.weights.shape == (72,) and more.weights[8] == pytest.approx(0.5)
    assert not with_mask(weighed, filled(SHAPE)).present


class TestOfOneKind:
    """Shares of brain, and of chest CT; the rest is another kind's."""

    HOLDERS = frozenset({"brain", "fetal"})

    def told(self, *shares: tuple[float, float]) -> list[SliceResult]:
        kinds = [
            {"brain": brain, "fetal": 0.0, "chest CT": chest, "knee": 1 - brain - chest} for brain, chest in shares
        ]
        return [replace(answer(HERE), kinds=each) for each in kinds]

    def test_a_volume_of_another_kind_is_empty_and_its_presence_next_to_none(self) -> None:
        found = of_one_kind(self.told((0.5, 0.45), (0.2, 0.75)), self.HOLDERS, 0.05, 0.3)
        assert shown(found) == [False, False]
        # h = 0.35 and o = 0.6.
        assert [each.presence for each in found] == pytest.approx([0.05 * 0.35 / 0.6] * 2)
        assert [each.held for each in found] == [each.presence for each in found]

    @pytest.mark.parametrize("threshold", [None, 0.0, 0.01])
    def test_whoever_asks_for_less_is_shown_it(self, threshold: float | None) -> None:
        found = of_one_kind(self.told((0.5, 0.45), (0.2, 0.75)), self.HOLDERS, 0.05, threshold)
        assert shown(found) == [True, True]
        assert max(each.presence for each in found) < 0.05

    def test_what_is_less_present_stays_so(self) -> None:
        given = [replace(each, presence=0.001, held=0.002) for each in self.told((0.1, 0.9))]
        (found,) = of_one_kind(given, self.HOLDERS, 0.05, 0.3)
        assert (found.presence, found.held) == (0.001, 0.002)

    def test_slices_that_look_like_another_kind_do_not_outvote_the_volume(self) -> None:
        given = self.told((0.9, 0.0), (0.1, 0.8), (0.7, 0.2))
        assert of_one_kind(given, self.HOLDERS, 0.05, 0.3) == given

    def test_kinds_that_can_hold_it_count_together_and_the_others_each(self) -> None:
        kinds = {"brain": 0.2, "fetal": 0.2, "chest CT": 0.3, "knee": 0.3}
        given = [replace(answer(HERE), kinds=kinds)] * 2
        assert of_one_kind(given, self.HOLDERS, 0.05, 0.3) == given

    def test_nothing_is_said_where_no_kinds_are_told_or_all_can_hold_it(self) -> None:
        given = slices(HERE, None)
        assert of_one_kind(given, self.HOLDERS, 0.05, 0.3) == given
        given = self.told((0.1, 0.9))
        assert of_one_kind(given, frozenset({"brain", "fetal", "chest CT", "knee"}), 0.05, 0.3) == given
