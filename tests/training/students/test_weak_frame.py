from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg.training.students.frame import Frame, normalise


class TestFrame:
    @pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50), (3, 200)])
    def test_gives_a_smooth_map_back_in_place(self, shape: tuple[int, int]) -> None:
        y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
        pixels = (0.5 + 0.3 * np.sin(3 * x) + 0.2 * y).astype(np.float32)
        frame = Frame(*shape, 64)
        back = frame.take(frame.put(pixels, channels=1))[0].numpy()
        assert back.shape == shape
        assert np.abs(back - pixels).mean() < 0.02

    def test_a_mark_stays_at_its_place(self) -> None:
        labels = np.zeros((30, 90), np.uint8)
        labels[10:20, 60:90] = 1
        frame = Frame(30, 90, 90)
        rows, columns = np.nonzero(frame.put_labels(labels).numpy())
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 49, 60, 89)

    def test_labels_stay_labels(self) -> None:
        labels = np.random.default_rng(0).integers(0, 4, (37, 53)).astype(np.uint8)
        assert set(np.unique(Frame(37, 53, 32).put_labels(labels))) <= {0, 1, 2, 3}

    def test_colour_becomes_grey_and_grey_colour(self) -> None:
        colour = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
        assert Frame(20, 20, 20).put(colour, channels=1).shape == (1, 20, 20)
        grey = Frame(20, 20, 20).put(colour[..., 0], channels=3)
        assert torch.equal(grey[0], grey[2])

    def test_black_surrounds_the_scan(self) -> None:
        square = Frame(10, 40, 40).put(np.ones((10, 40), np.float32), channels=1)
        assert square[0, :15].max() == 0
        assert square[0, 15:25].min() == pytest.approx(1)


def test_normalised_images_have_no_mean_and_unit_deviation() -> None:
    images = normalise(torch.rand(2, 3, 8, 8) * 5 + 1)
    assert images.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(images.std((2, 3), unbiased=False), torch.ones(2, 3), atol=1e-4)


def test_a_constant_image_stays_finite() -> None:
    assert torch.isfinite(normalise(torch.ones(1, 1, 4, 4))).all()
