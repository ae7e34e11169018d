import numpy as np
import pytest
from scipy.special import expit

from lexiseg.errors import UsageError
from lexiseg.regions import crf as crf_module
from lexiseg.regions.crf import CRFSettings, DenseCRF, dense_crf

STEPS = pytest.mark.parametrize("iterations", [1, 5])
COLOUR = pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])


def labels_agree(ours, theirs):
    return ((ours > 0.5) == (theirs > 0.5)).mean()


class TestAgainstBruteForce:
    @STEPS
    @COLOUR
    @pytest.mark.parametrize("seed", range(2))
    def test_structured_scan(self, speckled_scan, brute_force, colour, iterations, seed):
        saliency, image = speckled_scan((26, 30), seed=seed, colour=colour)
        settings = CRFSettings(iterations=iterations)
        ours = dense_crf(saliency, image, settings=settings)
        assert labels_agree(ours, brute_force(saliency, image, settings)) >= 0.99

    @STEPS
    @COLOUR
    def test_random_scan(self, brute_force, colour, iterations):
        generator = np.random.default_rng(7)
        image = generator.random((26, 30, 3) if colour else (26, 30), np.float32)
        saliency = generator.random((26, 30), np.float32)
        settings = CRFSettings(iterations=iterations)
        ours = dense_crf(saliency, image, settings=settings)
        # On pure colour noise the lattice is coarse: pydensecrf2, too, reaches 0.987 after five steps.
        least = 0.985 if colour and iterations > 1 else 0.99
        assert labels_agree(ours, brute_force(saliency, image, settings)) >= least

    def test_grey_marginals_and_not_only_labels(self, speckled_scan, brute_force):
        saliency, image = speckled_scan((36, 40), seed=3)
        settings = CRFSettings()
        np.testing.assert_allclose(
            dense_crf(saliency, image, settings=settings), brute_force(saliency, image, settings), atol=0.02
        )

    def test_many_spatial_deviations_wide(self, speckled_scan, brute_force):
        # The published sxy on a full-size scan spans 8 deviations; so does this one on a small scan.
        saliency, image = speckled_scan((40, 36), seed=4)
        settings = CRFSettings(bilateral_sxy=5, bilateral_srgb=20, spatial_sxy=1.5)
        np.testing.assert_allclose(
            dense_crf(saliency, image, settings=settings), brute_force(saliency, image, settings), atol=0.05
        )

    def test_grey_scan_too_fine_for_the_grid(self, speckled_scan, brute_force, monkeypatch):
        monkeypatch.setattr(crf_module, "GRID_LIMIT", 0)
        saliency, image = speckled_scan((36, 40), seed=5)
        settings = CRFSettings(bilateral_sxy=10)
        ours = dense_crf(saliency, image, settings=settings)
        assert labels_agree(ours, brute_force(saliency, image, settings)) >= 0.99


class TestAgainstCompiledReference:
    @STEPS
    @COLOUR
    @pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
    def test_labels(self, speckled_scan, compiled, colour, iterations, noise):
        saliency, image = speckled_scan((110, 140), seed=11, colour=colour, noise=noise)
        settings = CRFSettings(iterations=iterations)
        ours = dense_crf(saliency, image, settings=settings)
        assert labels_agree(ours, compiled(saliency, image, settings)) >= 0.99

    def test_other_settings(self, speckled_scan, compiled):
        saliency, image = speckled_scan((120, 160), seed=12, noise=0.2)
        settings = CRFSettings(
            spatial_sxy=2, spatial_compat=10, bilateral_sxy=20, bilateral_srgb=13, bilateral_compat=10, tau=2
        )
        ours = dense_crf(saliency, image, settings=settings)
        assert labels_agree(ours, compiled(saliency, image, settings)) >= 0.99

    def test_it_changes_labels_at_all(self, speckled_scan):
        saliency, image = speckled_scan((110, 140), seed=11)
        assert labels_agree(dense_crf(saliency, image), saliency) < 0.99


class TestMeaning:
    def test_no_kernel_and_no_step_both_leave_the_unary(self, speckled_scan):
        saliency, image = speckled_scan((20, 30), seed=1)
        without = dense_crf(saliency, image, settings=CRFSettings(spatial_compat=0, bilateral_compat=0))
        unrefined = dense_crf(saliency, image, settings=CRFSettings(iterations=0))
        np.testing.assert_array_equal(without, unrefined)
        p = np.rint(saliency * 255) / 255
        odds = (np.log(p + 1e-8) / expit(p) - np.log(1 - p + 1e-8) / expit(1 - p)) / 1.05
        np.testing.assert_allclose(unrefined, expit(odds), atol=1e-5)
        np.testing.assert_array_equal(unrefined > 0.5, p > 0.5)

    @pytest.mark.parametrize("level", [0.0, 0.2, 0.8, 1.0])
    def test_uniform_scan_and_saliency_keep_their_label(self, level):
        probability = dense_crf(np.full((20, 30), level, np.float32), np.full((20, 30), 0.3, np.float32))
        assert ((probability > 0.5) == (level > 0.5)).all()

    def test_undecided_stays_undecided(self):
        # 0.5 is no 8-bit level, so its neighbours 127 and 128 are the closest to it, on either side.
        image = np.full((20, 30), 0.3, np.float32)
        low = dense_crf(np.full((20, 30), 127 / 255, np.float32), image)
        high = dense_crf(np.full((20, 30), 128 / 255, np.float32), image)
        assert (low < 0.5).all()
        np.testing.assert_allclose(low, 1 - high, atol=1e-5)

    def test_labels_are_interchangeable(self, speckled_scan):
        saliency, image = speckled_scan((30, 40), seed=2)
        saliency = (np.rint(saliency * 255) / 255).astype(np.float32)
        settings = CRFSettings(iterations=3)
        np.testing.assert_allclose(
            dense_crf(saliency, image, settings=settings),
            1 - dense_crf(1 - saliency, image, settings=settings),
            atol=1e-4,
        )

    def test_follows_the_scan_and_not_the_saliency(self):
        image = np.zeros((60, 60), np.float32)
        image[:, 30:] = 1
        saliency = np.full((60, 60), 0.3, np.float32)
        saliency[:, 26:] = 0.7
        probability = dense_crf(saliency, image, settings=CRFSettings(spatial_compat=0))
        np.testing.assert_array_equal(probability > 0.5, image > 0.5)

    def test_grey_as_three_equal_channels(self, speckled_scan):
        saliency, image = speckled_scan((30, 40), seed=2)
        np.testing.assert_array_equal(
            dense_crf(saliency, image), dense_crf(saliency, image[..., None].repeat(3, axis=2))
        )

    def test_more_steps_sharpen(self, speckled_scan):
        saliency, image = speckled_scan((60, 60), seed=2)
        doubt = [
            np.minimum(p, 1 - p).mean()
            for p in (dense_crf(saliency, image, settings=CRFSettings(iterations=n)) for n in (0, 1, 5))
        ]
        assert doubt[0] > doubt[1] > doubt[2]

    def test_threshold_is_mapped_to_one_half(self):
        ramp = np.linspace(0, 1, 101, dtype=np.float32)[None]
        settings = CRFSettings(iterations=0, threshold=0.3)
        probability = dense_crf(ramp, np.zeros_like(ramp), settings=settings)
        assert (probability[ramp < 0.295] < 0.5).all()
        assert (probability[ramp > 0.305] > 0.5).all()
        unmoved = dense_crf(ramp, np.zeros_like(ramp), settings=CRFSettings(iterations=0))
        np.testing.assert_array_equal(probability[0, [0, -1]], unmoved[0, [0, -1]])


class TestShapes:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 200)])
    @COLOUR
    def test_any_shape(self, brute_force, shape, colour):
        generator = np.random.default_rng(0)
        saliency = generator.random(shape, np.float32)
        image = generator.random((*shape, 3) if colour else shape, np.float32)
        probability = dense_crf(saliency, image)
        assert probability.shape == shape
        assert probability.dtype == np.float32
        assert labels_agree(probability, brute_force(saliency, image, CRFSettings())) >= 0.99

    def test_inputs_are_left_alone(self, speckled_scan):
        saliency, image = speckled_scan((20, 30), seed=1)
        saliency.flags.writeable = image.flags.writeable = False
        before = saliency.copy()
        dense_crf(saliency, image)
        np.testing.assert_array_equal(saliency, before)

    def test_values_beyond_the_unit_range_are_clipped(self):
        image = np.zeros((4, 4), np.float32)
        saliency = np.full((4, 4), 1.5, np.float32)
        np.testing.assert_array_equal(dense_crf(saliency, image), dense_crf(np.ones_like(image), image))


class TestErrors:
    @pytest.mark.parametrize(
        "setting",
        [
            {"spatial_sxy": 0},
            {"bilateral_sxy": -1},
            {"bilateral_srgb": float("inf")},
            {"tau": 0},
            {"eps": float("nan")},
            {"spatial_compat": -1},
            {"bilateral_compat": float("nan")},
            {"iterations": 1.5},
            {"iterations": -1},
            {"threshold": 1},
        ],
    )
    def test_settings_out_of_range(self, setting):
        with pytest.raises(UsageError, match=next(iter(setting))):
            CRFSettings(**setting)

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
            dense_crf(np.zeros((4, 5), np.float32), np.zeros((5, 4), np.float32))

    @pytest.mark.parametrize("which", [0, 1])
    def test_not_finite(self, which):
        arrays = [np.zeros((4, 5), np.float32), np.zeros((4, 5), np.float32)]
        arrays[which][0, 0] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            dense_crf(*arrays)


class TestRefiner:
    def test_mask_is_the_likelier_label(self, speckled_scan):
        saliency, image = speckled_scan((30, 40), seed=2)
        region = DenseCRF(iterations=2)(saliency, image)
        np.testing.assert_array_equal(
            region.probability, dense_crf(saliency, image, settings=CRFSettings(iterations=2))
        )
        np.testing.assert_array_equal(region.mask, region.probability > 0.5)

    @pytest.mark.parametrize("level", [0.0, 0.9, 1.0])
    def test_flat_saliency_is_an_absent_target(self, speckled_scan, level):
        saliency, image = speckled_scan((30, 40), seed=2)
        assert DenseCRF()(np.full_like(saliency, level), image).empty
