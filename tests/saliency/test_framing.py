from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.errors import UsageError
from lexiseg.saliency.framing import FramingMode, blend, frame_scan
from lexiseg.values.arrays import FloatArray

SHAPES = [(97, 131), (131, 97), (64, 256), (256, 64), (33, 41), (224, 224), (500, 401), (50, 50)]
MODES: list[FramingMode] = ["letterbox", "stretch", "tile", "pyramid"]
GREY = (0.5, 0.5, 0.5)


def blob(shape: tuple[int, int], centre: tuple[float, float]) -> FloatArray:
    """A Gaussian whose centre is given in pixel-edge coordinates (a pixel's centre is at + 0.5)."""
    rows, columns = np.indices(shape) + 0.5
    sigma = 0.08 * min(shape)
    distance = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return np.exp(-distance / (2 * sigma**2)).astype(np.float32)


def centroid(image: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(image.shape) + 0.5
    return float((rows * image).sum() / image.sum()), float((columns * image).sum() / image.sum())


class TestRoundTrip:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("place", [(0.37, 0.64), (0.6, 0.3)])
    def test_blob_centre(self, mode: FramingMode, shape: tuple[int, int], place: tuple[float, float]) -> None:
        centre = (place[0] * shape[0], place[1] * shape[1])
        image = blob(shape, centre)
        frames = frame_scan(shape, size=112, fill=(0.0, 0.0, 0.0), mode=mode)
        back = blend(frames, [frame.apply(image)[0, :1] for frame in frames])[0].numpy()
        assert back.shape == shape
        # Much tighter than half a pixel: a map's own convention error (align_corners) would be at least 0.5.
        assert centroid(back) == pytest.approx(centroid(image), abs=0.05)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_coarse_map(self, shape: tuple[int, int]) -> None:
        centre = (0.45 * shape[0], 0.55 * shape[1])
        image = blob(shape, centre)
        (frame,) = frame_scan(shape, size=128, mode="letterbox")
        coarse = F.avg_pool2d(frame.apply(image)[0, :1], 4)
        back = frame.undo(coarse)[0].numpy()
        assert centroid(back) == pytest.approx(centre, abs=0.5)

    def test_linear_ramp_is_exact(self) -> None:
        """A ramp over the input is the same ramp over the scan, at every pixel."""
        shape, size = (40, 100), 50
        (frame,) = frame_scan(shape, size=size, mode="letterbox")
        ramp = (torch.arange(size) + 0.5).expand(size, size)
        back = frame.undo(ramp)
        expected = (np.arange(100) + 0.5) * 0.5
        np.testing.assert_allclose(back[17, 1:-1], expected[1:-1], atol=1e-4)

    def test_same_size_is_identity(self) -> None:
        image = np.random.default_rng(0).random((32, 32), dtype=np.float32)
        (frame,) = frame_scan((32, 32), size=32)
        np.testing.assert_array_equal(frame.apply(image)[0, 0], image)
        np.testing.assert_allclose(frame.undo(torch.from_numpy(image)), image, atol=1e-5)


class TestApply:
    def test_letterbox_pads_with_the_fill(self) -> None:
        (frame,) = frame_scan((10, 40), size=40, fill=(0.1, 0.2, 0.3))
        view = frame.apply(np.ones((10, 40), np.float32))
        assert view.shape == (1, 3, 40, 40)
        torch.testing.assert_close(view[0, :, 0, 0], torch.tensor([0.1, 0.2, 0.3]))
        assert (view[0, :, 15:25] == 1).all()
        assert (view[0, 0, :15] != 1).all() and (view[0, 0, 25:] != 1).all()

    def test_colour_order(self) -> None:
        image = np.zeros((20, 30, 3), np.float32)
        image[..., 1] = 1
        (frame,) = frame_scan((20, 30), size=16, mode="stretch")
        torch.testing.assert_close(frame.apply(image).mean(dim=(0, 2, 3)), torch.tensor([0.0, 1.0, 0.0]))

    def test_antialiased(self) -> None:
        checks = (np.indices((256, 256)).sum(axis=0) % 2).astype(np.float32)
        (frame,) = frame_scan((256, 256), size=32)
        assert (frame.apply(checks) - 0.5).abs().max() < 0.05

    def test_whole_scan_is_seen(self) -> None:
        """Every pixel of the scan moves some view; a centre crop would leave the ends out."""
        for mode in MODES:
            frames = frame_scan((16, 48), size=16, mode=mode)
            for column in (0, 47):
                image = np.zeros((16, 48), np.float32)
                image[:, column] = 1
                assert max(float(frame.apply(image)[:, 0].max()) for frame in frames) > 0.1, (mode, column)

    def test_read_only_and_strided_pixels(self) -> None:
        image = np.random.default_rng(0).random((30, 20), dtype=np.float32)[::-1]
        image.flags.writeable = False
        (frame,) = frame_scan((30, 20), size=16)
        assert torch.equal(frame.apply(image), frame.apply(image.copy()))

    def test_wrong_shape(self) -> None:
        (frame,) = frame_scan((30, 20), size=16)
        with pytest.raises(ValueError, match="made for"):
            frame.apply(np.zeros((20, 30), np.float32))


class TestTiles:
    def test_cover_and_overlap(self) -> None:
        frames = frame_scan((64, 200), size=32, mode="tile", overlap=0.5)
        covered = np.zeros((64, 200), int)
        for frame in frames:
            box = frame.window
            assert box.height == box.width == 64
            covered[box.top : box.top + box.height, box.left : box.left + box.width] += 1
        assert covered.min() >= 1
        lefts = [frame.window.left for frame in frames]
        assert lefts[0] == 0 and lefts[-1] == 200 - 64
        assert max(np.diff(lefts)) <= 32 + 1

    def test_square_scan_is_one_tile(self) -> None:
        assert len(frame_scan((50, 50), size=32, mode="tile")) == 1

    def test_smaller_tiles(self) -> None:
        assert len(frame_scan((100, 100), size=32, mode="tile", tile=50, overlap=0)) == 4

    def test_tile_larger_than_the_scan(self) -> None:
        assert frame_scan((50, 80), size=32, mode="tile", tile=500) == frame_scan((50, 80), size=32, mode="tile")

    def test_constant_maps_blend_to_the_constant(self) -> None:
        for mode in MODES:
            frames = frame_scan((37, 111), size=32, fill=GREY, mode=mode)
            blended = blend(frames, [torch.full((2, 4, 4), 3.5) for _ in frames])
            torch.testing.assert_close(blended, torch.full((2, 37, 111), 3.5))

    def test_outside_the_window_is_zero(self) -> None:
        frame = frame_scan((10, 40), size=8, mode="tile")[0]
        back = frame.undo(torch.ones(4, 4))
        assert back[:, :10].min() == 1 and back[:, 10:].max() == 0


class TestBad:
    def test_mode(self) -> None:
        with pytest.raises(UsageError, match="crop"):
            frame_scan((10, 10), size=8, mode="crop")  # type: ignore[arg-type]

    def test_overlap(self) -> None:
        with pytest.raises(UsageError, match="overlap"):
            frame_scan((10, 10), size=8, mode="tile", overlap=1.0)

    def test_tile(self) -> None:
        with pytest.raises(UsageError, match="tile"):
            frame_scan((10, 10), size=8, mode="tile", tile=0)

    def test_empty(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            frame_scan((0, 10), size=8)


def test_frames_are_values() -> None:
    (frame,) = frame_scan((30, 20), size=16)
    assert frame == replace(frame)


def test_one_pixel_thin_scan() -> None:
    (frame,) = frame_scan((1, 500), size=32)
    assert frame.undo(frame.apply(np.ones((1, 500), np.float32))[0, 0]).shape == (1, 500)
