import numpy as np
import pytest

from lexiseg.regions import lattice as lattice_module
from lexiseg.regions.filters import BilateralGrid, SpatialGaussian
from lexiseg.regions.lattice import PermutohedralLattice


def all_pairs(features, values):
    kernel = np.exp(-0.5 * ((features[:, :, None] - features[:, None]) ** 2).sum(axis=0))
    return kernel @ values


def relative_error(ours, exact):
    """After the best common factor, which normalisation would take out."""
    ours = ours * (ours @ exact) / (ours @ ours)
    return np.linalg.norm(ours - exact) / np.linalg.norm(exact)


@pytest.fixture
def values():
    return np.random.default_rng(1).random(600, np.float32)


class TestSpatialGaussian:
    @pytest.mark.parametrize("sxy", [0.5, 3, 40])
    def test_equals_all_pairs(self, values, sxy):
        place = np.stack(np.mgrid[:20, :30]).reshape(2, -1) / sxy
        scale = 1 / np.sqrt(all_pairs(place, np.ones(600)))
        exact = scale * all_pairs(place, scale * values)
        ours = SpatialGaussian((20, 30), sxy)(values.reshape(20, 30))
        np.testing.assert_allclose(ours.ravel(), exact, rtol=2e-3)


class TestBilateralGrid:
    @pytest.mark.parametrize("sxy", [2, 7, 60])
    @pytest.mark.parametrize("sg", [0.3, 3, 100])
    def test_equals_all_pairs_up_to_a_factor(self, values, sxy, sg):
        levels = np.random.default_rng(2).integers(0, 256, (20, 30)).astype(np.uint8)
        features = np.stack([*(np.mgrid[:20, :30] / sxy), levels / sg]).reshape(3, -1)
        ours = BilateralGrid(levels, sxy=sxy, sg=sg)(values.reshape(20, 30))
        assert relative_error(ours.ravel(), all_pairs(features, values)) < 0.025

    def test_is_symmetric(self, values):
        levels = np.random.default_rng(2).integers(0, 256, (20, 30)).astype(np.uint8)
        grid = BilateralGrid(levels, sxy=7, sg=3)
        one, other = values.reshape(20, 30), values[::-1].reshape(20, 30) ** 2
        assert np.vdot(one, grid(other)) == pytest.approx(np.vdot(grid(one), other), rel=1e-5)

    def test_cells_are_counted_as_they_are_made(self):
        grid = BilateralGrid(np.zeros((50, 40), np.uint8), sxy=6, sg=3)
        assert grid._slice.shape == (50 * 40, BilateralGrid.cells((50, 40), 6))


class TestPermutohedralLattice:
    @pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 7])
    def test_close_to_all_pairs_where_points_are_dense(self, values, dimensions):
        features = np.random.default_rng(3).normal(size=(dimensions, 600), scale=0.6).astype(np.float32)
        ours = PermutohedralLattice(features)(values)
        assert relative_error(ours, all_pairs(features, values)) < 0.08

    def test_points_far_apart_keep_to_themselves(self):
        features = np.eye(3, dtype=np.float32) * 50
        spread = PermutohedralLattice(features)(np.array([1, 0, 0], np.float32))
        assert spread[0] > 0
        assert spread[1] == spread[2] == 0

    def test_interpolation_weights_sum_to_one_and_place_the_point(self):
        features = np.random.default_rng(4).normal(size=(5, 200), scale=3).astype(np.float32)
        lattice = PermutohedralLattice(features)
        weights = lattice._slice.toarray()
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)

    def test_the_far_end_of_one_row_is_no_neighbour_of_the_next(self):
        # Along the last axis keys run on into the next row; only a margin keeps the two ends apart.
        line = np.linspace(0, 9, 10, dtype=np.float32)
        features = np.stack([*np.meshgrid(line, line)]).reshape(2, -1).astype(np.float32)
        lattice = PermutohedralLattice(features)
        for k in range(100):
            reached = lattice(np.eye(100, dtype=np.float32)[k]) > 0
            distance = np.linalg.norm(features - features[:, k, None], axis=0)
            assert distance[reached].max() < 6

    def test_sorting_and_table_give_the_same(self, values, monkeypatch):
        features = np.random.default_rng(5).normal(size=(5, 600), scale=2).astype(np.float32)
        by_table = PermutohedralLattice(features)(values)
        monkeypatch.setattr(lattice_module, "TABLE_LIMIT", 0)
        np.testing.assert_array_equal(PermutohedralLattice(features)(values), by_table)

    def test_too_wide_for_any_key(self):
        features = np.zeros((7, 2), np.float32)
        features[:, 1] = 1e4
        with pytest.raises(ValueError, match="larger standard deviations"):
            PermutohedralLattice(features)
