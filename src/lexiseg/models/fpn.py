"""timm architectures for image towers whose positions are fine: a small network under an FPN.

A network's last map has one position for 16 x 16 or 32 x 32 pixels, too few for an outline.  Here the maps
of four stages are brought together at a stride of 8 (feature pyramid network, FPN: Lin et al., CVPR 2017), so
that every position sees both detail and context.  Importing this module makes the names known to timm, and so to
open_clip: the configuration of an open_clip model says ``"timm_model_name": "fpn_tiny_vit_5m"``.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.models.weights.int8 import unpack

logger = logging.getLogger(__name__)

# Which towers of an ensemble this thread has no use for.
_IDLE: ContextVar[frozenset[int]] = ContextVar("idle", default=frozenset())
STRIDE = 8
"""Pixels between two positions of a tower's map."""


class FPNTower(nn.Module):
    """A timm network's stages, summed from deep to fine at stride 8, with timm's interface for image towers.

    Args:
        backbone: a timm model that offers stages at strides 4, 8, 16 and, if four, 16 or 32.
        stages: those of its stages that are used; what comes after the last of them is left out.
        width: channels of the FPN.
        num_features: channels of what `forward_features` returns.
        num_classes: length of the projection, 0 for none.
        global_pool: "avg" or "" (what `forward_head` does to positions).
        backbone_options: further arguments of `timm.create_model` for the backbone.
    """

    def __init__(
        self,
        backbone: str,
        *,
        stages: tuple[int, ...] = (-4, -3, -2, -1),
        width: int = 128,
        num_features: int = 256,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_path_rate: float = 0.0,
        backbone_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if global_pool not in ("avg", ""):
            raise ValueError(f"global_pool is {global_pool!r}; expected 'avg' or ''")
        self.backbone = timm.create_model(
            backbone,
            features_only=True,
            out_indices=stages,
            drop_path_rate=drop_path_rate,
            **(backbone_options or {}),
        )
        fine, *coarse = self.backbone.feature_info.channels()
        self.detail = _conv(fine, width, 3, stride=2)
        self.lateral = nn.ModuleList(_conv(c, width, 1) for c in coarse)
        self.context = nn.Linear(coarse[-1], width)
        self.mix = nn.ModuleList(_conv(width, width, 3) for _ in coarse[1:])
        self.out = nn.Sequential(_conv(width, width, 3), _conv(width, num_features, 1))
        self.num_features, self.global_pool = num_features, global_pool
        self.classifier: nn.Module = nn.Identity()
        self.reset_classifier(num_classes, global_pool)
        self.register_load_state_dict_pre_hook(_unpack)  # type: ignore[no-untyped-call]
        # What a saliency may be read from, as timm's own models say it.
        self.feature_info = [
            *(
                {"num_chs": width, "reduction": STRIDE << (len(self.mix) - 1 - k), "module": f"mix.{k}"}
                for k in range(len(self.mix))
            ),
            {"num_chs": num_features, "reduction": STRIDE, "module": "out"},
        ]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new projection to `num_classes` numbers (0: none)."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        c = self.num_features
        self.classifier = (
            nn.Sequential(nn.Linear(c, c), nn.ReLU6(), nn.Linear(c, num_classes)) if num_classes else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        """The projection."""
        return self.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to maps (B, num_features, H / 8, W / 8)."""
        fine, *coarse = self.backbone(x)
        deep, *rest = [lateral(c) for lateral, c in zip(self.lateral, coarse, strict=True)][::-1]
        deep = deep + self.context(coarse[-1].mean((2, 3)))[..., None, None]
        rest[-1] = rest[-1] + self.detail(fine)
        for mix, finer in zip(self.mix, rest, strict=True):
            size = finer.shape[-2:]
            deep = mix(finer + functional.interpolate(deep, size=size, mode="bilinear", align_corners=False))
        out: Tensor = self.out(deep)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps (B, num_features, h, w) to one embedding (B, num_classes)."""
        if self.global_pool == "avg":
            x = x.flatten(1) if x.shape[2:] == (1, 1) else x.mean((2, 3))
        return x if pre_logits else torch.as_tensor(self.classifier(x))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to one embedding (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


class EnsembleTower(nn.Module):
    r"""Towers that look at the same pixels and were trained apart: their answers are averaged.

    Each position's embedding is that of one tower after the other, of lengths :math:`\sqrt{w_i}`, with
    :math:`\sum_i w_i = 1`.  With a text embedding that is put together likewise,

    .. math:: \cos = \sum_i w_i \cos_i,

    the mean of the networks' log-odds where all have the same scale and bias (deep ensembles:
    Lakshminarayanan et al., NeurIPS 2017), at the price of one text tower.  A text embedding may leave towers out: what
    it is zero for, `only_for` saves.

    Args:
        towers: their projections and pools are replaced by those of below; all have as many positions.
        num_classes: length of the embedding, a multiple of the number of towers; 0 for none.
        global_pool: "avg" or "" (what `forward_head` does to positions).

    Raises:
        ValueError: `num_classes` does not divide among the towers.
    """

    towers: Sequence[FPNTower]
    shares: Tensor
    """w, float32 (towers,), kept with the weights."""

    def __init__(self, *towers: FPNTower, num_classes: int = 1000, global_pool: str = "avg") -> None:
        super().__init__()
        self.towers = cast(Any, nn.ModuleList(towers))
        self.positions = nn.Identity()  # where a saliency can read all towers' maps at once
        self.register_buffer("shares", torch.full((len(towers),), 1 / len(towers)))
        self.num_features = sum(tower.num_features for tower in towers)
        self.reset_classifier(num_classes, global_pool)
        self.feature_info = [{"num_chs": self.num_features, "reduction": STRIDE, "module": "positions"}]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New projections to `num_classes` numbers, as many of them for each tower (0: none)."""
        if num_classes % len(self.towers):
            raise ValueError(f"num_classes is {num_classes}; expected a multiple of {len(self.towers)} towers")
        self.num_classes = num_classes
        for tower in self.towers:
            tower.reset_classifier(num_classes // len(self.towers), global_pool)
        self.global_pool: str = self.towers[0].global_pool

    def get_classifier(self) -> nn.Module:
        """All projections."""
        return nn.ModuleList(tower.get_classifier() for tower in self.towers)

    def forward_features(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to all towers' maps (B, num_features, H / 8, W / 8)."""
        idle = _IDLE.get()
        found = {k: tower.forward_features(x) for k, tower in enumerate(self.towers) if k not in idle}
        (some, *_), towers = found.values(), enumerate(self.towers)
        nothing = {k: some.new_zeros(1, 1, 1, 1) for k in idle}
        each = [(nothing | found)[k].expand(len(x), tower.num_features, *some.shape[2:]) for k, tower in towers]
        return torch.as_tensor(self.positions(torch.cat(each, 1)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps (B, num_features, h, w) to one embedding (B, num_classes), of unit length."""
        maps = torch.split(x, [tower.num_features for tower in self.towers], 1)
        if pre_logits or not self.num_classes:
            return torch.cat([t.forward_head(own, pre_logits) for t, own in zip(self.towers, maps, strict=True)], 1)
        idle, width = _IDLE.get(), self.num_classes // len(self.towers)
        return torch.cat(
            [
                x.new_zeros(len(x), width, dtype=torch.float32)
                if k in idle
                else functional.normalize(tower.forward_head(own).float(), dim=1) * self.shares[k].sqrt()
                for k, (tower, own) in enumerate(zip(self.towers, maps, strict=True))
            ],
            1,
        )

    @contextmanager
    def only_for(self, texts: Tensor) -> Iterator[None]:
        """Within, in this thread, only towers that some of these text embeddings (N, num_classes) look at are asked.

        The others' parts of an embedding are zero, so that its products with these texts are what they were.  One
        tower at least is asked.
        """
        parts = texts.reshape(len(texts), len(self.towers), -1)
        looked_at = parts.ne(0).any(2).any(0).tolist()
        idle = frozenset(k for k, seen in enumerate(looked_at) if not seen)
        before = _IDLE.set(idle if len(idle) < len(self.towers) else idle - {0})
        try:
            yield
        finally:
            _IDLE.reset(before)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to one embedding (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _unpack(_: nn.Module, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
    """Before torch looks for a tower's weights: checkpoints may hold them as int8."""
    unpack(state, prefix)


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def _fpn(name: str, backbone: str, pretrained: bool, options: dict[str, Any]) -> FPNTower:
    if pretrained:
        raise ValueError(f"{name} has no published weights: build it with pretrained=False")
    known = inspect.signature(FPNTower).parameters  # timm says more than a tower asks
    return FPNTower(backbone, **{k: v for k, v in options.items() if k in known})


def fpn_efficientnet_lite0(pretrained: bool = False, **options: Any) -> FPNTower:
    """`tf_efficientnet_lite0` (2.9 M weights without its classifier) under an FPN of 128 channels."""
    return _fpn("fpn_efficientnet_lite0", "tf_efficientnet_lite0", pretrained, options)


def fpn_efficientnet_lite2(pretrained: bool = False, **options: Any) -> FPNTower:
    """`tf_efficientnet_lite2` (4.4 M weights without its classifier) under an FPN of 128 channels."""
    return _fpn("fpn_efficientnet_lite2", "tf_efficientnet_lite2", pretrained, options)


def fpn_tiny_vit_5m(pretrained: bool = False, **options: Any) -> FPNTower:
    """`tiny_vit_5m_224` (5.1 M weights without its classifier) under an FPN of 128 channels.

    Its windows make any size of scan do.  The last stage stays at a stride of 16, as in MobileSAM
    (Zhang et al., arXiv 2306.14289), whose weights fit it.
    """
    tower = _fpn("fpn_tiny_vit_5m", "tiny_vit_5m_224", pretrained, options)
    tower.backbone.stages_3.downsample.conv2.conv.stride = (1, 1)
    return tower


def fpn_tiny_vit_5m_stem(pretrained: bool = False, **options: Any) -> FPNTower:
    """The first three of four stages of `tiny_vit_5m_224` (2.4 M weights), strides of 4, 8 and 16."""
    options["stages"] = (0, 1, 2)
    return _fpn("fpn_tiny_vit_5m_stem", "tiny_vit_5m_224", pretrained, options)


def fpn_sam2_hiera_tiny(pretrained: bool = False, **options: Any) -> FPNTower:
    """The first three of four stages of `sam2_hiera_tiny` (13.3 M weights), strides of 4, 8 and 16.

    Any size of scan does whose sides are multiples of 32.  SAM 2's weights fit it (Ravi et al., arXiv
    2408.00714).  The third stage looks at the whole scan in each block but its first: windows of 14 x 14
    positions, made for photographs of 64 x 64, would be padding for up to two thirds (a scan of 256 pixels
    has 16 x 16).
    """
    options["stages"] = (0, 1, 2)
    options["backbone_options"] = {"global_att_blocks": tuple(range(4, 10))}
    return _fpn("fpn_sam2_hiera_tiny", "sam2_hiera_tiny", pretrained, options)


def _ensemble(name: str, pretrained: bool, options: dict[str, Any], *builders: Any) -> EnsembleTower:
    if pretrained:
        raise ValueError(f"{name} has no published weights: build it with pretrained=False")
    whole = {k: options.pop(k) for k in ("num_classes", "global_pool") if k in options}
    return EnsembleTower(*(build(num_classes=0, **options) for build in builders), **whole)


def fpn_lite2_tiny_vit_5m(pretrained: bool = False, **options: Any) -> EnsembleTower:
    """`fpn_efficientnet_lite2` and `fpn_tiny_vit_5m` side by side."""
    towers = fpn_efficientnet_lite2, fpn_tiny_vit_5m
    return _ensemble("fpn_lite2_tiny_vit_5m", pretrained, options, *towers)


def fpn_lite2_tiny_vit_5m_hiera_tiny(pretrained: bool = False, **options: Any) -> EnsembleTower:
    """`fpn_efficientnet_lite2`, `fpn_tiny_vit_5m` and `fpn_sam2_hiera_tiny` side by side."""
    towers = fpn_efficientnet_lite2, fpn_tiny_vit_5m, fpn_sam2_hiera_tiny
    return _ensemble("fpn_lite2_tiny_vit_5m_hiera_tiny", pretrained, options, *towers)


ARCHITECTURES = (
    fpn_efficientnet_lite0,
    fpn_efficientnet_lite2,
    fpn_tiny_vit_5m,
    fpn_tiny_vit_5m_stem,
    fpn_sam2_hiera_tiny,
    fpn_lite2_tiny_vit_5m,
    fpn_lite2_tiny_vit_5m_hiera_tiny,
)
for _architecture in ARCHITECTURES:
    register_model(_architecture)

FORMER_NAMES = {f"pyramid_{each.__name__.removeprefix('fpn_')}": each.__name__ for each in ARCHITECTURES}
"""What the architectures were called before, and are called in the configurations of models saved then."""


def current_name(name: str) -> str:
    """An architecture's name of today; a log line says so where a configuration has a former one."""
    if name in FORMER_NAMES:
        logger.info("the configuration names %s, which is called %s now", name, FORMER_NAMES[name])
    return FORMER_NAMES.get(name, name)
