"""The bundled encoder's image towers as a network that learns: pixels to each tower's log-odds of fixed phrases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lexiseg.errors import UsageError
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.fpn import EnsembleTower, FPNTower
from lexiseg.models.lean import lean
from lexiseg.models.protocols import Encoder

PARTS = ("projections", "pyramids")
"""What of a tower may learn: its projection to the phrases' space alone, or its feature pyramid too."""


class PhraseTowers(nn.Module):
    r"""What each tower of the bundled encoder says of some phrases, position by position and of the whole scan.

    The encoder's cosine is :math:`v \sum_i w_i \cos_i` over its towers i, with :math:`\sum_i w_i = 1` of each phrase,
    see `EnsembleTower`. Here each tower that some phrase looks at answers by itself,

    .. math:: z_i = s v \cos_i + b

    with the encoder's scale s and bias b, so that each can learn by itself: towers that learn from their mean alone
    stop to err apart, which is what their mean lives by. With weights as they ship, `mean` of the answers is the
    encoder's own map.

    What learns is each tower's projection to the space of phrases, and its feature pyramid where that is asked for. The
    networks below, which have seen photographs by the million, stay as they are: some dozens of scans teach them
    nothing but the scans. The statistics of batch norms stay too.

    Args:
        encoder: bundled, or tuned from it.
        phrases: float32 (K, E), unit vectors.
        lines: their calibrations, a slope and an offset each; left out, log-odds of positions are as they come.
        part: one of `PARTS`.

    Raises:
        UsageError: the encoder has no such towers.
    """

    shares: Tensor
    phrases: Tensor
    gains: Tensor
    lines: Tensor

    def __init__(
        self,
        encoder: Encoder,
        phrases: Tensor,
        *,
        lines: Sequence[tuple[float, float]] | None = None,
        part: str = "projections",
    ) -> None:
        super().__init__()
        model = encoder.model if isinstance(encoder, OpenClipEncoder) else None
        trunk = getattr(getattr(model, "visual", None), "trunk", None)
        if not isinstance(trunk, (EnsembleTower, FPNTower)):
            raise UsageError(f"the encoder {encoder.name} has no feature pyramids to tune; expected the bundled one")
        towers = trunk.towers if isinstance(trunk, EnsembleTower) else [trunk]
        self.towers = cast(Any, nn.ModuleList(towers))
        shares = trunk.shares if isinstance(trunk, EnsembleTower) else torch.ones(1)
        phrases = phrases.detach().to(shares.device)
        norms = torch.stack([part.norm(dim=1) for part in torch.chunk(phrases, len(towers), 1)])
        parts = norms * shares.detach().sqrt()[:, None]
        # Towers that no phrase looks at have nothing to say, and are not asked.
        self.busy = tuple(k for k in range(len(towers)) if bool(norms[k].any()))
        own = list(self.busy)
        self.register_buffer("phrases", phrases.clone(), persistent=False)
        self.register_buffer("shares", (parts / parts.sum(0))[own], persistent=False)
        self.register_buffer("gains", (parts.sum(0) / norms.clamp_min(1e-6))[own], persistent=False)
        calibrations = torch.tensor(lines or [(1.0, 0.0)] * len(phrases))
        self.register_buffer("lines", calibrations.T[..., None, None].to(shares.device), persistent=False)
        self.scale, self.bias = encoder.logit_scale, encoder.logit_bias
        self.part = part
        self._lean: dict[tuple[int, torch.device, torch.dtype], Any] = {}
        asked = tuple(f"{k}." for k in own)
        names = [name for name, _ in self.towers.named_parameters() if name.startswith(asked)]
        self.learning = tuple(
            name for name in names if ".classifier." in name or (part == "pyramids" and ".backbone." not in name)
        )

    def learn(self) -> Iterator[nn.Parameter]:
        """The parameters that learn, after they have been told so; the mode stays that of evaluation."""
        self.eval().requires_grad_(False)
        for name, parameter in self.towers.named_parameters():
            if name in self.learning:
                yield parameter.requires_grad_(True)

    def tuned(self) -> dict[str, Tensor]:
        """A copy of what learns, on the CPU, by name."""
        own = dict(self.towers.named_parameters())
        return {name: own[name].detach().cpu().clone() for name in self.learning}

    @torch.no_grad()
    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `tuned` gave in its place."""
        own = dict(self.towers.named_parameters())
        for name in self.learning:
            own[name].copy_(tensors[name])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of positions (T, B, K, h, w) and of the whole (T, B, K), of images (B, 3, S, S), normalised, as each
        of the T towers says that some phrase looks at.
        """
        return self.answers(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """What each of the T towers makes of images (B, 3, S, S) before its projection, (B, C, h, w)."""
        return [self._features(number, images) for number in self.busy]

    def answers(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `forward` says of images, of their `features`."""
        maps, wholes = [], []
        for number, gains, own in zip(self.busy, self.gains, features, strict=True):
            tower, phrases = self.towers[number], torch.chunk(self.phrases, len(self.towers), 1)[number]
            dense, whole = own.permute(0, 2, 3, 1), own.mean((2, 3))
            found = [F.normalize(tower.classifier(each).float(), dim=-1) @ phrases.T * gains for each in (dense, whole)]
            log_odds = (self.scale * found[0] + self.bias).permute(0, 3, 1, 2)
            maps.append(log_odds * self.lines[0] + self.lines[1])
            wholes.append(self.scale * found[1] + self.bias)
        return torch.stack(maps), torch.stack(wholes)

    @property
    def sees_anew(self) -> bool:
        """Whether `features` of the same images change while it learns."""
        return self.part != "projections"

    def _features(self, number: int, images: Tensor) -> Tensor:
        """By the tower's lean copy, where its projection is all that learns."""
        tower: Any = self.towers[number]
        if self.sees_anew:
            return torch.as_tensor(tower.forward_features(images))
        device = images.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        key = number, device, dtype
        if key not in self._lean:
            # Without what learns, which the copy would share.
            projection, tower.classifier = tower.classifier, nn.Identity()
            self._lean[key] = lean(tower, device=device, dtype=dtype)
            tower.classifier = projection
        with torch.no_grad():
            # By twos: eight at once took half as long again in one of the bundled towers, four no less than two.
            pixels = images.contiguous(memory_format=torch.channels_last)
            return torch.cat([self._lean[key].forward_features(some) for some in torch.split(pixels, 2)]).float()

    def mean(self, answers: Tensor) -> Tensor:
        """The towers' answers (T, B, K, ...) as the encoder's own (B, K, ...): weighted by each phrase's shares."""
        return torch.einsum("tk,tbk...->bk...", self.shares, answers)


def model_names(encoder: OpenClipEncoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `PhraseTowers.tuned` by their names in the open_clip model."""
    several = isinstance(cast(Any, encoder.model).visual.trunk, EnsembleTower)
    prefix = "visual.trunk.towers." if several else "visual.trunk."
    return {
        f"{prefix}{name if several else name.partition('.')[2]}": value.contiguous() for name, value in tensors.items()
    }
