"""Which channels of a perturbation CAM must be computed: a Gaussian process over their masks tells the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDES = (4, 8, 16)  # positions a side at which masks are compared; the likelihood chooses
_FIRST = 24  # channels that are computed before anything is predicted
_WIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of the kernel, in root median squared distances
_NOISES = (1e-3, 1e-2, 5e-2, 0.2)  # of a score, as a share of the kernel's variance

_CAUTION = 4.0  # a score nobody knows is taken to be higher by at most this

Scores = Callable[[list[int]], Tensor]


def mask_distances(maps: Tensor, view: Tensor) -> Tensor:
    """How far apart what two maps let through of a view is, squared, at several resolutions: float64 (r, n, n).

    Two masks that differ where the view is black show the same. Their roots are compared: what a mask dims to a
    quarter is still seen half as well.

    Args:
        maps: (n, h, w) a layer's channels.
        view: (1, 3, S, S) what is masked, less what masked positions become.
    """
    low = maps.amin((1, 2), keepdim=True)
    masks = (maps - low) / (maps.amax((1, 2), keepdim=True) - low).clamp_min(1e-12)
    light = view.abs().mean(1, keepdim=True)
    found = []
    for side in sorted({min(side, *maps.shape[-2:]) for side in _SIDES}):
        seen = F.adaptive_avg_pool2d(masks[:, None], side).sqrt() * F.adaptive_avg_pool2d(light, side)
        points = seen.flatten(1).double()
        found.append(torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square())
    return torch.stack(found)


def adaptive_scores(
    distances: Tensor, maps: Tensor, rows: Sequence[Tensor], compute: Scores, *, tolerance: float, batch: int
) -> tuple[Tensor, int]:
    r"""Scores of all channels, of which only those are computed that could still move a phrase's map.

    With :math:`L = \sum_c \alpha_c A_c`, :math:`\alpha = \mathrm{softmax}(s)`, a score's error :math:`e_c` moves the
    map by :math:`\alpha_c (A_c - L) e_c`.  A Gaussian process over the masks, fitted to the scores that were computed,
    tells the mean of the others and the covariance :math:`\Sigma` of their errors, and so how far the map is expected
    to be off:

    .. math:: \mathbb{E} \lVert \Delta L \rVert^2 = \sum_{cd} \alpha_c \alpha_d \Sigma_{cd} (A_c - L)^\top (A_d - L)

    Computed next are the channels with the largest part in it, until its root is at most `tolerance` of the
    deviation of :math:`\mathrm{ReLU}(L)` over its positions.  Where the scores of a step were further off than
    predicted, all errors are taken to be that much larger.  So it is an estimate by what was seen, not a bound.

    Args:
        distances: (r, n, n), see `mask_distances`.
        maps: (n, h, w) the channels A.
        rows: for each of N phrases, the channels that its map is made of.
        compute: channels to scores (len, N).
        tolerance: above 0; the map's correlation with the exact one is then about 1 - tolerance ** 2 / 2.
        batch: channels in one step.

    Returns:
        (n, N) scores, computed or predicted, and how many channels were computed.
    """
    count = len(maps)
    flat = maps.flatten(1).double()
    known = _spread_out(distances[0], min(_FIRST, count))
    scores = torch.zeros(count, len(rows), dtype=torch.float64, device=maps.device)
    scores[known] = compute(known).double()
    slack = torch.ones(len(rows), dtype=torch.float64, device=maps.device)
    while len(known) < count:
        predicted, deviations = scores.clone(), torch.ones_like(scores)
        part, right = torch.zeros(count, dtype=torch.float64, device=maps.device), True
        for index, own in enumerate(rows):
            mean, errors = predict(distances, known, scores[known, index])
            mean[known] = scores[known, index]
            predicted[:, index], deviations[:, index] = mean, errors.diagonal().sqrt()
            errors = slack[index] ** 2 * errors
            # The mean of exp(s), which a channel enters the softmax with, lies above exp of the mean.
            likely = mean + (0.5 * errors.diagonal()).clamp_max(_CAUTION)
            moved, share = _effect(likely[own], errors[own][:, own], flat[own])
            if share > tolerance:
                right = False
                part[own] = torch.maximum(part[own], moved)
        if right:
            return predicted, len(known)
        part[known] = -1.0
        chosen = torch.sort(part, descending=True, stable=True).indices[: min(batch, count - len(known))].tolist()
        scores[chosen] = compute(chosen).double()
        off = (scores[chosen] - predicted[chosen]) / deviations[chosen].clamp_min(1e-12)
        slack = off.square().mean(0).sqrt().clamp_min(1.0)
        known = known + chosen
    return scores, count


def predict(distances: Tensor, known: list[int], values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each value and the covariance of its error, by a Gaussian process.

    The kernel is a squared exponential; its resolution, width and noise are those of a small grid that make the
    known values most likely. Its variance is what each known value is off where the others tell it.

    Args:
        distances: (r, n, n) squared, at several resolutions.
        known: m of the n.
        values: (m,) theirs.

    Returns:
        (n,) and (n, n), which is 0 at the known ones.
    """
    centre = values.mean()
    rest = values - centre
    best: tuple[Tensor, ...] | None = None
    for apart in distances:
        unit = apart[apart > 0].median() if bool((apart > 0).any()) else apart.new_ones(())
        for width in _WIDTHS:
            kernel = torch.exp(-apart / (2 * width**2 * unit))
            own = kernel[known][:, known]
            for noise in _NOISES:
                factor = torch.linalg.cholesky(own + noise * torch.eye(len(known), dtype=own.dtype, device=own.device))
                solved = torch.cholesky_solve(rest[:, None], factor)[:, 0]
                variance = (rest @ solved / len(known)).clamp_min(1e-18)
                likelihood = -0.5 * len(known) * variance.log() - factor.diagonal().log().sum()
                if best is None or bool(likelihood > best[0]):
                    best = likelihood, kernel, factor, solved, own.new_tensor(noise)
    assert best is not None
    _, kernel, factor, solved, spread = best
    # Left out one at a time: value less prediction is solved / precision, of the variance 1 / precision.
    precision = torch.cholesky_inverse(factor).diagonal()
    variance = (solved.square() / precision).mean()
    mean = centre + kernel[:, known] @ solved
    explained = torch.linalg.solve_triangular(factor, kernel[known], upper=False)
    errors = variance * (kernel - explained.T @ explained)
    errors += variance * torch.diag(spread.expand(len(kernel)))
    errors.diagonal().clamp_min_(0)
    errors[known] = 0
    errors[:, known] = 0
    return mean, errors


def _effect(scores: Tensor, errors: Tensor, maps: Tensor) -> tuple[Tensor, float]:
    """Each channel's part in how far the map is off (squared), and the whole as a share of the map's deviation."""
    weights = torch.softmax(scores, 0)
    whole = weights @ maps
    apart = weights[:, None] * (maps - whole)
    moved = ((apart @ apart.T) * errors).sum(1)
    shown = whole.clamp_min(0)
    size = (shown - shown.mean()).norm()
    off = moved.sum().clamp_min(0).sqrt()
    return moved, float(off / size) if bool(size > 0) else float(bool(off > 0))


def _spread_out(distances: Tensor, count: int) -> list[int]:
    """Some of the points, each as far as can be from those before it; the first is the middlemost."""
    found = [int(distances.sum(1).argmin())]
    nearest = distances[found[0]].clone()
    while len(found) < count:
        nearest[found] = -1
        found.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances[found[-1]])
    return found
