"""Every metric against a second library, on the same 1,000 random pairs of masks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from lexiseg.evaluation.metrics.masks import SurfaceDistances, boundary, score_mask
from lexiseg.values.overlap import Overlap, dice

CLOSE = {"rel": 0, "abs": 1e-6}
COUNT = 1000


class Pair(NamedTuple):
    truth: np.ndarray
    prediction: np.ndarray
    spacing: tuple[float, ...] | None
    tolerance: float


def _mask(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    if kind == "empty":
        return np.zeros(shape, bool)
    if kind == "full":
        return np.ones(shape, bool)
    if kind == "pixel":
        mask = np.zeros(shape, bool)
        mask[tuple(rng.integers(length) for length in shape)] = True
        return mask
    if kind == "noise":
        return rng.random(shape) < rng.uniform(0.05, 0.9)
    smooth = gaussian_filter(rng.standard_normal(shape), rng.uniform(1, 4))
    return smooth > np.quantile(smooth, rng.uniform(0.3, 0.95))


KINDS = ("blob", "blob", "blob", "blob", "noise", "noise", "pixel", "full", "empty")


@cache
def pairs() -> tuple[Pair, ...]:
    """2D and 3D, without and with (anisotropic) spacing; blobs, noise, single pixels, full and empty."""
    rng = np.random.default_rng(20240)
    found = []
    for _ in range(COUNT):
        axes = int(rng.integers(2, 4))
        shape = tuple(int(rng.integers(5, 28 if axes == 2 else 12)) for _ in range(axes))
        spacing = tuple(rng.uniform(0.3, 4, axes).tolist()) if rng.random() < 0.7 else None
        truth, prediction = (_mask(rng, shape, str(rng.choice(KINDS))) for _ in range(2))
        found.append(Pair(truth, prediction, spacing, float(rng.uniform(0.5, 3.5))))
    return tuple(found)


def both_filled() -> Iterator[Pair]:
    return (pair for pair in pairs() if pair.truth.any() and pair.prediction.any())


def test_the_pairs_are_of_every_kind() -> None:
    kinds = {(bool(p.truth.any()), bool(p.prediction.any())) for p in pairs()}
    assert len(kinds) == 4
    assert any(p.truth.all() for p in pairs())
    assert any(p.truth.sum() == 1 and p.truth.ndim == 3 and p.spacing for p in pairs())
    assert len(list(both_filled())) > 700


class TestOverlap:
    def test_dice_of_deepmind(self) -> None:
        reference = pytest.importorskip("surface_distance").compute_dice_coefficient
        for pair in pairs():
            if pair.truth.any() or pair.prediction.any():
                expected = reference(pair.truth, pair.prediction)
                assert dice(pair.truth, pair.prediction) == pytest.approx(expected, **CLOSE)

    def test_all_four_of_torchmetrics(self) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        references = {
            "dice": functional.binary_f1_score,
            "iou": functional.binary_jaccard_index,
            "precision": functional.binary_precision,
            "recall": functional.binary_recall,
        }
        for pair in list(both_filled())[:60]:
            truth, prediction = (torch.from_numpy(mask.astype(np.int64)) for mask in pair[:2])
            found = score_mask(*pair[:2]).values
            for name, reference in references.items():
                assert found[name] == pytest.approx(float(reference(prediction, truth)), **CLOSE)

    def test_counts_by_scikit_image(self) -> None:
        # Adapted Rand's contingency table is an independent count of the four kinds of pixels.
        from skimage.metrics import contingency_table

        for pair in pairs():
            table = contingency_table(pair.truth.astype(int), pair.prediction.astype(int)).toarray()
            table = np.pad(table, ((0, 2 - table.shape[0]), (0, 2 - table.shape[1])))
            overlap = Overlap.of(pair.truth, pair.prediction)
            assert (overlap.both, overlap.first) == (table[1, 1], table[1].sum())
            assert overlap.second == table[:, 1].sum()


def brute_force(pair: Pair) -> tuple[float, float, float]:
    """NSD, HD95 and ASSD from the table of all distances between MONAI's edges, or scipy's erosion."""
    from scipy.ndimage import binary_erosion

    steps = np.ones(pair.truth.ndim) if pair.spacing is None else np.array(pair.spacing)
    edges = [np.argwhere(mask & ~binary_erosion(mask)) * steps for mask in pair[:2]]
    table = cdist(*edges)
    there, back = table.min(axis=1), table.min(axis=0)
    both = np.concatenate([there, back])
    return (
        float((both <= pair.tolerance).mean()),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
        float(both.mean()),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance")
class TestSurface:
    def test_all_three_by_brute_force(self) -> None:
        for pair in both_filled():
            near, far, mean = brute_force(pair)
            found = SurfaceDistances.of(*pair[:2], pair.spacing)
            assert found.nsd(pair.tolerance) == pytest.approx(near, **CLOSE)
            assert found.hd95() == pytest.approx(far, **CLOSE)
            assert found.assd() == pytest.approx(mean, **CLOSE)

    def test_one_pass_gives_the_same(self) -> None:
        for pair in list(both_filled())[:100]:
            found = score_mask(*pair[:2], spacing=pair.spacing, tolerance=pair.tolerance).values
            distances = SurfaceDistances.of(*pair[:2], pair.spacing)
            unit = "px" if pair.spacing is None else "mm"
            assert found[f"hd95_{unit}"] == distances.hd95()
            assert found[f"assd_{unit}"] == distances.assd()
            assert found[f"nsd_{pair.tolerance:g}{unit}"] == distances.nsd(pair.tolerance)
            assert found["dice"] == dice(*pair[:2])

    def test_all_three_of_monai(self) -> None:
        torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")

        def one_hot(mask: np.ndarray) -> Any:
            return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float64))

        for pair in list(both_filled())[:60]:
            truth, prediction = one_hot(pair.truth), one_hot(pair.prediction)
            place = {"spacing": None if pair.spacing is None else list(pair.spacing)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                near = monai.compute_surface_dice(prediction, truth, [pair.tolerance], **place)
                far = monai.compute_hausdorff_distance(prediction, truth, percentile=95, **place)
                mean = monai.compute_average_surface_distance(prediction, truth, symmetric=True, **place)
            found = SurfaceDistances.of(*pair[:2], pair.spacing)
            assert found.nsd(pair.tolerance) == pytest.approx(float(near), **CLOSE)
            # MONAI interpolates percentiles in single precision.
            assert found.hd95() == pytest.approx(float(far), rel=1e-4)
            assert found.assd() == pytest.approx(float(mean), rel=1e-6)

    def test_the_farthest_is_the_hausdorff_distance_of_scikit_image(self) -> None:
        from skimage.metrics import hausdorff_distance

        for pair in list(both_filled())[:200]:
            found = SurfaceDistances.of(pair.truth, pair.prediction)
            expected = hausdorff_distance(boundary(pair.truth), boundary(pair.prediction))
            farthest = max(found.from_truth.max(), found.from_prediction.max())
            assert farthest == pytest.approx(expected, **CLOSE)

    def test_near_deepmind_who_weigh_by_area(self) -> None:
        surface_distance = pytest.importorskip("surface_distance")
        y, x = np.mgrid[:96, :96]
        truth, prediction = ((x - c) ** 2 + (y - 48) ** 2 < 30**2 for c in (46, 50))
        both = surface_distance.compute_surface_distances(truth, prediction, (1.0, 1.0))
        expected = surface_distance.compute_surface_dice_at_tolerance(both, 2.0)
        found = SurfaceDistances.of(truth, prediction)
        assert found.nsd(2) == pytest.approx(expected, abs=0.05)
        expected = surface_distance.compute_robust_hausdorff(both, 95)
        assert found.hd95() == pytest.approx(expected, abs=0.5)
