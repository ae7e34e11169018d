from __future__ import annotations

import numpy as np
import pytest
from regions_of import Box, filled

from lexiseg.pipelines.fusion import MaskEstimate, VolumeSettings, make_consistent
from lexiseg.pipelines.results import SliceResult
from lexiseg.values.masks import Prompts, Region, Saliency

SHAPE = (20, 20)
HERE, NEAR, AWAY = (2, 2, 10, 10), (4, 4, 12, 12), (14, 14, 20, 20)
LONE, GAPS = VolumeSettings(drop_isolated=True), VolumeSettings(fill_gaps=True)


def answer(box: Box | None, presence: float = 0.7) -> SliceResult:
    mask = filled(SHAPE, *([box] if box else []))
    return SliceResult.of(
        saliency=Saliency(mask.astype(np.float32), "x", 0.0),
        region=Region(mask, mask.astype(np.float32)),
        prompts=Prompts(boxes=np.array([box], np.float32)) if box else Prompts(),
        estimate=MaskEstimate(mask, 0.9),
        presence=presence,
        agreement=0.8 if box else 0.0,
    )


def slices(*boxes: Box | None) -> list[SliceResult]:
    return [answer(box) for box in boxes]


def shown(answers: list[SliceResult]) -> list[bool]:
    return [each.present for each in answers]


class Redraw:
    """Draws the box that it is asked, or another one."""

    def __init__(self, box: Box | None = None) -> None:
        self.box, self.asked = box, []  # type: ignore[var-annotated]

    def __call__(self, index: int, prompts: Prompts, expected: Region, gap: SliceResult) -> SliceResult:
        self.asked.append((index, prompts.boxes[0].tolist(), expected))
        x0, y0, x1, y1 = (int(v) for v in prompts.boxes[0])
        return answer(self.box or (x0, y0, x1, y1), presence=gap.presence)


class TestLone:
    def test_a_slice_with_no_neighbour_that_overlaps_is_emptied(self) -> None:
        kept = make_consistent(slices(HERE, NEAR, None, AWAY, None), LONE)
        assert shown(kept) == [True, True, False, False, False]
        assert kept[3].prompts.empty and kept[3].presence == 0.7

    def test_a_neighbour_elsewhere_is_no_neighbour(self) -> None:
        assert shown(make_consistent(slices(HERE, AWAY, HERE), LONE)) == [False, False, False]

    def test_judged_as_they_were_whatever_the_order(self) -> None:
        chain = slices(HERE, NEAR, AWAY)
        assert shown(make_consistent(chain, LONE)) == [True, True, False]
        assert shown(make_consistent(chain[::-1], LONE)) == [False, True, True]

    def test_how_much_must_be_shared(self) -> None:
        pair = slices(HERE, NEAR)  # 36 of 64 pixels
        for overlap, kept in ((0.5, True), (0.6, False)):
            settings = VolumeSettings(drop_isolated=True, min_overlap=overlap)
            assert shown(make_consistent(pair, settings)) == [kept, kept]

    def test_the_only_slice_is_left_alone(self) -> None:
        assert shown(make_consistent(slices(HERE), LONE)) == [True]


class TestGaps:
    def test_a_gap_is_asked_with_the_box_between_its_neighbours(self) -> None:
        redraw = Redraw()
        kept = make_consistent(slices(HERE, None, NEAR), GAPS, redraw)
        assert shown(kept) == [True, True, True]
        ((index, box, expected),) = redraw.asked
        assert (index, box) == (1, [3, 3, 11, 11])
        np.testing.assert_array_equal(expected.mask, filled(SHAPE, HERE, NEAR))
        assert expected.probability[9, 9] == 1 and expected.probability[2, 2] == 0.5

    @pytest.mark.parametrize(
        "boxes", [(None, HERE, NEAR), (HERE, NEAR, None), (HERE, None, None, NEAR), (HERE, None, AWAY)]
    )
    def test_ends_wide_gaps_and_things_that_do_not_go_on_stay(self, boxes: tuple[Box | None, ...]) -> None:
        redraw = Redraw()
        kept = make_consistent(slices(*boxes), GAPS, redraw)
        assert shown(kept) == [box is not None for box in boxes] and redraw.asked == []

    def test_an_answer_elsewhere_is_not_taken(self) -> None:
        kept = make_consistent(slices(HERE, None, NEAR), GAPS, Redraw(AWAY))
        assert shown(kept) == [True, False, True]

    def test_a_filled_gap_keeps_its_neighbours_from_being_alone(self) -> None:
        both = VolumeSettings(drop_isolated=True, fill_gaps=True)
        assert shown(make_consistent(slices(HERE, None, NEAR), both, Redraw())) == [True] * 3
        assert shown(make_consistent(slices(HERE, None, NEAR), LONE, Redraw())) == [False] * 3


def test_nothing_changes_unless_asked() -> None:
    before = slices(HERE, None, AWAY, NEAR)
    assert make_consistent(before, VolumeSettings(), Redraw()) == before
