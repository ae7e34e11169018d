"""Device and number format of a training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from lexiseg.models.device import resolve_device, resolve_precision

if TYPE_CHECKING:
    from lightning.fabric import Fabric


_NAMES: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def make_fabric(device: str, precision: str) -> Fabric:
    """Lightning's Fabric on one device.

    Args:
        device: as for `lexiseg.models.device.resolve_device`.
        precision: "auto" (bfloat16 where the hardware is faster with it, else float32), "float32", "bfloat16"
            or "float16".

    Raises:
        UsageError: there is no such device.
    """
    from lightning.fabric import Fabric

    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    place = resolve_device(device)
    if precision == "auto":
        fast = resolve_precision("auto", place) == torch.bfloat16
        precision = "bfloat16" if fast else "float32"
    devices: Any = [place.index or 0] if place.type == "cuda" else 1
    return Fabric(accelerator=place.type, devices=devices, precision=_NAMES[precision])
