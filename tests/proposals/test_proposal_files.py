"""Proposals to disk and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.proposals.files import read_proposals, write_proposals
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.values.masks import box_of


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
