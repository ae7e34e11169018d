from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from regions_of import Box, filled
from scans_of import volume_of
from seeing_segmenter import SeeingSegmenter

from lexiseg.errors import UsageError
from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid, Segmenter, Tracker
from lexiseg.pipelines.propagation import carrier, carry_both_ways, is_lost, propagate
from lexiseg.pipelines.results import MaskEstimate
from lexiseg.pipelines.settings import PropagationSettings
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Planes

SHAPE = (48, 48)
START = (10, 10, 26, 26)


def planes_of(*boxes: Box | None) -> Planes:
    """Planes with a bright box each, or nothing."""
    pixels = np.stack([filled(SHAPE, *([box] if box else [])) * np.float32(0.9) for box in boxes])
    return volume_of(pixels).planes()


def carried(*boxes: Box | None, start: int, **settings: Any) -> dict[int, np.ndarray]:
    planes = planes_of(*boxes)
    begun = boxes[start]
    assert begun is not None
    return propagate(SeeingSegmenter(), planes, start, filled(SHAPE, begun), settings=PropagationSettings(**settings))


def test_a_target_is_followed_both_ways_until_it_ends() -> None:
    boxes = (None, (13, 13, 27, 27), START, (10, 10, 24, 24), (11, 11, 22, 22), None, (10, 10, 26, 26))
    found = carried(*boxes, start=2)
    assert sorted(found) == [1, 3, 4]
    for index, mask in found.items():
        box = boxes[index]
        assert box is not None
        np.testing.assert_array_equal(mask, filled(SHAPE, box))


def test_it_drifts_with_the_target() -> None:
    """A pixel a plane for twelve planes, farther than the first box reaches."""
    boxes = [(10 + k, 10, 26 + k, 26) for k in range(13)]
    found = carried(*boxes, start=0)
    assert sorted(found) == list(range(1, 13))
    np.testing.assert_array_equal(found[12], filled(SHAPE, boxes[12]))


def test_each_piece_has_a_box_of_its_own() -> None:
    pair = filled(SHAPE, (4, 4, 12, 20), (30, 4, 38, 20))
    planes = volume_of(np.stack([pair, pair]) * np.float32(0.9)).planes()
    segmenter = SeeingSegmenter()
    np.testing.assert_array_equal(propagate(segmenter, planes, 0, pair)[1], pair)
    assert len({tuple(boxes[0]) for boxes, _ in segmenter.asked if boxes is not None}) == 2


def test_the_mask_is_asked_where_the_segmenter_reads_masks() -> None:
    planes = planes_of(START, START)
    reading, blind = SeeingSegmenter(takes_masks=True), SeeingSegmenter()
    for segmenter in (reading, blind):
        assert list(propagate(segmenter, planes, 0, filled(SHAPE, START))) == [1]
    assert all(masks is None for _, masks in blind.asked)
    for _, masks in reading.asked:
        assert masks is not None
        np.testing.assert_array_equal(masks[0] > 0, filled(SHAPE, START))


def test_planes_that_are_forbidden_are_where_it_ends() -> None:
    planes = planes_of(*[START] * 5)
    found = propagate(SeeingSegmenter(), planes, 2, filled(SHAPE, START), forbidden={1})
    assert sorted(found) == [3, 4]


def test_of_nothing_nothing_is_carried() -> None:
    segmenter = SeeingSegmenter()
    assert propagate(segmenter, planes_of(START, START), 0, filled(SHAPE)) == {}
    assert segmenter.encoded == 0


def test_what_cannot_be_is_told() -> None:
    planes = planes_of(START, START)
    with pytest.raises(IndexError, match="no plane 2, expected 0 to 1"):
        propagate(SeeingSegmenter(), planes, 2, filled(SHAPE, START))
    with pytest.raises(ValueError, match=r"shape \(4, 4\), expected the plane's \(48, 48\)"):
        propagate(SeeingSegmenter(), planes, 0, np.ones((4, 4), np.bool_))


def test_the_pieces_are_not_cut_by_the_map() -> None:
    """Its own outline is taken, whatever the preset fuses; and what it drew is told with its rating."""
    planes = planes_of(START, START)
    found = carry_both_ways(carrier(SeeingSegmenter()), planes, 0, filled(SHAPE, START))
    assert found[1].estimate.iou == pytest.approx(0.9) and found[1].overlap == 1
    # A tenth of 16 pixels more on every side.
    np.testing.assert_allclose(found[1].prompts.boxes, [[8.4, 8.4, 27.6, 27.6]], rtol=1e-6)


class TestLost:
    @pytest.mark.parametrize(
        ("change", "lost"),
        [
            ({}, False),
            ({"iou": 0.67}, True),  # below 0.75 x 0.9
            ({"iou": 0.68}, False),
            ({"overlap": 0.39}, True),
            ({"overlap": 0.4}, False),
            ({"area": 1.51}, True),
            ({"area": 1.5}, False),
            ({"area": 0.24}, True),
            ({"area": 0.25}, False),
            ({"area": 0.0}, True),
        ],
    )
    def test_by_rating_overlap_and_area(self, change: dict[str, float], lost: bool) -> None:
        from lexiseg.pipelines.propagation import Carried

        values = {"iou": 0.9, "overlap": 0.9, "area": 1.0, **change}
        here = Carried(Prompts(), MaskEstimate(filled(SHAPE, START), values["iou"]), values["overlap"])
        assert is_lost(here, 0.9, values["area"], PropagationSettings()) == lost

    def test_the_plane_where_it_is_seen_is_no_answer(self) -> None:
        assert carried(START, (10, 10, 18, 11), START, start=0) == {}

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"min_iou": 2}, "propagation: min_iou is 2; expected 0 to 1"),
            ({"max_growth": 0.5}, "propagation: max_growth is 0.5; expected a factor, 1 or more"),
            ({"max_shrink": True}, "max_shrink is True"),
            ({"margin": -1}, "margin is -1"),
        ],
    )
    def test_a_wrong_bound_is_told(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError) as caught:
            PropagationSettings(**settings)
        assert words in str(caught.value)


class Remembering(SeeingSegmenter):
    """Answers the last mask that it was told, as long as that lies on something bright."""

    def remember(self, image: EncodedImage, mask: np.ndarray, memory: Any = None) -> Any:
        return (*(memory or ()), mask)

    def follow(self, image: EncodedImage, memory: Any) -> Decoded:
        seen = memory[-1] & (image.grey > 0.5)  # type: ignore[attr-defined]
        logits = torch.from_numpy(seen).float()[None, None] * 20 - 10
        return Decoded(logits, torch.tensor([[0.8]]), MaskGrid(image.shape, (1, 1)))


def test_a_segmenter_with_a_memory_is_asked_by_it() -> None:
    segmenter = Remembering()
    assert isinstance(segmenter, Tracker) and isinstance(segmenter, Segmenter)
    assert not isinstance(SeeingSegmenter(), Tracker)
    found = propagate(segmenter, planes_of(START, START, (12, 10, 26, 26), None, START), 0, filled(SHAPE, START))
    assert sorted(found) == [1, 2] and segmenter.asked == []
    np.testing.assert_array_equal(found[2], filled(SHAPE, (12, 10, 26, 26)))


def test_estimates_of_nothing_are_not_divided_by() -> None:
    here = replace(
        carry_both_ways(carrier(SeeingSegmenter()), planes_of(START, START), 0, filled(SHAPE, START))[1],
        estimate=MaskEstimate.nothing(SHAPE),
    )
    assert is_lost(here, 0.0, 0.0, PropagationSettings())
