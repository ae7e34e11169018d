"""A student's network, its loss of each scan, its probabilities, and how well it agrees with held-out labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexiseg.training.students.frame import normalise
from lexiseg.training.students.samples import Samples
from lexiseg.training.students.settings import TrainSettings


def build_network(
    *, channels: int, classes: int, widths: Sequence[int], residual_units: int, seed: int = 0
) -> nn.Module:
    """MONAI's UNet with residual units, in two dimensions, with weights drawn from a seed.

    Source: E. Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018; the student of
    MedCLIP-SAM.

    Args:
        channels: of the images, 1 or 3.
        classes: background and each phrase.
        widths: channels of the levels, each of half the resolution of the one before.
        residual_units: in each level.
        seed: of the weights; torch's own generator is left as it was.

    Returns:
        A network from float32 (B, channels, S, S) to logits (B, classes, S, S).
    """
    from monai.networks.nets import UNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = UNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=classes,
            channels=tuple(widths),
            strides=(2,) * (len(widths) - 1),
            num_res_units=residual_units,
        )
    return network


def scan_losses() -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of each scan of a batch by itself, so that scans can be weighted or left out.

    L = (1 - Dice) + CE of MONAI's DiceCELoss, Dice of the foreground classes on softmax probabilities. Its
    smoothing is one pixel: with less, the Dice of a scan without target is 0 or 1 by the last grain of
    probability, and its gradient noise.

    Returns:
        A function of logits (B, K + 1, S, S) and labels int (B, S, S) that returns float32 (B,).
    """
    from monai.losses import DiceCELoss

    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)

    def each(logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels[:, None].long()
        return torch.stack([loss(logits[k : k + 1].float(), targets[k : k + 1]) for k in range(len(logits))])

    return each


@torch.no_grad()
def mean_probabilities(
    networks: Sequence[nn.Module], images: Tensor, settings: TrainSettings, device: torch.device
) -> Tensor:
    """The networks' mean probabilities of whole scans.

    Args:
        networks: as for `slide`.
        images: uint8 (B, C, E, E).
        settings: of the training.
        device: of the networks.

    Returns:
        float32 (B, K + 1, E, E) on the CPU.
    """
    prepared = normalise(images.to(device).float() / 255)
    found = torch.stack([slide(net, prepared, size=settings.size).softmax(1) for net in networks])
    return found.mean(0).cpu()


def slide(network: Any, images: Tensor, *, size: int) -> Tensor:
    """Logits of scans that may be larger than the network's square.

    Windows overlap by half and are weighted by a Gaussian (MONAI's sliding_window_inference); a scan of just
    the square is one window.

    Args:
        network: from (B, C, size, size) to logits.
        images: float32 (B, C, E, E), normalised; E at least `size`.
        size: side of the window.

    Returns:
        float32 (B, K + 1, E, E).
    """
    if images.shape[-1] == size and images.shape[-2] == size:
        return network(images).float()  # type: ignore[no-any-return]
    from monai.inferers import sliding_window_inference

    found: Any = sliding_window_inference(
        images, (size, size), sw_batch_size=8, predictor=network, overlap=0.5, mode="gaussian"
    )
    return found.float()  # type: ignore[no-any-return]


def validation_dice(
    networks: Sequence[nn.Module], samples: Samples, settings: TrainSettings, device: torch.device
) -> float:
    """Dice of the networks' mean against the held-out labels, scans weighted by their weight.

    The mean over scans of the mean over targets; a target that is in neither counts as 1.

    Returns:
        0 to 1; NaN where nothing is held out.
    """
    places = np.flatnonzero(~samples.train)
    if not len(places):
        return math.nan
    return float(np.average(overlaps(networks, samples, places, settings, device), weights=samples.weights[places]))


def overlaps(
    networks: Sequence[nn.Module],
    samples: Samples,
    places: NDArray[np.intp],
    settings: TrainSettings,
    device: torch.device,
) -> list[float]:
    """Dice of the networks' mean against the labels of some scans, each the mean over targets."""
    scores = []
    for start in range(0, len(places), settings.batch):
        some = torch.from_numpy(places[start : start + settings.batch])
        found = mean_probabilities(networks, samples.images[some], settings, device)
        scores += _dice(found.argmax(1), samples.labels[some], targets=found.shape[1] - 1)
    return scores


def _dice(found: Tensor, labels: Tensor, *, targets: int) -> list[float]:
    each = []
    for k in range(1, targets + 1):
        ours, theirs = found == k, labels == k
        total = ours.sum((1, 2)) + theirs.sum((1, 2))
        both = (ours & theirs).sum((1, 2))
        each.append(torch.where(total > 0, 2 * both / total.clamp_min(1), 1.0))
    return [float(value) for value in torch.stack(each).mean(0)]
