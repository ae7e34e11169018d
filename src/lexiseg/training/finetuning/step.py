"""One step's loss and gradient, whatever the memory and however many processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.training.finetuning.batches import Batch
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.losses import find_loss

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
_LARGEST_SCALE = 4.6052  # log 100, as CLIP has it


class Towers(nn.Module):
    """Pixels and tokens in, unit embeddings out.

    Batch norms keep the statistics that the encoder came with: an embedding then depends on its own image
    alone, so that a batch may be cut into chunks or spread over processes and give the same gradient.

    Args:
        encoder: whose model is trained; it is the same module, not a copy.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: OpenClipEncoder) -> None:
        super().__init__()
        self.model = encoder.model
        std = torch.tensor(cast(Any, encoder.model).visual.preprocess_cfg["std"], dtype=torch.float32)
        self.register_buffer("mean", encoder.mean.detach().clone(), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1).to(encoder.device), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings and the learnt scale.

        Args:
            pixels: float32 (B, 3, S, S) in [0, 1].
            tokens: int64 (B, L).

        Returns:
            image and text embeddings, float32 (B, E), unit length, and exp of the log-temperature, a scalar:
            it is an output so that its gradient takes the same way as all others.
        """
        model = cast(Any, self.model)
        normalised = (pixels - self.mean) / self.std
        image, text = (
            # Of half precision float32; float64 stays.
            functional.normalize(each.to(torch.promote_types(each.dtype, torch.float32)), dim=-1)
            for each in (model.encode_image(normalised), model.encode_text(tokens))
        )
        return image, text, model.logit_scale.exp().reshape(())

    @torch.no_grad()
    def keep_scale_in_range(self) -> None:
        """Keep the learnt scale between 1 and 100."""
        cast(Any, self.model).logit_scale.clamp_(0, _LARGEST_SCALE)


def cached_backward(
    forward: Forward,
    chunks: Sequence[tuple[Tensor, Tensor]],
    loss: Loss,
    *,
    backward: Callable[[Tensor], None],
    reseed: Callable[[int], None],
    alone: Callable[[bool], AbstractContextManager[None]],
) -> Tensor:
    """Accumulate the gradient of a loss over all chunks together.

    Embeddings are made chunk by chunk without a graph; the loss of all of them gives the gradient g of each
    embedding; each chunk is then embedded again, with a graph, and ``sum(g * embedding)`` is differentiated
    instead of the loss, which by the chain rule gives the same gradient of the weights.  Twice the forward
    work for the memory of one chunk; the loss itself only needs B x B numbers.

    Source: Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", arXiv
    2101.06983.

    Args:
        forward: pixels and tokens of a chunk to image embeddings, text embeddings and the learnt scale.
        chunks: the batch's pixels and tokens, in pieces.
        loss: takes all image and text embeddings, and the scale.
        backward: accumulates gradients of a scalar.
        reseed: is told a chunk's number before each of its two forwards, so that dropout is the same in both.
        alone: a context in which gradients are not exchanged between processes, where it is given True.

    Returns:
        The loss, without a graph.
    """
    embedded = []
    with torch.no_grad():
        for number, chunk in enumerate(chunks):
            reseed(number)
            embedded.append(forward(*chunk))
    leaves = [torch.cat([part[side] for part in embedded]).requires_grad_() for side in (0, 1)]
    scale = embedded[0][2].detach().clone().requires_grad_()
    with torch.enable_grad():
        value = loss(leaves[0], leaves[1], scale)
    gradients = torch.autograd.grad(value, (*leaves, scale), allow_unused=True)
    image, text, of_scale = (
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip((*leaves, scale), gradients, strict=True)
    )
    start = 0
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        rows = slice(start, start + len(chunk[0]))
        start = rows.stop
        with alone(not last):
            reseed(number)
            again = forward(*chunk)
            surrogate = (again[0] * image[rows]).sum() + (again[1] * text[rows]).sum()
            backward(surrogate + again[2] * of_scale / len(chunks))
    return value.detach()


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
        return function(joined(image), joined(text), tau, settings.beta1, settings.beta2, negatives=batch.negatives)

    return loss
