"""Devices, processes and number formats, by Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import torch

from lexiseg.errors import UsageError
from lexiseg.models.device import resolve_precision
from lexiseg.training.finetuning.settings import FinetuneSettings

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def make_fabric(settings: FinetuneSettings, device: torch.device, devices: int = 1) -> Fabric:
    """Fabric for a run, with its processes launched.

    Args:
        settings: `precision` counts.
        device: where one process runs; several take devices of that type.
        devices: processes; 0 for as many as a launcher (torchrun) has started.

    Raises:
        UsageError: lightning is not installed, the device lacks the precision, or there is no launcher.
    """
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise UsageError("fine-tuning needs lightning, which is not installed: pip install 'lexiseg[train]'") from error
    products = resolve_precision("auto", device) if settings.precision == "auto" else getattr(torch, settings.precision)
    if products == torch.float16 and device.type != "cuda":
        raise UsageError(f"precision=float16 needs a CUDA device, not {device}; use bfloat16 or float32")
    precision: Any = {
        torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed",
    }[products]  # fmt: skip
    processes, nodes = _launched() if devices == 0 else (devices, 1)
    chosen: Any = processes
    if device.type == "cuda" and device.index is not None and processes == 1:
        chosen = [device.index]
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=chosen,
        num_nodes=nodes,
        strategy=DDPStrategy(find_unused_parameters=True) if processes * nodes > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


def _launched() -> tuple[int, int]:
    """Processes on this machine, and machines, as torchrun tells them."""
    try:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            "devices is 0, but no launcher such as torchrun has started this process; give their number"
        ) from error
    return local, max(1, world // local)
