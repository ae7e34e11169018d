"""Which channels of a perturbation CAM must be computed: a Gaussian process over their masks tells the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDES = (4, 8, 16)  # positions a side at which masks are compared; the likelihood chooses
_FIRST = 24  # channels that are computed before anything is predicted
_STEP = 8  # channels that are computed, at most, before it is predicted anew
_WIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of the kernel, in root median squared distances
_NOISES = (1e-3, 1e-2, 5e-2, 0.2)  # of what is told, as a share of the kernel's variance

_ROOT = 1.5  # of a channel's weight, which is told
_LEAST = 1e-6  # of such a root
_CUT = 0.5  # of a map's largest value

Scores = Callable[[list[int]], Tensor]


def mask_distances(maps: Tensor, view: Tensor) -> Tensor:
    """How far apart what two maps let through of a view is, squared, at several resolutions: float64 (r, n, n).

    Two masks that differ where the view is black show the same. Their roots are compared: what a mask dims to a
    quarter is still seen half as well.

    Args:
        maps: (n, h, w) a layer's channels.
        view: (1, 3, S, S) what is masked, less what masked positions become.

    Returns:
        On the CPU: not every device has float64, and the matrices are small.
    """
    maps, view = maps.cpu(), view.cpu()
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
    r"""Scores of all channels, of which only those are computed that could still move where a phrase's map is cut.

    A map is :math:`L = \sum_c w_c A_c / \sum_c w_c` with :math:`w_c = \exp s_c`, and is cut at half of its largest
    value: a position lies above or below, by :math:`D_i = L_i - L_m / 2`. Of a channel that was not computed
    :math:`y_c = w_c^{2/3}` is told, since most scores are as low as not to matter or about as high as the highest. A
    Gaussian process over the masks, fitted to those that were computed, gives its mean and the covariance
    :math:`\Sigma` of the errors, and so the deviation of each position's D:

    .. math:: \sigma_i^2 = \sum_{cd} g_{ci}\, \Sigma_{cd}\, g_{di}, \qquad g_{ci} = \partial D_i / \partial y_c

    Computed next are the channels with the largest part in it, positions counting by how likely they are on the
    contour, until of the positions above the cut no larger share than `tolerance` is expected on the wrong side. Where
    the scores of a step were further off than predicted, all errors are taken to be that much larger. So it is an
    estimate by what was seen, not a bound.

    Args:
        distances: (r, n, n), see `mask_distances`.
        maps: (n, h, w) the channels A.
        rows: for each of N phrases, the channels that its map is made of.
        compute: channels to scores (len, N).
        tolerance: above 0.
        batch: channels in one step, if fewer than 8.

    Returns:
        (n, N) scores, computed or predicted, on the CPU as the distances are, and how many channels were computed.
    """
    count, maps, rows = len(maps), maps.to(distances.device), [row.to(distances.device) for row in rows]
    flat = maps.flatten(1).double()
    kernels = kernels_of(distances)
    known = _spread_out(distances[0], min(_FIRST, count))
    scores = torch.zeros(count, len(rows), dtype=torch.float64, device=maps.device)
    scores[known] = compute(known).cpu().double()
    slack = torch.ones(len(rows), dtype=torch.float64, device=maps.device)
    while len(known) < count:
        guessed, deviations = torch.empty_like(scores), torch.empty_like(scores)
        part, right = torch.zeros_like(scores[:, 0]), True
        top = scores[known].amax(0)
        for index, own in enumerate(rows):
            mean, errors = predict(kernels, known, ((scores[known, index] - top[index]) / _ROOT).exp())
            mean.clamp_min_(_LEAST)
            guessed[:, index], deviations[:, index] = mean, errors.diagonal().sqrt()
            moved, wrong = _at_the_cut(mean[own], slack[index] ** 2 * errors[own][:, own], flat[own])
            if wrong > tolerance:
                right = False
                part[own] = torch.maximum(part[own], moved)
        if right:
            predicted = top + _ROOT * guessed.log()
            predicted[known] = scores[known]
            return predicted, len(known)
        part[known] = -1.0
        chosen = torch.sort(part, descending=True, stable=True).indices[: min(batch, _STEP)].tolist()
        scores[chosen] = compute(chosen).cpu().double()
        off = (((scores[chosen] - top) / _ROOT).exp() - guessed[chosen]) / deviations[chosen].clamp_min(1e-12)
        slack = off.square().mean(0).sqrt().clamp_min(1.0)
        known = known + chosen
    return scores, count


def kernels_of(distances: Tensor) -> Tensor:
    """Squared exponentials of some widths of distances (r, n, n), squared, at several resolutions: (k, n, n)."""
    found = []
    for apart in distances:
        unit = apart[apart > 0].median() if bool((apart > 0).any()) else apart.new_ones(())
        found += [torch.exp(-apart / (2 * width**2 * unit)) for width in _WIDTHS]
    return torch.stack(found)


def predict(kernels: Tensor, known: list[int], values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each value and the covariance of its error, by a Gaussian process.

    Kernel and noise are those that make the known values most likely. The variance is what each known value is off
    where the others tell it.

    Args:
        kernels: (k, n, n), see `kernels_of`.
        known: m of the n.
        values: (m,) theirs.

    Returns:
        (n,) and (n, n), which is 0 at the known ones.
    """
    centre, count = values.mean(), len(known)
    rest = (values - centre)[:, None]
    own = kernels[:, known][:, :, known]
    noises = torch.tensor(_NOISES, dtype=own.dtype, device=own.device)
    noisy = own[:, None] + noises[:, None, None] * torch.eye(count, dtype=own.dtype, device=own.device)
    factors = torch.linalg.cholesky(noisy)
    variances = torch.linalg.solve_triangular(factors, rest.expand(*factors.shape[:2], -1, -1), upper=False)
    variances = (variances.square().sum((-2, -1)) / count).clamp_min(1e-18)
    likelihood = -0.5 * count * variances.log() - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    best, noise = divmod(int(likelihood.argmax()), len(_NOISES))
    kernel, factor = kernels[best], factors[best, noise]
    solved = torch.cholesky_solve(rest, factor)[:, 0]
    # Left out one at a time: value less prediction is solved / precision, of the variance 1 / precision.
    precision = torch.cholesky_inverse(factor).diagonal()
    variance = (solved.square() / precision).mean()
    mean = centre + kernel[:, known] @ solved
    mean[known] = values
    explained = torch.linalg.solve_triangular(factor, kernel[known], upper=False)
    errors = variance * (kernel - explained.T @ explained)
    errors += variance * noises[noise] * torch.eye(len(kernel), dtype=own.dtype, device=own.device)
    errors.diagonal().clamp_min_(0)
    errors[known] = 0
    errors[:, known] = 0
    return mean, errors


def _at_the_cut(roots: Tensor, errors: Tensor, maps: Tensor) -> tuple[Tensor, float]:
    """Each channel's part in where the map is cut, and the share of what lies above that is expected to be wrong."""
    weights = roots**_ROOT
    whole = weights @ maps / weights.sum()
    peak = int(whole.argmax())
    slopes = (_ROOT * roots ** (_ROOT - 1) / weights.sum())[:, None] * (maps - whole)
    slopes = slopes - _CUT * slopes[:, peak, None]
    above = whole - _CUT * whole[peak]
    spread = errors @ slopes
    deviation = (slopes * spread).sum(0).clamp_min(1e-30).sqrt()
    apart = above / deviation
    moved = (torch.exp(-0.5 * apart.square()) / deviation * slopes * spread).sum(1)
    # Where no map is positive there is nothing to cut, and nothing is certain.
    wrong = torch.special.ndtr(-apart.abs()).sum() / (above > 0).sum() if bool(whole[peak] > 0) else whole.new_ones(())
    return moved, float(wrong)


def _spread_out(distances: Tensor, count: int) -> list[int]:
    """Some of the points, each as far as can be from those before it; the first is the middlemost."""
    found = [int(distances.sum(1).argmin())]
    nearest = distances[found[0]].clone()
    while len(found) < count:
        nearest[found] = -1
        found.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances[found[-1]])
    return found
