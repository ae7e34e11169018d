"""Low-rank adapters: train a few numbers instead of all weights, then fold them in."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn

from lexiseg.errors import UsageError
from lexiseg.learning.parameters import tower_of


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
        raise UsageError(
            "low-rank adapters need peft, which is not installed: pip install 'lexiseg[train]'"
        ) from error
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
