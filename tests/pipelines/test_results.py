from __future__ import annotations

import numpy as np
import pytest
from scans_of import volume_of

from lexiseg.pipelines.results import MAX_LABELS, MaskEstimate, Result, SliceResult, TargetResult, label_map
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Mask, Prompts, Region, Saliency
from lexiseg.values.scans import Image


def row(*values: int) -> BoolArray:
    return np.array([values], np.bool_)


def target(phrase: str, *, present: bool = True) -> TargetResult:
    return TargetResult(phrase, row(present, 0), present, 0.9, 0.8)


def slice_of(mask: BoolArray, weights: list[float] | float = 1.0) -> SliceResult:
    probability = np.broadcast_to(np.asarray(weights, np.float32), mask.shape).copy()
    return SliceResult(Prompts(), MaskEstimate(mask, 1.0), 0.9, probability[mask])


def labelled(*masks: BoolArray, weights: list[list[float]] | None = None) -> Mask:
    given = weights or [[1.0] * masks[0].shape[1]] * len(masks)
    slices = [[slice_of(mask, some)] for mask, some in zip(masks, given, strict=True)]
    planes = Image(np.zeros(masks[0].shape, np.float32)).planes()
    return label_map(slices, planes, tuple("abc"[: len(masks)]))


class TestLabelMap:
    def test_masks_apart_are_numbered_in_order(self) -> None:
        mask = labelled(row(1, 0, 0, 0), row(0, 0, 1, 1))
        assert mask.labels.tolist() == [[1, 0, 2, 2]]
        assert mask.labels.dtype == np.uint8
        assert mask.of("b").tolist() == [[False, False, True, True]]

    def test_where_they_overlap_the_larger_weight_wins_pixel_by_pixel(self) -> None:
        weights = [[0.9, 0.2, 0.9, 1.0], [0.1, 0.8, 1.0, 0.1]]
        assert labelled(row(1, 1, 1, 0), row(1, 1, 0, 1), weights=weights).labels.tolist() == [[1, 2, 1, 2]]

    def test_what_lies_within_another_is_on_top_whatever_the_weights(self) -> None:
        organ, part, seed = row(1, 1, 1, 1, 1, 1, 0), row(0, 1, 1, 1, 1, 0, 1), row(0, 0, 1, 0, 0, 0, 0)
        weights = [[0.9] * 7, [0.1] * 7, [0.0] * 7]
        assert labelled(organ, part, seed, weights=weights).labels.tolist() == [[1, 2, 3, 2, 2, 1, 2]]
        assert labelled(seed, part, organ, weights=weights[::-1]).labels.tolist() == [[3, 2, 1, 2, 2, 3, 2]]
        beside = row(0, 1, 1, 1, 0, 0, 1)  # three of four are covered
        assert labelled(organ, beside, weights=weights[:2]).labels.tolist() == [[1, 1, 1, 1, 1, 1, 2]]

    def test_what_lies_within_is_told_by_all_slices_together(self) -> None:
        planes = volume_of(np.zeros((2, 3, 4), np.float32)).planes()
        organ = [slice_of(np.repeat(row(*each), 3, 0)) for each in ((1, 1, 1, 1), (1, 0, 0, 1))]
        part = [slice_of(np.repeat(row(*each), 3, 0), 0.5) for each in ((1, 1, 1, 0), (1, 1, 0, 0))]
        labels = label_map([organ, part], planes, ("a", "b")).labels
        # Four fifths of the part are covered, though of its second slice only half.
        assert labels[:, 0].tolist() == [[2, 2, 2, 1], [2, 2, 0, 1]]

    def test_at_equal_weight_the_earlier_phrase_wins(self) -> None:
        masks = [row(0, 0), row(1, 1), row(1, 1)]
        assert labelled(*masks, weights=[[0.5, 0.5]] * 3).labels.tolist() == [[2, 2]]

    def test_a_weight_of_nothing_still_marks(self) -> None:
        assert labelled(row(1, 0), row(0, 0), weights=[[0.0, 0.0]] * 2).labels.tolist() == [[1, 0]]

    def test_volumes(self) -> None:
        planes = volume_of(np.zeros((2, 3, 4), np.float32)).planes()
        full, none = np.ones((3, 4), np.bool_), np.zeros((3, 4), np.bool_)
        slices = [[slice_of(full), slice_of(none)], [slice_of(none), slice_of(full)]]
        labels = label_map(slices, planes, ("a", "b")).labels
        assert labels.shape == (2, 3, 4)
        assert (np.unique(labels[0]).tolist(), np.unique(labels[1]).tolist()) == ([1], [2])

    def test_the_last_label_of_a_byte_and_no_more(self) -> None:
        slices = [[slice_of(row(k == MAX_LABELS - 1))] for k in range(MAX_LABELS + 1)]
        planes = Image(np.zeros((1, 1), np.float32)).planes()
        names = tuple(map(str, range(len(slices))))
        assert label_map(slices[:-1], planes, names[:-1]).labels.item() == 255
        with pytest.raises(ValueError, match="256 masks, expected at most 255"):
            label_map(slices, planes, names)


class TestSliceResult:
    def test_what_drew_nothing_asked_nothing(self) -> None:
        region = Region(row(0, 0), np.zeros((1, 2), np.float32))
        made = SliceResult.of(
            saliency=Saliency(region.probability, "a", 0.0),
            region=region,
            prompts=Prompts(boxes=np.zeros((1, 4), np.float32)),
            estimate=MaskEstimate.nothing((1, 2)),
            presence=0.8,
            agreement=0.6,
        )
        assert made.prompts.empty and made.agreement == 0 and not made.present


class TestResult:
    RESULT = Result("x", (target("left lung"), target("tumor", present=False)), Mask(np.zeros((1, 2), np.uint8), ()))

    def test_a_phrase_has_its_target(self) -> None:
        assert self.RESULT["tumor"] is self.RESULT.targets[1]
        assert self.RESULT["  left   lung "] is self.RESULT.targets[0]

    def test_another_phrase_has_none(self) -> None:
        with pytest.raises(KeyError, match="heart"):
            self.RESULT["heart"]

    def test_present_where_any_phrase_is(self) -> None:
        assert self.RESULT.present
        assert not Result("x", (target("a", present=False),), self.RESULT.mask).present
        assert not Result("x", (), self.RESULT.mask).present

    def test_it_reads_as_its_answers(self) -> None:
        text = repr(self.RESULT)
        assert "left lung: present, presence 0.90, confidence 0.80, 1 of 2 pixels" in text
        assert "tumor: absent" in text
