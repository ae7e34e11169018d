"""The generator's steps, on scans whose regions are known."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import make_sam_folder
from painted_segmenter import PaintedSegmenter

from lexiseg.errors import UsageError
from lexiseg.models.loading import load_segmenter
from lexiseg.models.protocols import Segmenter
from lexiseg.proposals.generator import propose
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.settings import ProposalSettings

CENTRES = ((25, 30), (60, 90), (30, 80))


def disc(row: int, column: int, radius: int = 14) -> np.ndarray:
    rows, columns = np.mgrid[:90, :120]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < radius**2)


@pytest.fixture
def scan() -> np.ndarray:
    """Three discs of their own grey on black, 90 x 120."""
    pixels = np.zeros((90, 120), np.float32)
    for number, centre in enumerate(CENTRES):
        pixels[disc(*centre)] = 0.3 + 0.2 * number
    return pixels


def masks(proposals: Proposals) -> list[np.ndarray]:
    return [each.mask for each in proposals]


def has(proposals: Proposals, mask: np.ndarray) -> bool:
    return any(np.array_equal(each, mask) for each in masks(proposals))


def settings(**changes: object) -> ProposalSettings:
    return ProposalSettings(**{"points_per_side": 12, "points_per_batch": 50, **changes})  # type: ignore[arg-type]


class TestBoxes:
    def test_only_what_is_boxed_is_asked(self, scan: np.ndarray) -> None:
        segmenter = PaintedSegmenter()
        boxes = np.array([[column - 14, row - 14, column + 14, row + 14] for row, column in CENTRES[:2]], np.float32)
        told: list[float] = []
        found = propose(segmenter, scan, settings(), boxes=boxes, progress=told.append)
        assert segmenter.decoded == [2] and told == [1.0]
        assert len(found) == 2 and all(has(found, disc(*centre)) for centre in CENTRES[:2])
        assert {each.point for each in found} == {(column, row) for row, column in CENTRES[:2]}

    def test_no_box_asks_nothing(self, scan: np.ndarray) -> None:
        segmenter = PaintedSegmenter()
        assert len(propose(segmenter, scan, settings(), boxes=np.zeros((0, 4), np.float32))) == 0
        assert segmenter.encoded == []

    @pytest.mark.parametrize("levels", [0.0, (0.5, 1.0), "high"])
    def test_levels_that_mean_nothing(self, levels: object) -> None:
        with pytest.raises(UsageError, match=r"map_levels is .*, expected numbers between 0 and 1"):
            settings(map_levels=levels)

    def test_no_crops_beside_boxes(self) -> None:
        with pytest.raises(UsageError, match="crop_layers is 1, and with map_levels there is no grid"):
            settings(map_levels=0.5, crop_layers=1)


class TestPlaces:
    def test_points_elsewhere_are_not_asked(self, scan: np.ndarray) -> None:
        segmenter, told = PaintedSegmenter(), []
        where = np.zeros(scan.shape, np.bool_)
        where[: scan.shape[0] // 2, : scan.shape[1] // 3] = True
        found = propose(segmenter, scan, settings(), where=where, progress=told.append)
        assert sum(segmenter.decoded) == 6 * 4 and told[-1] == 1.0
        inside = [centre for centre in CENTRES if where[centre]]
        assert inside and all(has(found, disc(*centre)) for centre in inside)
        assert all(where[int(each.point[1]), int(each.point[0])] for each in found)

    def test_nowhere_asks_nothing_and_sees_nothing(self, scan: np.ndarray) -> None:
        segmenter, told = PaintedSegmenter(), []
        nowhere = np.zeros(scan.shape, np.bool_)
        assert len(propose(segmenter, scan, settings(crop_layers=1), where=nowhere, progress=told.append)) == 0
        assert segmenter.encoded == [] and told[-1] == 1.0

    @pytest.mark.parametrize("shape", [(1, 1), (3, 40)])
    def test_a_grid_finer_than_the_scan_stays_inside(self, shape: tuple[int, int]) -> None:
        everywhere = np.ones(shape, np.bool_)
        propose(PaintedSegmenter(), np.zeros(shape, np.float32), settings(), where=everywhere)

    def test_not_with_levels(self) -> None:
        with pytest.raises(UsageError, match=r"map_near is 0\.1, and with map_levels there is no grid"):
            settings(map_levels=0.5, map_near=0.1)


class TestRegions:
    def test_each_is_found_once(self, scan: np.ndarray) -> None:
        segmenter = PaintedSegmenter()
        assert isinstance(segmenter, Segmenter)
        found = propose(segmenter, scan, settings())
        assert found.shape == scan.shape and len(found) == 4
        assert all(has(found, disc(*centre)) for centre in CENTRES) and has(found, scan == 0)
        for each in found:
            rows, columns = np.nonzero(each.mask)
            assert each.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert each.mask[int(each.point[1]), int(each.point[0])]
            assert each.stability == 1 and each.crop == (0, 0, 120, 90)

    def test_best_first_and_the_better_twin_stays(self, scan: np.ndarray) -> None:
        grown = propose(PaintedSegmenter(iou=(0.9, 0.95, 0.1)), scan, settings())
        assert not has(grown, disc(*CENTRES[0]))
        assert all(each.iou == pytest.approx(0.95) for each in grown)

    def test_all_twins_stay_without_nms(self, scan: np.ndarray) -> None:
        found = propose(PaintedSegmenter(), scan, settings(box_nms_threshold=1.0))
        assert len(found) == 12 * 12 * 2
        assert [each.iou for each in found] == sorted((each.iou for each in found), reverse=True)

    def test_a_coarser_grid_tells_nearly_the_same(self, scan: np.ndarray) -> None:
        found = propose(PaintedSegmenter(shrink=3), scan, settings(max_area=0.5))
        assert len(found) == 3
        for each in found:
            best = max((each.mask & disc(*c)).sum() / (each.mask | disc(*c)).sum() for c in CENTRES)
            assert best > 0.75

    def test_only_what_survives_is_enlarged(self, scan: np.ndarray) -> None:
        segmenter = PaintedSegmenter()
        propose(segmenter, scan, settings(points_per_side=20))
        assert sum(segmenter.decoded) == 400 and segmenter.upsampled < 60


class TestFilters:
    def test_estimated_iou(self, scan: np.ndarray) -> None:
        assert len(propose(PaintedSegmenter(), scan, settings(pred_iou_threshold=0.995))) == 0
        assert len(propose(PaintedSegmenter(iou=(-1, -2, -3)), scan, settings(pred_iou_threshold=0))) == 4

    def test_stability(self, scan: np.ndarray) -> None:
        assert len(propose(PaintedSegmenter(), scan, settings(stability_offset=6))) == 0
        assert len(propose(PaintedSegmenter(), scan, settings(stability_offset=4))) == 4

    def test_area_is_a_fraction_of_the_scan(self, scan: np.ndarray) -> None:
        small = disc(*CENTRES[0]).mean()
        assert len(propose(PaintedSegmenter(), scan, settings(max_area=0.5))) == 3
        for limit, count in ((1.01 * small, 1), (0.99 * small, 4)):
            options = settings(min_area=limit, pred_iou_threshold=0.92)
            assert len(propose(PaintedSegmenter(), scan, options)) == count

    def test_small_pieces_and_holes_go(self, scan: np.ndarray) -> None:
        target = disc(*CENTRES[1])
        scan[58:62, 88:92] = 0.9  # a hole in the second disc
        found = propose(PaintedSegmenter(), scan, settings(min_piece=0.01, max_area=0.5))
        assert has(found, target)
        assert not has(propose(PaintedSegmenter(), scan, settings(max_area=0.5)), target)


class TestCrops:
    def test_one_encoding_each_and_every_point_asked(self, scan: np.ndarray) -> None:
        segmenter, told = PaintedSegmenter(), []
        options = settings(crop_layers=1, crop_points_downscale=2)
        propose(segmenter, scan, options, progress=told.append)
        assert len(segmenter.encoded) == 5 and segmenter.encoded[0] == (90, 120)
        assert sum(segmenter.decoded) == 12**2 + 4 * 6**2 and max(segmenter.decoded) == 50
        assert told == sorted(told) and told[0] > 0 and told[-1] == 1

    def test_the_smaller_crop_wins_where_it_sees_the_whole(self) -> None:
        pixels = np.zeros((200, 240), np.float32)
        pixels[30:60, 30:60] = 1
        found = propose(PaintedSegmenter(), pixels, settings(crop_layers=1, points_per_side=6))
        square = next(each for each in found if np.array_equal(each.mask, pixels == 1))
        assert square.crop == (0, 0, 154, 134)

    def test_what_a_crop_cuts_off_is_dropped(self) -> None:
        pixels = np.zeros((200, 240), np.float32)
        pixels[80:120, 20:220] = 1
        found = propose(PaintedSegmenter(), pixels, settings(crop_layers=1, points_per_side=6))
        assert has(found, pixels == 1)
        assert all(each.crop == (0, 0, 240, 200) for each in found)


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load_segmenter(str(make_sam_folder(tmp_path_factory.mktemp("sam"), size="tiny")), device="cpu")


class TestOddScans:
    @pytest.mark.parametrize("layers", [0, 1])
    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((1, 1), np.float32),
            np.zeros((1, 50), np.float32),
            np.full((40, 30), 0.5, np.float32),
            np.ones((20, 33, 3), np.float32),
            (np.arange(65536, dtype=np.float32) / 65535).reshape(256, 256),
        ],
        ids=["pixel", "line", "constant", "colour", "16-bit"],
    )
    def test_never_a_crash(self, sam: Segmenter, pixels: np.ndarray, layers: int) -> None:
        options = settings(
            points_per_side=2, crop_layers=layers, pred_iou_threshold=0, stability_threshold=0, min_piece=0.01
        )
        for each in propose(sam, pixels, options):
            assert each.mask.shape == pixels.shape[:2] and each.mask.any()
        assert len(propose(sam, pixels, settings(points_per_side=2, stability_offset=1e9))) == 0

    def test_twice_the_same(self, sam: Segmenter) -> None:
        pixels = np.random.default_rng(0).random((50, 70), dtype=np.float32)
        options = settings(points_per_side=4, pred_iou_threshold=0, stability_threshold=0, box_nms_threshold=1.0)
        first, second = (propose(sam, pixels, options) for _ in range(2))
        assert len(first) == len(second) > 5
        for left, right in zip(first, second, strict=True):
            assert np.array_equal(left.mask, right.mask) and left.iou == right.iou

    def test_a_volume_is_an_error(self, sam: Segmenter) -> None:
        with pytest.raises(ValueError, match="expected"):
            propose(sam, np.zeros((4, 8, 8), np.float32))


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"points_per_side": 0},
            {"points_per_side": 1.5},
            {"points_per_side": True},
            {"points_per_batch": 0},
            {"pred_iou_threshold": 1.5},
            {"stability_threshold": float("nan")},
            {"stability_threshold": "high"},
            {"stability_offset": -1},
            {"stability_offset": float("inf")},
            {"crop_layers": -1},
            {"crop_layers": 9},
            {"crop_points_downscale": 0},
            {"min_area": 0.5, "max_area": 0.4},
            {"min_piece": -0.1},
        ],
    )
    def test_impossible_values(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UsageError, match=list(wrong)[-1]):
            ProposalSettings(**wrong)  # type: ignore[arg-type]

    def test_a_layer_has_at_least_one_point(self) -> None:
        assert ProposalSettings(points_per_side=3, crop_points_downscale=2).points_in_layer(4) == 1
