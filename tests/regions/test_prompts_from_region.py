import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lexiseg.errors import UsageError
from lexiseg.regions.refine import HullSettings, PromptSettings, prompts_from_region

REGIONS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
EXAMPLES = settings(max_examples=40, deadline=None)
POINTS = st.sampled_from(["none", "center", "peak"])


def covered(boxes, shape):
    mask = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes.astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def two():
    """An L of 12 pixels and a bar of 5."""
    region = np.zeros((20, 30), np.bool_)
    region[4:12, 5] = True
    region[11, 5:10] = True
    region[2, 20:25] = True
    return region


@pytest.fixture
def two_saliency(two):
    saliency = np.where(two, 0.5, 0.1).astype(np.float32)
    saliency[2, 20:25] = 0.8
    saliency[11, 9] = 0.6
    saliency[0, 0] = 1
    return saliency


class TestBoxes:
    def test_largest_is_the_default(self, two):
        prompts = prompts_from_region(two)
        np.testing.assert_array_equal(prompts.boxes, [[5, 4, 10, 12]])
        assert prompts.boxes.dtype == np.float32
        assert prompts.points.shape == (0, 2)
        assert prompts.labels.shape == (0,)

    def test_all_by_area_or_saliency(self, two, two_saliency):
        large, bar = [5, 4, 10, 12], [20, 2, 25, 3]
        np.testing.assert_array_equal(prompts_from_region(two, boxes="all").boxes, [large, bar])
        by_saliency = prompts_from_region(two, two_saliency, boxes="all", order="saliency")
        np.testing.assert_array_equal(by_saliency.boxes, [bar, large])
        np.testing.assert_array_equal(prompts_from_region(two, two_saliency, boxes=1, order="saliency").boxes, [bar])

    def test_hull(self, two):
        np.testing.assert_array_equal(prompts_from_region(two, boxes="hull").boxes, [[5, 2, 25, 12]])

    def test_margin_stops_at_the_border(self, two):
        np.testing.assert_allclose(prompts_from_region(two, margin=0.1).boxes, [[4.5, 3.2, 10.5, 12.8]])
        np.testing.assert_allclose(prompts_from_region(two, margin=1).boxes, [[0, 0, 15, 20]])

    def test_small_components_are_not_asked_for(self, two):
        assert len(prompts_from_region(two, boxes="all", min_area=6 / 600).boxes) == 1

    @given(REGIONS)
    @EXAMPLES
    def test_boxes_are_tight_and_end_exclusive(self, region):
        boxes = prompts_from_region(region, boxes="all").boxes
        assert covered(boxes, region.shape)[region].all()
        for x0, y0, x1, y1 in boxes.astype(int):
            window = region[y0:y1, x0:x1]
            assert window[0].any()
            assert window[-1].any()
            assert window[:, 0].any()
            assert window[:, -1].any()

    @given(REGIONS, st.floats(0, 2))
    @EXAMPLES
    def test_a_margin_keeps_boxes_inside_the_scan(self, region, margin):
        height, width = region.shape
        boxes = prompts_from_region(region, boxes="all", margin=margin).boxes
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()

    @given(REGIONS, st.integers(0, 5), st.integers(0, 5))
    @EXAMPLES
    def test_boxes_and_points_move_with_the_region(self, region, dx, dy):
        framed = np.pad(region, 12)  # room for the shift and the margin: a border would clip the boxes
        moved = np.roll(framed, (dy, dx), axis=(0, 1))
        options = {"boxes": "all", "points": "center", "margin": 0.1}
        before, after = prompts_from_region(framed, **options), prompts_from_region(moved, **options)
        np.testing.assert_allclose(after.boxes, before.boxes + np.float32([dx, dy, dx, dy]), atol=1e-5)
        np.testing.assert_array_equal(after.points, before.points + np.float32([dx, dy]))


class TestAbsentTarget:
    @pytest.mark.parametrize("boxes", ["largest", "all", "hull", 3])
    @pytest.mark.parametrize("points", ["none", "center", "peak"])
    def test_an_empty_region_gives_empty_prompts(self, boxes, points):
        nothing = np.zeros((20, 30), np.bool_)
        saliency = np.random.default_rng(0).random((20, 30), np.float32)
        prompts = prompts_from_region(nothing, saliency, boxes=boxes, points=points, negatives=3, margin=0.5)
        assert prompts.empty
        assert prompts.boxes.shape == (0, 4)
        assert prompts.points.shape == (0, 2)
        assert prompts.labels.shape == (0,)

    def test_only_specks_count_as_empty(self, two):
        assert prompts_from_region(two, min_area=0.5, points="center", negatives=2).empty


class TestPoints:
    def test_one_for_each_component_in_the_boxes_order(self, two, two_saliency):
        prompts = prompts_from_region(two, two_saliency, boxes="all", points="peak")
        np.testing.assert_array_equal(prompts.points, [[9.5, 11.5], [20.5, 2.5]])
        np.testing.assert_array_equal(prompts.labels, [1, 1])
        assert prompts.labels.dtype == np.int64

    def test_points_without_boxes(self, two):
        prompts = prompts_from_region(two, boxes="none", points="center")
        assert len(prompts.boxes) == 0
        assert len(prompts.points) == 2
        assert not prompts.empty

    def test_center_is_deepest_with_the_border_as_outline(self):
        region = np.ones((9, 15), np.bool_)
        (point,) = prompts_from_region(region, points="center").points
        assert point[1] == 4.5
        assert 4.5 <= point[0] <= 10.5

    def test_equal_peaks_are_decided_by_depth(self):
        region = np.ones((7, 7), np.bool_)
        prompts = prompts_from_region(region, np.ones((7, 7), np.float32), points="peak")
        np.testing.assert_array_equal(prompts.points, [[3.5, 3.5]])

    @given(REGIONS, POINTS, st.integers(0, 4))
    @EXAMPLES
    def test_labels_tell_the_inside_from_the_outside(self, region, points, negatives):
        saliency = np.random.default_rng(0).random(region.shape, np.float32)
        prompts = prompts_from_region(region, saliency, boxes="all", points=points, negatives=negatives)
        assert prompts.points.dtype == np.float32
        assert len(prompts.points) == len(prompts.labels)
        for (x, y), inside in zip(prompts.points, prompts.labels, strict=True):
            assert region[int(y), int(x)] == bool(inside)
        assert len(np.unique(prompts.points, axis=0)) == len(prompts.points)

    def test_negatives_come_last_and_keep_apart(self, two):
        prompts = prompts_from_region(two, points="center", negatives=3)
        np.testing.assert_array_equal(prompts.labels, [1, 0, 0, 0])
        outside = prompts.points[1:]
        gaps = np.linalg.norm(outside[:, None] - outside[None], axis=-1)
        assert gaps[~np.eye(3, dtype=bool)].min() >= 2

    def test_a_region_that_fills_the_scan_has_no_negatives(self):
        prompts = prompts_from_region(np.ones((5, 5), np.bool_), points="center", negatives=3)
        np.testing.assert_array_equal(prompts.labels, [1])


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"boxes": "some"}, "boxes is 'some'"),
            ({"boxes": 0}, "boxes is 0"),
            ({"points": "random"}, "points is 'random'"),
            ({"points": "peak"}, "needs the saliency"),
            ({"boxes": "none"}, "at least one"),
            ({"margin": -0.1}, "margin is -0.1"),
            ({"negatives": -1}, "negatives is -1"),
            ({"min_area": 2}, "min_area is 2"),
        ],
    )
    def test_options(self, two, options, said):
        with pytest.raises(UsageError, match=said):
            prompts_from_region(two, **options)


class TestSettings:
    def test_every_setting_reaches_the_prompts(self, two, two_saliency):
        options = {
            "boxes": "all",
            "margin": 0.1,
            "min_area": 1 / 600,
            "order": "saliency",
            "points": "peak",
            "negatives": 2,
        }
        found = PromptSettings(**options).prompts(two, two_saliency)
        expected = prompts_from_region(two, two_saliency, **options)
        for name in ("boxes", "points", "labels"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        plain = PromptSettings().prompts(two)
        np.testing.assert_array_equal(plain.boxes, prompts_from_region(two).boxes)

    def test_of_a_proposal(self, two):
        found = HullSettings(margin=0.1, points="center", negatives=1).prompts(two)
        expected = prompts_from_region(two, boxes="hull", margin=0.1, points="center", negatives=1)
        for name in ("boxes", "points", "labels"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

    @pytest.mark.parametrize(("levels", "cuts"), [((), ()), (0.5, (0.5,)), ((0.2, 0.5), (0.2, 0.5))])
    def test_levels(self, levels, cuts):
        assert PromptSettings(levels=levels).cuts == cuts

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"boxes": "some"}, "boxes is 'some'"),
            ({"points": "random"}, "points is 'random'"),
            ({"boxes": "none"}, "at least one"),
            ({"margin": -0.1}, "margin is -0.1"),
            ({"negatives": -1}, "negatives is -1"),
            ({"min_area": 2}, "min_area is 2"),
            ({"order": "name"}, "order is 'name'"),
            ({"levels": 1.0}, "levels is 1.0"),
            ({"levels": (0.5, 0)}, r"levels is \(0.5, 0\)"),
            ({"levels": "half"}, "levels is 'half'"),
        ],
    )
    def test_what_cannot_be_is_told_before_any_scan(self, options, said):
        with pytest.raises(UsageError, match=said):
            PromptSettings(**options)

    @pytest.mark.parametrize(
        ("options", "said"), [({"margin": -1}, "margin"), ({"points": "peak"}, "needs the saliency")]
    )
    def test_of_a_proposal_too(self, options, said):
        with pytest.raises(UsageError, match=said):
            HullSettings(**options)
