from __future__ import annotations

import numpy as np
import pytest

from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.runs.pictures import proposals_picture
from lexiseg.values.masks import box_of
from lexiseg.values.scans import Image


def proposal(rows: slice, columns: slice, *, iou: float) -> Proposal:
    mask = np.zeros((20, 30), np.bool_)
    mask[rows, columns] = True
    return Proposal(mask, box_of(mask), iou, 0.97, (7.5, 3.5), (0, 0, 15, 20))


@pytest.fixture
def proposals() -> Proposals:
    large = proposal(slice(2, 18), slice(1, 20), iou=0.9)
    return Proposals((20, 30), (large, proposal(slice(5, 9), slice(4, 10), iou=0.8)))


class TestPicture:
    def test_small_regions_are_seen_over_large_ones(self, proposals: Proposals) -> None:
        scan = Image(np.full((20, 30), 0.5, np.float32))
        picture = proposals_picture(scan, proposals)
        assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
        outside, large, small, outline = (picture[at].tolist() for at in ((0, 0), (15, 15), (6, 6), (5, 4)))
        assert outside == [128, 128, 128]
        assert len({tuple(c) for c in (outside, large, small, outline)}) == 4

    def test_no_proposals_leave_the_scan(self) -> None:
        scan = Image(np.random.default_rng(0).random((6, 7, 3)).astype(np.float32))
        assert np.array_equal(proposals_picture(scan, Proposals((6, 7))), np.rint(scan.pixels * 255))

    def test_another_shape_is_an_error(self, proposals: Proposals) -> None:
        with pytest.raises(ValueError, match="expected"):
            proposals_picture(Image(np.zeros((20, 31), np.float32)), proposals)
