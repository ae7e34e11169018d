"""Strokes, scribbles, pieces, and what a point may change."""

from __future__ import annotations

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter

from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.session.drawing import correct, disc, draw_candidates, filled, piece_at, sampled
from lexiseg.values.masks import Prompts

PIXELS = np.zeros((40, 40), np.float32)


def boxed(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((40, 40), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def prompts(points: list[tuple[float, float, int]], boxes: list[tuple[int, ...]] | None = None) -> Prompts:
    found = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    labels = np.array([point[2] for point in points], np.int64)
    return Prompts(np.array(boxes or [], np.float32).reshape(-1, 4), found, labels)


class TestStrokes:
    @pytest.mark.parametrize("radius", [0.0, 0.5, 3.0, 7.3])
    def test_a_disc_is_what_lies_within_its_radius(self, radius: float) -> None:
        y, x = np.mgrid[:40, :40] + 0.5
        expected = (x - 12.5) ** 2 + (y - 20.5) ** 2 <= radius**2
        np.testing.assert_array_equal(disc((40, 40), np.array([[12.5, 20.5]]), radius), expected)

    def test_a_line_is_as_wide_everywhere(self) -> None:
        found = disc((40, 40), np.array([[5.5, 5.5], [30.5, 5.5]]), 2.0)
        assert (found[:, 10:26].sum(axis=0) == 5).all() and not found[:, :3].any()

    def test_what_leaves_the_plane_is_cut(self) -> None:
        assert disc((40, 40), np.array([[-50.0, -50.0], [3.0, 3.0]]), 2.0)[3, 3]
        assert not disc((40, 40), np.array([[-50.0, 90.0]]), 2.0).any()

    def test_points_of_a_scribble_are_spread_along_it(self) -> None:
        line = np.array([[0, 0]] * 50 + [[k, 0] for k in range(101)], np.float32)
        picked = sampled(line, 5)
        np.testing.assert_array_equal(picked[:, 0], [0, 25, 50, 75, 100])
        np.testing.assert_array_equal(sampled(np.array([[3.0, 4.0]], np.float32)), [[3, 4]])


class TestPieces:
    def test_holes_and_pieces(self) -> None:
        ring = boxed(2, 2, 12, 12) & ~boxed(5, 5, 8, 8)
        np.testing.assert_array_equal(filled(ring), boxed(2, 2, 12, 12))
        two = boxed(2, 2, 6, 6) | boxed(20, 20, 30, 30)
        np.testing.assert_array_equal(piece_at(two, 3.5, 3.5), boxed(2, 2, 6, 6))
        assert not piece_at(two, 15, 15).any()


class TestPoints:
    def test_inside_only_adds_and_outside_only_takes_away(self) -> None:
        current = boxed(0, 0, 10, 10) | boxed(30, 30, 34, 34)
        asked = prompts([(15.5, 15.5, 1)])
        added = correct(CachedSegmenter(FakeSegmenter()), PIXELS, current, asked, asked.points, inside=True)
        assert (added & current).sum() == current.sum() and added[15, 15]
        asked = prompts([(31.5, 31.5, 0)], [(0, 0, 10, 10)])
        taken = correct(CachedSegmenter(FakeSegmenter()), PIXELS, current, asked, asked.points, inside=False)
        np.testing.assert_array_equal(taken, boxed(0, 0, 10, 10))

    def test_a_point_is_obeyed_though_the_segmenter_is_blind(self) -> None:
        segmenter = CachedSegmenter(FakeSegmenter(blind=True))
        asked = prompts([(15.5, 15.5, 1), (20.5, 20.5, 1)])
        added = correct(segmenter, PIXELS, boxed(0, 0, 0, 0), asked, asked.points, inside=True)
        assert added[15, 15] and added[20, 20]
        full = boxed(0, 0, 40, 40)
        sure = CachedSegmenter(FakeSegmenter())
        asked = prompts([(15.5, 15.5, 0)], [(0, 0, 40, 40)])
        assert not correct(sure, PIXELS, full, asked, asked.points, inside=False)[15, 15]

    def test_a_point_that_says_what_is_so_changes_nothing(self) -> None:
        current, segmenter = boxed(0, 0, 10, 10), FakeSegmenter()
        asked = prompts([(3.5, 3.5, 1)])
        found = correct(CachedSegmenter(segmenter), PIXELS, current, asked, asked.points, inside=True)
        np.testing.assert_array_equal(found, current)

    def test_candidates_are_of_the_newest_prompt_and_keep_the_others(self) -> None:
        asked = prompts([(25.5, 25.5, 1)], [(2, 2, 8, 8)])
        offered = draw_candidates(CachedSegmenter(FakeSegmenter()), PIXELS, asked)
        assert offered.shape == (3, 40, 40) and all((each & boxed(2, 2, 8, 8)).sum() == 36 for each in offered)
        np.testing.assert_array_equal(offered[1], boxed(2, 2, 8, 8) | boxed(24, 24, 27, 27))
