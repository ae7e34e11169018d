"""The student: a U-Net with residual units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


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
