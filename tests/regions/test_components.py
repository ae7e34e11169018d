import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops

from lexiseg.errors import UsageError
from lexiseg.regions.threshold import clean_mask, find_components

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))

EXAMPLES = settings(max_examples=40, deadline=None)


@pytest.fixture
def three():
    """Areas 2, 12 and 6, from top to bottom."""
    mask = np.zeros((12, 10), np.bool_)
    mask[0, 1:3] = True
    mask[3:6, 4:8] = True
    mask[8:10, 0:3] = True
    return mask


@pytest.fixture
def three_saliency(three):
    saliency = np.zeros(three.shape, np.float32)
    saliency[0, 1:3] = 0.5
    saliency[3:6, 4:8] = 0.2
    saliency[8:10, 0:3] = 0.9
    return saliency


class TestFind:
    def test_by_area(self, three):
        found = find_components(three)
        assert [c.area for c in found] == [12, 6, 2]
        assert [c.box for c in found] == [(4, 3, 8, 6), (0, 8, 3, 10), (1, 0, 3, 1)]
        assert np.isnan(found[0].saliency)

    def test_by_saliency(self, three, three_saliency):
        found = find_components(three, three_saliency, order="saliency")
        assert [c.area for c in found] == [6, 2, 12]
        assert [c.saliency for c in found] == pytest.approx([0.9, 0.5, 0.2])

    def test_keep(self, three, three_saliency):
        assert [c.area for c in find_components(three, keep="largest")] == [12]
        assert [c.area for c in find_components(three, keep=2)] == [12, 6]
        assert [c.area for c in find_components(three, three_saliency, keep=1, order="saliency")] == [6]
        assert [c.area for c in find_components(three, three_saliency, keep="largest", order="saliency")] == [12]

    def test_min_area_is_a_fraction_of_the_scan(self, three):
        assert [c.area for c in find_components(three, min_area=6 / 120)] == [12, 6]
        assert [c.area for c in find_components(three, min_area=6.1 / 120)] == [12]
        assert find_components(three, min_area=0.5) == ()

    def test_touching_corners_join(self):
        assert len(find_components(np.eye(4, dtype=np.bool_))) == 1

    def test_equal_areas_go_from_top_to_bottom(self):
        mask = np.zeros((9, 9), np.bool_)
        mask[6, 0] = mask[0, 8] = mask[0, 2] = True
        assert [c.box[:2] for c in find_components(mask)] == [(2, 0), (8, 0), (0, 6)]

    def test_nothing(self):
        assert find_components(np.zeros((4, 5), np.bool_)) == ()

    @given(MASKS)
    @EXAMPLES
    def test_equals_scikit_image(self, mask):
        ours = sorted((c.box, c.area) for c in find_components(mask))
        theirs = regionprops(label(mask, connectivity=2))
        assert ours == sorted(((p.bbox[1], p.bbox[0], p.bbox[3], p.bbox[2]), int(p.area)) for p in theirs)


class TestClean:
    @given(MASKS)
    @EXAMPLES
    def test_without_options_nothing_changes(self, mask):
        np.testing.assert_array_equal(clean_mask(mask), mask)

    @given(MASKS, st.floats(0, 1))
    @EXAMPLES
    def test_is_idempotent(self, mask, min_area):
        once = clean_mask(mask, min_area=min_area, fill_holes=True)
        np.testing.assert_array_equal(clean_mask(once, min_area=min_area, fill_holes=True), once)

    def test_keep_largest(self, three):
        cleaned = clean_mask(three, keep="largest")
        assert cleaned.sum() == 12
        assert cleaned[3:6, 4:8].all()

    def test_interlocked_pieces_do_not_overwrite_each_other(self):
        mask = np.zeros((7, 7), np.bool_)
        mask[0, :] = mask[-1, :] = mask[:, 0] = mask[:, -1] = True
        mask[3, 3] = True
        np.testing.assert_array_equal(clean_mask(mask), mask)

    def test_a_ring_counts_with_what_it_encloses(self):
        mask = np.zeros((10, 16), np.bool_)
        mask[2:7, 1:6] = True
        mask[3:6, 2:5] = False  # a ring of 16 around 9
        mask[1:9, 9:12] = True  # 24
        assert clean_mask(mask, keep="largest")[5, 10]
        filled = clean_mask(mask, keep="largest", fill_holes=True)
        assert filled.sum() == 25
        assert filled[4, 3]

    def test_an_open_bay_is_no_hole(self):
        mask = np.ones((5, 5), np.bool_)
        mask[2, 2:] = False
        np.testing.assert_array_equal(clean_mask(mask, fill_holes=True), mask)

    def test_the_argument_is_left_alone(self, three):
        before = three.copy()
        clean_mask(three, keep="largest", fill_holes=True)
        np.testing.assert_array_equal(three, before)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"keep": 0}, "keep is 0"),
            ({"keep": "biggest"}, "keep is 'biggest'"),
            ({"min_area": 5}, "min_area is 5"),
            ({"order": "name"}, "order is 'name'"),
            ({"order": "saliency"}, "needs the saliency"),
        ],
    )
    def test_options(self, three, options, said):
        with pytest.raises(UsageError, match=said):
            find_components(three, **options)

    def test_not_a_mask(self):
        with pytest.raises(TypeError, match="expected bool"):
            find_components(np.zeros((3, 3), np.uint8))

    def test_saliency_of_another_shape(self, three):
        with pytest.raises(ValueError, match=r"\(3, 3\)"):
            find_components(three, np.zeros((3, 3), np.float32))


class TestLeastSure:
    def test_pieces_far_less_sure_than_the_surest_go(self) -> None:
        mask, saliency = np.zeros((8, 16), np.bool_), np.zeros((8, 16), np.float32)
        for columns, value in ((slice(0, 3), 0.9), (slice(5, 8), 0.7), (slice(10, 16), 0.4)):
            mask[2:6, columns], saliency[2:6, columns] = True, value
        kept = clean_mask(mask, saliency, least_sure=0.7)
        assert kept[3].tolist() == [*[True] * 3, False, False, *[True] * 3, *[False] * 8]
        assert not clean_mask(np.zeros_like(mask), saliency, least_sure=0.7).any()

    def test_needs_the_saliency(self) -> None:
        with pytest.raises(UsageError, match="needs the saliency"):
            clean_mask(np.ones((2, 2), np.bool_), least_sure=0.5)
