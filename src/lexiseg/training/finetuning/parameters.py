"""Which weights are trained, and how fast."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from lexiseg.errors import UsageError
from lexiseg.training.finetuning.settings import FinetuneSettings

_LAYER = re.compile(r"\.(?:resblocks|blocks|layers?|stages)\.(\d+)\.")
_BOTTOM = re.compile(r"embed|conv1|conv_stem|stem|patch|cls_token|class_token|positional|ln_pre|norm_pre|\.bn1\.")
_ADAPTER = "lora_"
_LEARNT_SCALE = "logit_scale"


def add_adapters(model: nn.Module, *, rank: int, freeze: str = "none") -> list[str]:
    """Put a low-rank adapter beside every linear layer and convolution inside the towers' layers, in place.

    ``W x`` becomes ``W x + 2 B A x`` with A (rank, in) random and B (out, rank) zero, so that the model
    answers as before until it is trained.

    Source: Hu et al., "LoRA", arXiv 2106.09685.

    Args:
        model: an open_clip model.
        rank: of the adapters.
        freeze: the tower without adapters, "image" or "text"; "none" for both.

    Returns:
        Names of the layers that have one.

    Raises:
        UsageError: peft is not installed, or no layer can have an adapter.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("low-rank adapters need peft, which is not installed: pip install 'lexiseg[train]'") from error
    names = [name for name in _places(model) if tower_of(name) != freeze]
    if not names:
        raise UsageError(f"no layer of the model can have a low-rank adapter (freeze={freeze})")
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", target_modules=names)
    inject_adapter_in_model(settings, model)
    return names


def without_adapters(model: nn.Module) -> nn.Module:
    """A copy with the adapters folded into the weights; the model itself stays as it is to the last bit."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            cast(Any, module).merge()
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain


def _places(model: nn.Module) -> list[str]:
    """Linear layers, and convolutions that mix channels, below the towers' first level."""
    attentions = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    found = []
    for name, module in model.named_modules():
        # torch's attention reads its output layer's weight without calling it: an adapter would do nothing.
        inside = any(name.startswith(f"{attention}.") for attention in attentions)
        mixes = isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels > 4
        if (isinstance(module, nn.Linear) or mixes) and not inside:
            found.append(name)
    return found


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
    if not any(parameter.requires_grad for name, parameter in model.named_parameters() if name != _LEARNT_SCALE):
        raise UsageError(f"freeze={settings.freeze} and lora_rank={settings.lora_rank} leave nothing to train")


def rate_factors(model: nn.Module, *, layer_decay: float) -> Callable[[str], float]:
    """The factor of the learning rate of each weight, by its name.

    The factor of a layer is ``layer_decay ** (layers above it)``, in each tower by itself; what comes before
    the first layer is one below it, what comes after the last one above it.
    """
    depths = {name: _depth(name) for name, _ in model.named_parameters()}
    top = {
        tower: max((depth for name, depth in depths.items() if depth and tower_of(name) == tower), default=0)
        for tower in ("image", "text")
    }

    def factor(name: str) -> float:
        highest, depth = top[tower_of(name)] + 1, depths[name]
        return float(layer_decay ** (highest - (highest if depth is None else depth)))

    return factor


def tower_of(name: str) -> str:
    """The tower that a parameter of an open_clip model belongs to: "image" or "text"."""
    return "image" if name.startswith("visual.") else "text"


def _depth(name: str) -> int | None:
    """0 before the first layer, k + 1 in layer k, None after the last."""
    found = _LAYER.search(f".{name}")
    if found:
        return int(found[1]) + 1
    return 0 if _BOTTOM.search(f".{name}") else None
