"""Grids, crops and measures, against the published ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lexiseg.proposals.candidates import (
    corners,
    crop_boxes,
    highest_iou,
    low_boxes,
    point_grid,
    stability_score,
    suppress,
)
from lexiseg.proposals.proposal import clean_pieces

amg = pytest.importorskip("segment_anything.utils.amg", reason="needs segment-anything")


def smooth_logits(count: int, side: int) -> torch.Tensor:
    noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(1)) - 0.7
    return interpolate(noise, (side, side), mode="bicubic")[:, 0]


class TestGrid:
    @pytest.mark.parametrize("shape", [(90, 120), (400, 500), (513, 77), (2000, 1500)])
    @pytest.mark.parametrize("layers", [0, 1, 2])
    def test_crops_are_the_published_ones(self, shape: tuple[int, int], layers: int) -> None:
        theirs, levels = amg.generate_crop_boxes(shape, layers, 512 / 1500)
        ours = crop_boxes(shape, layers=layers, overlap=512 / 1500)
        assert [list(box) for box, _ in ours] == theirs and [layer for _, layer in ours] == levels

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
    def test_tiny_scans_have_no_empty_crop(self, shape: tuple[int, int]) -> None:
        boxes = [box for box, _ in crop_boxes(shape, layers=3, overlap=1.0)]
        assert len(set(boxes)) == len(boxes)
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]

    def test_points_are_the_published_ones(self) -> None:
        theirs = amg.build_point_grid(7) * [120, 90]
        assert np.allclose(point_grid((90, 120), 7), theirs + 0.5, atol=1e-4)


class TestMeasures:
    def test_stability(self) -> None:
        logits = smooth_logits(9, 50)
        theirs = amg.calculate_stability_score(logits, 0.0, 0.2)
        assert torch.allclose(stability_score(logits, 0.2), theirs)
        assert theirs.std() > 0.01
        assert stability_score(torch.full((1, 3, 3), -9.0), 1.0).isnan().all()

    def test_low_boxes_tell_the_fine_ones(self) -> None:
        logits = smooth_logits(40, 32)
        fine = interpolate(logits[:, None], (256, 256), mode="bilinear", align_corners=False)[:, 0]
        theirs = amg.batched_mask_to_box(fine > 0) + torch.tensor([0, 0, 1, 1])
        assert (low_boxes(logits) * 8 - theirs).abs().max() <= 1
        coarse = amg.batched_mask_to_box(logits > 0) + torch.tensor([0, 0, 1, 1])
        assert (coarse * 8 - theirs).abs().max() > 2  # which whole cells could not have told

    def test_low_boxes_at_borders_and_of_nothing(self) -> None:
        assert low_boxes(torch.ones(1, 3, 4)).tolist() == [[0, 0, 4, 3]]
        assert low_boxes(-torch.ones(1, 3, 4)).tolist() == [[0, 0, 0, 0]]


class TestOverlaps:
    def test_the_better_stays_and_of_equals_the_earlier(self) -> None:
        boxes = [(0, 0, 10, 10), (0, 0, 10, 11), (50, 50, 60, 60), (0, 0, 10, 10)]
        assert suppress(boxes, [0.5, 0.9, 0.1, 0.9], threshold=0.7) == [1, 2]
        assert suppress([], [], threshold=0.7) == []

    def test_single_pixels_overlap_nothing(self) -> None:
        boxes = corners([(3, 3, 4, 4), (3, 3, 4, 4)])
        assert highest_iou(boxes, boxes).tolist() == [0, 0]
        assert highest_iou(boxes, boxes[:0]).tolist() == [0, 0]


class TestPieces:
    def test_small_pieces_and_holes(self) -> None:
        mask = np.zeros((20, 20), np.bool_)
        mask[2:12, 2:12] = True
        whole = mask.copy()
        mask[5, 5] = False  # a hole of one pixel
        mask[7:10, 7:10] = False  # a hole of nine
        mask[18, 18] = mask[17, 17] = True  # two pixels that share a corner
        whole[7:10, 7:10] = False
        assert np.array_equal(clean_pieces(mask, min_piece=3 / 400), whole)
        whole[18, 18] = whole[17, 17] = True
        assert np.array_equal(clean_pieces(mask, min_piece=2 / 400), whole)

    def test_the_largest_piece_stays(self) -> None:
        mask = np.zeros((20, 20), np.bool_)
        mask[3:6, 3] = mask[10, 10] = True
        cleaned = clean_pieces(mask, min_piece=0.1)
        assert cleaned.sum() == 3 and cleaned[3:6, 3].all()
