"""One step's loss and gradient, whatever the memory and however many processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.learning.batches import Batch
from lexiseg.learning.gradcache import cached_backward
from lexiseg.learning.losses import find_loss
from lexiseg.learning.settings import FinetuneSettings

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def accumulate_gradient(fabric: Fabric, towers: Any, batch: Batch, settings: FinetuneSettings) -> Tensor:
    """The loss of a batch, and its gradient added to the weights'.

    Every process embeds its own share; the embeddings of all are gathered with their gradients, so that each
    pair is compared with those of all processes, and each computes the loss of the whole batch.  The gather's
    gradient adds up over processes and the exchange of the weights' gradients averages: the result is the
    gradient that one process would have of the joined batch.

    Args:
        fabric: device, precision and processes.
        towers: `Towers`, as fabric set them up.
        batch: this process's share.
        settings: the loss and its settings, `chunk` and `seed`.

    Returns:
        The loss of the whole batch, a scalar without a graph.
    """
    loss = _joined_loss(fabric, batch, settings)
    pixels, tokens = fabric.to_device((batch.pixels, batch.tokens))
    size = settings.chunk or len(pixels)
    chunks = list(zip(pixels.split(size), tokens.split(size), strict=True))

    def reseed(chunk: int) -> None:
        seed = [settings.seed, 3, batch.step, fabric.global_rank, chunk]
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    if len(chunks) > 1:
        return cached_backward(
            towers,
            chunks,
            loss,
            backward=fabric.backward,
            reseed=reseed,
            alone=lambda yes: fabric.no_backward_sync(towers, enabled=yes),
        )
    reseed(0)
    value = loss(*towers(pixels, tokens))
    fabric.backward(value)
    return value.detach()


def _joined_loss(
    fabric: Fabric, batch: Batch, settings: FinetuneSettings
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    function = find_loss(settings.loss)

    def joined(embeddings: Tensor) -> Tensor:
        if fabric.world_size == 1:
            return embeddings
        gathered = fabric.all_gather(embeddings, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        tau = settings.temperature or 1 / scale
        return function(
            joined(image), joined(text), tau, settings.beta1, settings.beta2, negatives=batch.negatives
        )

    return loss
