"""The toolbox against closed forms: noise statistics, outlines, scanner physics, words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from lexiseg.datasets.phantoms import imaging as mri
from lexiseg.datasets.phantoms import imaging as ultrasound
from lexiseg.datasets.phantoms import imaging as xray
from lexiseg.datasets.phantoms import shapes, words
from lexiseg.datasets.phantoms import shapes as fields
from lexiseg.datasets.phantoms import words as burnin
from lexiseg.datasets.phantoms.phantom import Draw


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(shape: tuple[int, int] = (64, 64), seed: int = 0) -> Draw:
    return Draw(rng=rng(seed), shape=shape, present=True, forced={})


class TestFields:
    def test_noise_has_zero_mean_and_unit_variance(self) -> None:
        many = np.stack([fields.smooth_noise(rng(s), (40, 60), (5, 9)) for s in range(300)])
        assert many.mean() == pytest.approx(0, abs=0.05)
        assert many.std() == pytest.approx(1, abs=0.05)

    def test_fractal_noise_has_unit_variance(self) -> None:
        many = np.stack([fields.fractal_noise(rng(s), (40, 60), (4, 4)) for s in range(200)])
        assert many.std() == pytest.approx(1, abs=0.05)

    def test_curve_has_unit_variance(self) -> None:
        assert np.stack([fields.smooth_curve(rng(s), 50, 6) for s in range(400)]).std() == pytest.approx(1, abs=0.06)

    def test_fewer_cells_are_smoother(self) -> None:
        rough, smooth = (np.abs(np.diff(fields.smooth_noise(rng(), (64, 64), (n, n)))).mean() for n in (24, 3))
        assert rough > 4 * smooth

    def test_a_constant_passes_the_spline_unchanged(self) -> None:
        basis = fields._spline_basis(37, 5)
        np.testing.assert_allclose(basis.sum(axis=1), 1, rtol=1e-6)

    def test_wide_blur_is_a_gaussian_away_from_borders(self) -> None:
        image = rng().random((80, 90)).astype(np.float32)
        ours, scipys = fields.wide_blur(image, 4.0), gaussian_filter(image, 4.0, truncate=8.0)
        np.testing.assert_allclose(ours[30:50, 30:60], scipys[30:50, 30:60], atol=1e-5)

    def test_soft_below_is_half_on_the_border_and_hard_off_it(self) -> None:
        level = np.float32([0.0, 0.9, 1.0, 1.1, 2.0])
        np.testing.assert_allclose(fields.soft_below(level, 1.0, 0.2), [1, 1, 0.5, 0, 0], atol=1e-6)


class TestShapes:
    def test_area_of_a_wobbly_blob(self) -> None:
        profile = shapes.harmonic_profile(rng(1), 0.2)
        y, x = shapes.coordinates((400, 400))
        level = shapes.blob(y, x, centre=(0.05, -0.1), axes=(0.3, 0.5), angle=0.4, profile=profile)
        area = (level < 1).sum() / 200**2
        assert area == pytest.approx(np.pi * 0.3 * 0.5 * shapes.area_factor(profile), rel=0.01)

    def test_angle_turns_clockwise_as_displayed(self) -> None:
        y, x = shapes.coordinates((100, 100))
        level = shapes.blob(y, x, centre=(0, 0), axes=(0.1, 0.8), angle=np.pi / 4)
        assert level[75, 75] < level[25, 75]  # a long horizontal shape now points to the lower right

    def test_coordinates_are_isotropic_and_centred(self) -> None:
        y, x = shapes.coordinates((50, 100))
        assert (float(y.mean()), float(x.mean())) == pytest.approx((0, 0), abs=1e-6)
        assert float(np.diff(x[0]).mean()) == pytest.approx(float(np.diff(y[:, 0]).mean()))

    def test_segment_distance(self) -> None:
        y, x = np.float32([[0.0, 1.0, 3.0]]), np.float32([[1.0, 1.0, 5.0]])
        away = shapes.segment_distance(y, x, (0.0, 0.0), (0.0, 2.0))
        np.testing.assert_allclose(away, [[0, 1, np.hypot(3, 3)]], rtol=1e-6)


class TestUltrasound:
    def test_speckle_is_rayleigh_with_unit_power(self) -> None:
        real, imaginary = ultrasound.scatter(rng(), (400, 400), (1.0, 2.0))
        echo = np.hypot(real, imaginary)
        assert np.mean(echo**2) == pytest.approx(1, abs=0.03)
        # Pixels farther apart than the point-spread function are independent.
        far = echo[::12, ::20].ravel()
        assert stats.kstest(far, stats.rayleigh(scale=0.5**0.5).cdf).pvalue > 0.01

    def test_compounding_lowers_speckle_contrast_by_the_root_of_looks(self) -> None:
        flat = np.zeros((300, 300), np.float32)
        powers = [ultrasound.envelope(rng(), flat, psf=(1.0, 2.0), looks=n) ** 2 for n in (1, 4)]
        single, fourfold = (p.std() / p.mean() for p in powers)
        assert single == pytest.approx(1, abs=0.06)
        assert fourfold == pytest.approx(0.5, abs=0.05)

    def test_mean_power_follows_decibels(self) -> None:
        echo = ultrasound.envelope(rng(), np.full((200, 200), -20.0, np.float32), psf=(1.0, 1.0))
        assert 10 * np.log10(np.mean(echo**2)) == pytest.approx(-20, abs=0.3)

    def test_log_compression_maps_the_dynamic_range(self) -> None:
        echo = np.float32([10.0, 1.0, 10**-1.5, 10**-3])
        shown = ultrasound.log_compress(echo, dynamic_range=60, floor=1e-9)
        np.testing.assert_allclose(shown, [1, 1, 0.5, 0], atol=1e-5)

    def test_beneath_grows_down_the_beam(self) -> None:
        inside = np.zeros((10, 9), np.float32)
        inside[2:5, 4] = 1
        path = ultrasound.beneath(inside, blur=0.1)
        np.testing.assert_allclose(path[:, 4], [0, 0, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3], rtol=0.02)
        assert path[:, 0].max() < 1e-6

    def test_sector_speckle_widens_with_depth(self) -> None:
        sector = ultrasound.Sector(apex=(-0.2, 0.5), near=0.2, far=1.2, half_angle=0.6)
        depth, angle = sector.polar((256, 256))
        speckle = sector.scatter(rng(), depth, angle, lines=(256, 96), psf=(1.0, 1.2))
        shallow, deep = (np.abs(np.diff(speckle[rows, 110:146])).mean() for rows in (slice(10, 60), slice(190, 240)))
        assert shallow > 1.5 * deep


class TestMri:
    def test_noise_is_rician(self) -> None:
        image = mri.acquire(draw((128, 128), seed=3), np.full((128, 128), 0.5, np.float32))
        assert 0.2 < image.mean() < 0.8
        dark = mri.acquire(draw((128, 128), seed=3), np.zeros((128, 128), np.float32))
        assert 0 < dark.mean() < 0.1  # a magnitude has no negative noise to cancel the positive


class TestXray:
    def test_more_tissue_is_brighter(self) -> None:
        thin = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
        image = xray.expose(draw(), thin, np.zeros_like(thin))
        columns = image.mean(axis=0)
        assert np.corrcoef(columns, np.arange(64))[0, 1] > 0.95

    def test_bone_is_brighter_than_tissue(self) -> None:
        bone = np.zeros((64, 64), np.float32)
        bone[:, 28:36] = 1
        image = xray.expose(draw(), np.full_like(bone, 0.5), bone)
        assert image[:, 30:34].mean() > image[:, :20].mean() + 0.05


class TestBurnin:
    def test_text_is_written_on_a_copy(self) -> None:
        black = np.zeros((100, 100), np.float32)
        image = burnin.write_text(black, "LT 5", at=(0.5, 0.2), height=0.1, value=0.9)
        assert not black.any()
        assert 0 < (image > 0.4).mean() < 0.05
        assert image.max() <= 0.9 + 1e-6

    def test_text_beyond_the_border_is_cut_off(self) -> None:
        image = burnin.write_text(np.zeros((40, 40), np.float32), "RIGHT", at=(0.97, 0.97), height=0.2, value=1)
        assert image.shape == (40, 40)

    def test_callipers_span_the_mask(self) -> None:
        mask = np.zeros((80, 80), np.bool_)
        mask[30:50, 20:70] = True
        y, x = burnin.write_callipers(np.zeros((80, 80), np.float32), mask).nonzero()
        assert abs(int(x.min()) - 19) <= 2
        assert abs(int(x.max()) - 70) <= 2
        assert abs(int(y.min()) - 29) <= 2


class TestWords:
    @pytest.mark.parametrize(
        ("row", "column", "place"),
        [
            (5, 5, "upper left"),
            (5, 45, "upper center"),
            (45, 45, "center"),
            (45, 80, "right"),
            (80, 5, "lower left"),
        ],
    )
    def test_place(self, row: int, column: int, place: str) -> None:
        mask = np.zeros((90, 90), np.bool_)
        mask[row, column] = True
        assert words.place_of(mask) == place

    def test_place_within_another_mask(self) -> None:
        mask, frame = np.zeros((2, 90, 90), np.bool_)
        mask[44, 44] = True
        frame[40:80, 10:50] = True
        assert words.place_of(mask, within=frame) == "upper right"

    def test_place_of_nothing(self) -> None:
        assert words.place_of(np.zeros((4, 4), np.bool_)) == "nowhere"

    @pytest.mark.parametrize(("share", "size"), [(0.02, "small"), (0.05, "medium"), (0.2, "large")])
    def test_size(self, share: float, size: str) -> None:
        mask = np.arange(1000).reshape(20, 50) < share * 1000
        assert words.size_of(mask, small=0.03, large=0.11) == size

    def test_grammar(self) -> None:
        assert words.a("angular margin") == "an angular margin"
        assert words.a("cyst") == "a cyst"
        assert words.sentence("a  mass ") == "A mass."
        assert words.where("center") == "in the center"
        assert words.where("upper left") == "in the upper left"
