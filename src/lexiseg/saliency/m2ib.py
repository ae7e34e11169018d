"""M2IB: how much of each position must pass for the image still to match the phrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, stretch
from lexiseg.saliency.onward import block_of, look_at, on_grid
from lexiseg.saliency.settings import M2IBSettings, NoiseKind
from lexiseg.text.embedding import PhraseEmbedding

_START = 5.0  # of the bottleneck's logits: nearly all passes
_LEAST = 1e-6  # of a channel's deviation, and of what noise is left


@dataclass(frozen=True, kw_only=True)
class M2IB(M2IBSettings, SaliencyMethod):
    r"""M2IB (Wang, Rudner, Wilson, NeurIPS 2023): an information bottleneck after one layer of the image tower.

    With :math:`R` the layer's features, :math:`\lambda = \sigma(\alpha)` of the same shape, :math:`\mu, \sigma` the
    mean and deviation of :math:`R`, a channel each over its positions, and :math:`t` the phrase:

    .. math::
        Z &= \lambda R + (1 - \lambda)\,\varepsilon, \qquad \varepsilon \sim \mathcal N(\mu, \sigma^2) \\
        \alpha^* &= \arg\min_\alpha\; \beta\,\mathrm{mean}\, D_{KL}\big(p(Z \mid R)\,\|\,\mathcal N(\mu, \sigma^2)\big)
            - \mathbb E_\varepsilon \cos(f(Z), t)

    by Adam.  The map is that divergence, summed over a position's channels, in nats: what a position is worth to the
    match.  Only what follows the layer is run again, and differentiated.  The noise is drawn from a seed.

    The code that was released takes :math:`\mu = 0` and :math:`\sigma = 1` whatever the layer: ``noise="as-released"``.
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, and for each phrase and step a forward and a backward of what follows the layer."""
        layer = self.layer or block_of(encoder)
        seen = look_at(encoder, view, layer)
        maps = []
        for index, phrase in enumerate(phrases):
            found = information(
                seen.features,
                seen.forward,
                phrase.positive.to(seen.features),
                settings=self,
                progress=lambda share, index=index: progress((index + share) / len(phrases)),  # type: ignore[misc]
            )[0]
            maps.append(on_grid(found.sum(dim=0 if found.ndim == 3 else 1)))
        return Raw(torch.stack(maps), seen.embedding, layer)

    def activate(self, encoder: Encoder, raw: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Stretched to [0, 1], as published: something always stands out."""
        return stretch(raw[None])[0]


def information(
    features: Tensor,
    forward: Callable[[Tensor], Tensor],
    text: Tensor,
    *,
    settings: M2IBSettings,
    progress: Progress | None = None,
) -> Tensor:
    """The information that passes each feature of the best bottleneck, in nats.

    Args:
        features: R, tokens (1, N, C) or maps (1, C, h, w), of any floating dtype, which is kept.
        forward: features of B images to embeddings (B, E) of unit length, differentiable.
        text: (E,) of unit length.
        settings: see `M2IBSettings`.
        progress: called with the share done.

    Returns:
        As `features`, without a gradient.
    """
    mean, deviation = _noise(features, settings.noise)
    generator = torch.Generator(device=features.device).manual_seed(settings.seed)
    with torch.inference_mode(False), torch.enable_grad():
        kept = features.clone()
        alpha = torch.full_like(kept, _START, requires_grad=True)
        optimizer = torch.optim.Adam([alpha], lr=settings.rate)
        for step in range(settings.steps):
            noise = torch.randn(
                (settings.samples, *kept.shape[1:]), generator=generator, dtype=kept.dtype, device=kept.device
            )
            passed = torch.sigmoid(alpha)
            seen = passed * kept + (1 - passed) * (mean + deviation * noise)
            match = (forward(seen).to(text) @ text).mean()
            loss = settings.beta * _divergence(kept, passed, mean, deviation).mean() - match
            (gradient,) = torch.autograd.grad(loss, alpha)
            alpha.grad = gradient
            optimizer.step()
            if progress is not None:
                progress((step + 1) / settings.steps)
        return _divergence(kept, torch.sigmoid(alpha), mean, deviation).detach()


def _divergence(features: Tensor, passed: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    r"""KL of :math:`\mathcal N(\lambda R + (1 - \lambda) \mu, (1 - \lambda)^2 \sigma^2)` from the noise alone."""
    left = (1 - passed).clamp_min(_LEAST)
    moved = passed * (features - mean) / deviation
    return 0.5 * (left.square() + moved.square() - 1) - left.log()


def _noise(features: Tensor, kind: NoiseKind) -> tuple[Tensor, Tensor]:
    if kind == "as-released":
        return torch.zeros_like(features[:1]), torch.ones_like(features[:1])
    over = (1,) if features.ndim == 3 else (2, 3)
    mean = features.mean(dim=over, keepdim=True)
    deviation = (features - mean).square().mean(dim=over, keepdim=True).sqrt()
    return mean, deviation.clamp_min(_LEAST)
