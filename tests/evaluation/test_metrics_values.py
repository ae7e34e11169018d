"""What can be worked out by hand, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.metrics.localisation import (
    box_iou,
    boxes_iou,
    boxes_of_mask,
    pointing_game,
    saliency_auc,
    score_boxes,
)
from lexiseg.evaluation.metrics.masks import SurfaceDistances, boundary, diagonal, score_mask, worst_mask_score


def square(x: int, y: int, size: int, shape: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + size, x : x + size] = True
    return mask


class TestSurface:
    def test_shifted_points(self) -> None:
        first, second = square(3, 3, 1), square(6, 7, 1)
        found = SurfaceDistances.of(first, second)
        assert found.hd95() == found.assd() == 5
        assert SurfaceDistances.of(first, second, (0.5, 2.0)).hd95() == pytest.approx(math.hypot(4 * 0.5, 3 * 2))

    def test_a_tolerance_of_two_pixels_is_two_pixels_in_any_spacing(self) -> None:
        first, second = square(3, 3, 1), square(5, 3, 1)
        for step in np.linspace(0.05, 3, 200):
            assert SurfaceDistances.of(first, second, (step, step)).nsd(2 * step) == 1

    def test_the_border_of_the_grid_is_a_boundary(self) -> None:
        full = np.ones((5, 6), bool)
        assert boundary(full).sum() == 2 * 5 + 2 * 6 - 4

    def test_axes_are_not_confused(self) -> None:
        truth = np.zeros((4, 5, 6), bool)
        truth[1, 1, 1] = True
        for axis, step in enumerate((5.0, 0.7, 0.2)):
            moved = np.roll(truth, 1, axis)
            assert SurfaceDistances.of(truth, moved, (5.0, 0.7, 0.2)).hd95() == pytest.approx(step)

    def test_keys_say_unit_and_tolerance(self) -> None:
        assert {"nsd_2px", "hd95_px"} <= set(score_mask(square(1, 1, 3), square(1, 1, 3)).values)
        found = score_mask(square(1, 1, 3), square(1, 1, 3), spacing=(1, 1), tolerance=0.5)
        assert {"nsd_0.5mm", "hd95_mm"} <= set(found.values)
        assert metric_of("nsd_0.5mm").title == "NSD at 0.5 mm"
        assert metric_of("hd95_px").unit == "px"

    def test_sizes_are_in_mm(self) -> None:
        found = score_mask(square(1, 1, 3), square(1, 1, 2), spacing=(0.5, 2.0))
        assert (found.truth_size, found.predicted_size) == (9, 4)

    def test_refuses_what_does_not_fit(self) -> None:
        with pytest.raises(ValueError, match="expected the same"):
            score_mask(square(1, 1, 3), np.zeros((3, 3), bool))
        with pytest.raises(ValueError, match="expected the same"):
            SurfaceDistances.of(square(1, 1, 3), np.zeros((3, 3), bool))
        with pytest.raises(ValueError, match="one for each"):
            score_mask(square(1, 1, 3), square(1, 1, 3), spacing=(1, 1, 1))
        with pytest.raises(ValueError, match="empty"):
            SurfaceDistances.of(square(1, 1, 3), square(1, 1, 0))


class TestBoxes:
    def test_of_skimage_and_by_hand(self) -> None:
        from skimage.measure import label, regionprops

        rng = np.random.default_rng(4)
        for _ in range(50):
            mask = rng.random((20, 25)) < 0.02
            if not mask.any():
                continue
            y0, x0, y1, x1 = regionprops(mask.astype(int))[0].bbox
            assert boxes_of_mask(mask) == ((x0, y0, x1, y1),)
            parts = sorted(regionprops(label(mask, connectivity=2)), key=lambda part: -part.area)
            assert len(boxes_of_mask(mask, 3)) == min(3, len(parts))
        assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
        assert box_iou((0, 0, 2, 2), (2, 0, 3, 3)) == 0

    def test_box_iou_of_torchvision(self) -> None:
        torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
        rng = np.random.default_rng(5)
        corners = np.sort(rng.uniform(0, 50, (200, 2, 2)), axis=1).reshape(200, 4)
        table = ops.box_iou(torch.from_numpy(corners[:100]), torch.from_numpy(corners[100:])).numpy()
        for k in range(100):
            found = box_iou(tuple(corners[k]), tuple(corners[100 + k]))
            assert found == pytest.approx(table[k, k], abs=1e-6)

    def test_two_lungs_are_matched_in_any_order(self) -> None:
        mask = square(2, 2, 10) | square(25, 5, 12)
        boxes = ((25.0, 5.0, 37.0, 17.0), (2.0, 2.0, 12.0, 12.0))
        assert score_boxes(boxes, mask) == score_boxes(boxes[::-1], mask) == 1
        assert score_boxes(boxes, square(2, 2, 10)) == 0.5
        assert boxes_iou(boxes, ()) == 0

    def test_one_box_is_around_all_parts(self) -> None:
        mask = square(2, 2, 4) | square(30, 30, 4)
        assert score_boxes(((2.0, 2.0, 34.0, 34.0),), mask) == 1


class TestSaliency:
    def test_auc_of_torchmetrics(self) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        rng = np.random.default_rng(6)
        for levels in (4, 256, 10**6):
            truth = rng.random((30, 30)) < 0.3
            saliency = np.floor((rng.random((30, 30)) + 0.3 * truth) * levels / 1.3) / levels
            expected = functional.binary_auroc(
                torch.from_numpy(saliency).ravel(), torch.from_numpy(truth.astype(int)).ravel()
            )
            assert saliency_auc(truth, saliency) == pytest.approx(float(expected), abs=1e-6)

    def test_auc_of_eight_bits_is_that_of_floats(self) -> None:
        rng = np.random.default_rng(7)
        truth = rng.random((40, 30)) < 0.2
        saliency = rng.integers(0, 256, (40, 30)).astype(np.uint8)
        assert saliency_auc(truth, saliency) == pytest.approx(saliency_auc(truth, saliency / 255), abs=1e-12)

    def test_undefined_without_inside_or_outside(self) -> None:
        empty = np.zeros((4, 4), bool)
        assert math.isnan(saliency_auc(empty, np.zeros((4, 4))))
        assert math.isnan(saliency_auc(~empty, np.zeros((4, 4))))
        assert math.isnan(pointing_game(empty, np.zeros((4, 4))))

    def test_pointing(self) -> None:
        truth = square(10, 10, 5)
        saliency = np.zeros((40, 40))
        saliency[12, 12] = 1
        assert pointing_game(truth, saliency) == 1
        saliency[30, 30] = 1
        assert pointing_game(truth, saliency) == 0.5
        assert pointing_game(truth, np.zeros((40, 40))) == 25 / 1600

    def test_refuses_another_shape(self) -> None:
        with pytest.raises(ValueError, match="expected the same"):
            saliency_auc(square(1, 1, 2), np.zeros((3, 3)))


def test_boundaries_of_a_sheared_volume_are_measured_where_they_lie() -> None:
    """One voxel in slice 0 and one in slice 4, right above it on the grid and 20 mm and a shift away in the body."""
    tilt, step = np.radians(20), 5 / np.cos(np.radians(20))
    truth, prediction = np.zeros((2, 5, 3, 3), np.bool_)
    truth[0, 1, 1] = prediction[4, 1, 1] = True
    directions = np.array([[0, np.sin(tilt), np.cos(tilt)], [0, 1.0, 0], [1.0, 0, 0]])
    found = SurfaceDistances.of(truth, prediction, (step, 1.0, 1.0), directions=directions)
    assert found.hd95() == pytest.approx(4 * step)
    prediction[4] = False
    prediction[4, 2, 1] = True  # a millimetre further along the shift
    found = SurfaceDistances.of(truth, prediction, (step, 1.0, 1.0), directions=directions)
    assert found.hd95() == pytest.approx(np.hypot(20, 20 * np.tan(tilt) + 1))


def test_nothing_in_a_sheared_grid_is_further_apart_than_its_diagonal() -> None:
    tilt = np.radians(20)
    directions = np.array([[0, np.sin(tilt), np.cos(tilt)], [0, 1.0, 0], [1.0, 0, 0]])
    shape, spacing = (5, 7, 3), (6.0, 1.0, 1.0)
    truth, prediction = np.zeros((2, *shape), np.bool_)
    truth[0, 0, 0] = prediction[-1, -1, -1] = True
    apart = SurfaceDistances.of(truth, prediction, spacing, directions=directions).hd95()
    # By the law of cosines: the shift adds to the rows.
    far = np.sqrt((30 * np.cos(tilt)) ** 2 + (30 * np.sin(tilt) + 7) ** 2 + 3**2)
    assert apart < diagonal(shape, spacing, directions) == pytest.approx(far)
    assert diagonal(shape, spacing) < far
    assert diagonal(shape, spacing, np.eye(3)) == pytest.approx(diagonal(shape, spacing))
    missing = worst_mask_score(truth, spacing=spacing, directions=directions)
    assert max(missing.values.values()) == pytest.approx(far)
