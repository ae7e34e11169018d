"""Proposals to disk and back, and their picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.proposals.files import proposals_picture, read_proposals, write_proposals
from lexiseg.proposals.proposal import Proposal, Proposals, box_of
from lexiseg.values.scans import Scan


def proposal(rows: slice, columns: slice, *, iou: float) -> Proposal:
    mask = np.zeros((20, 30), np.bool_)
    mask[rows, columns] = True
    return Proposal(mask, box_of(mask), iou, 0.97, (7.5, 3.5), (0, 0, 15, 20))


@pytest.fixture
def proposals() -> Proposals:
    large = proposal(slice(2, 18), slice(1, 20), iou=0.9)
    return Proposals((20, 30), (large, proposal(slice(5, 9), slice(4, 10), iou=0.8)))


class TestFiles:
    def test_round_trip(self, proposals: Proposals, tmp_path: Path) -> None:
        read = read_proposals(write_proposals(tmp_path / "a_proposals.json", proposals, image_id="a"))
        assert read.shape == (20, 30) and len(read) == 2
        for left, right in zip(read, proposals, strict=True):
            assert np.array_equal(left.mask, right.mask)
            assert (left.box, left.iou, left.stability) == (right.box, right.iou, right.stability)
            assert (left.point, left.crop) == (right.point, right.crop)

    def test_fields_are_cocos(self, proposals: Proposals, tmp_path: Path) -> None:
        path = write_proposals(tmp_path / "a.json", proposals, image_id="a")
        record = json.loads(path.read_text())
        assert (record["version"], record["image_id"], record["height"], record["width"]) == (1, "a", 20, 30)
        first = record["proposals"][0]
        assert first["bbox"] == [1, 2, 19, 16] and first["area"] == 19 * 16
        assert first["crop_box"] == [0, 0, 15, 20] and first["point_coords"] == [[7.5, 3.5]]
        assert first["segmentation"]["size"] == [20, 30]

    def test_none_at_all(self, tmp_path: Path) -> None:
        read = read_proposals(write_proposals(tmp_path / "a.json", Proposals((3, 4)), image_id="a"))
        assert len(read) == 0 and read.shape == (3, 4)

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 2},
            {"proposals": None},
            {"height": 21},
            {"proposals": [{"segmentation": {"counts": "0"}}]},
            {"height": "x"},
        ],
    )
    def test_damaged_files_are_errors(self, proposals: Proposals, tmp_path: Path, change: dict[str, object]) -> None:
        path = write_proposals(tmp_path / "a.json", proposals, image_id="a")
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(UsageError, match=r"a\.json"):
            read_proposals(path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "1"])
    def test_other_files_are_errors(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UsageError, match=r"a\.json"):
            read_proposals(tmp_path / "a.json")
        with pytest.raises(UsageError, match=r"missing\.json"):
            read_proposals(tmp_path / "missing.json")


class TestPicture:
    def test_small_regions_are_seen_over_large_ones(self, proposals: Proposals) -> None:
        scan = Scan(np.full((20, 30), 0.5, np.float32))
        picture = proposals_picture(scan, proposals)
        assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
        outside, large, small, outline = (picture[at].tolist() for at in ((0, 0), (15, 15), (6, 6), (5, 4)))
        assert outside == [128, 128, 128]
        assert len({tuple(c) for c in (outside, large, small, outline)}) == 4

    def test_no_proposals_leave_the_scan(self) -> None:
        scan = Scan(np.random.default_rng(0).random((6, 7, 3)).astype(np.float32))
        assert np.array_equal(proposals_picture(scan, Proposals((6, 7))), np.rint(scan.pixels * 255))

    def test_another_shape_is_an_error(self, proposals: Proposals) -> None:
        with pytest.raises(ValueError, match="expected"):
            proposals_picture(Scan(np.zeros((20, 31), np.float32)), proposals)
