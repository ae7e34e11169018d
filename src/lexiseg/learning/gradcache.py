"""Cached gradients: the gradient of a large batch in the memory of a small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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
