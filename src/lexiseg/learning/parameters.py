"""Which weights are trained, and how fast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from lexiseg.errors import UsageError
from lexiseg.learning.settings import FinetuneSettings

_LAYER = re.compile(r"\.(?:resblocks|blocks|layers?|stages)\.(\d+)\.")
_BOTTOM = re.compile(
    r"embed|conv1|conv_stem|stem|patch|cls_token|class_token|positional|ln_pre|norm_pre|\.bn1\."
)
_ADAPTER = "lora_"
_LEARNT_SCALE = "logit_scale"


def choose_trainable(model: nn.Module, settings: FinetuneSettings) -> None:
    """Let the weights that are trained need a gradient, and no others.

    Args:
        model: an open_clip model, with adapters already in it where the settings ask for them.
        settings: `freeze`, `lora_rank` and `temperature` count.

    Raises:
        UsageError: nothing would be trained.
    """
    for name, parameter in model.named_parameters():
        if name == _LEARNT_SCALE:
            trained = settings.temperature == 0
        elif name == "logit_bias":
            trained = False
        else:
            trained = tower_of(name) != settings.freeze
            trained &= settings.lora_rank == 0 or _ADAPTER in name
        parameter.requires_grad_(trained)
    if not any(
        parameter.requires_grad for name, parameter in model.named_parameters() if name != _LEARNT_SCALE
    ):
        raise UsageError(
            f"freeze={settings.freeze} and lora_rank={settings.lora_rank} leave nothing to train"
        )


def parameter_groups(model: nn.Module, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """Groups for an optimiser: alike in weight decay and in the factor of the learning rate.

    Vectors (biases, norms), embeddings of positions and scalars have no weight decay.  With layer-wise decay
    the factor of a layer is ``layer_decay ** (layers above it)``, in each tower by itself; what comes before
    the first layer is one below it, what comes after the last one above it.

    Returns:
        Dictionaries with "params", "names", "weight_decay" and "factor", in a fixed order.
    """
    depths = {name: _depth(name) for name, _ in model.named_parameters()}
    top = {
        tower: max((depth for name, depth in depths.items() if depth and tower_of(name) == tower), default=0)
        for tower in ("image", "text")
    }
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in _trained(model):
        bare = parameter.ndim < 2 or "positional" in name or "pos_embed" in name
        decay = 0.0 if bare else settings.weight_decay
        highest = top[tower_of(name)] + 1
        depth = depths[name]
        factor = settings.layer_decay ** (highest - (highest if depth is None else depth))
        key = (decay, factor)
        group = groups.setdefault(key, {"params": [], "names": [], "weight_decay": decay, "factor": factor})
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def tower_of(name: str) -> str:
    """The tower that a parameter of an open_clip model belongs to: "image" or "text"."""
    return "image" if name.startswith("visual.") else "text"


def _depth(name: str) -> int | None:
    """0 before the first layer, k + 1 in layer k, None after the last."""
    found = _LAYER.search(f".{name}")
    if found:
        return int(found[1]) + 1
    return 0 if _BOTTOM.search(f".{name}") else None


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, each) for name, each in model.named_parameters() if each.requires_grad)
