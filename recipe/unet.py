"""Training the network that students begin from: a U-Net that draws each modality's usual target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lexiseg.training.students.frame import normalise
from lexiseg.training.students.network import build_network, scan_losses
from recipe.augment import AugmentSettings, augment
from recipe.data import Sample
from recipe.phases import Phases, Scheduled
from recipe.sampling import Sampler

TARGETS = {"breast": "breast tumor", "chest": "lungs", "fetal": "fetal head", "brain": "brain tumor"}
"""By organ: what is foreground."""


class UnetTask(Scheduled):
    """What `Loop` needs to train the U-Net: a batch and its loss."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int) -> None:
        self.c, self.seed = c, seed
        self.model: nn.Module = build_network(
            channels=1, classes=2, widths=c["widths"], residual_units=c["residual_units"], seed=seed
        )
        self.sampler = Sampler(samples, c["shares"])
        self.phases = Phases(c["phases"], c["warmup"])
        self._loss = scan_losses()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels, float32 (B, 1, S, S), and labels, uint8 (B, S, S): a function of (seed, step)."""
        phase, size = self.phases.at(step), self.c["size"]
        rng = np.random.default_rng([self.seed, step])
        changes = AugmentSettings(**phase.get("augment", {}))
        images, labels = [], []
        for sample in self.sampler.batch(phase, rng):
            # A student's scans lie on black, and so do these.
            view = augment(sample, size, rng, changes, 0.0, mask_stride=1)
            mask = view.masks.get(TARGETS[sample.organ])
            images.append(view.pixels[None])
            labels.append(torch.zeros(size, size) if mask is None else mask)
        # A tumour of which only a box is known is the ellipse in it: the corners, unknown, are outside.
        return normalise(torch.stack(images)), (torch.stack(labels) > 0.5).to(torch.uint8)

    def loss(self, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Dice and cross-entropy of one batch."""
        pixels, known = batch
        drawn = self.model(pixels.to(device, memory_format=torch.channels_last))
        return {"dice_ce": self._loss(drawn, known.to(device)).mean()}
