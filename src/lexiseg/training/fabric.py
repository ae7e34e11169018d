"""Devices, processes and number formats of a training, by Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import torch

from lexiseg.errors import UsageError
from lexiseg.models.loading import resolve_device, resolve_precision

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_NAMES: dict[torch.dtype, Any] = {
    torch.float32: "32-true",
    torch.bfloat16: "bf16-mixed",
    torch.float16: "16-mixed",
    # No setting offers it: it is for checks in which rounding must not matter.
    torch.float64: "64-true",
}


def make_fabric(device: str | torch.device, precision: str, *, devices: int = 1) -> Fabric:
    """Fabric for a training, with its processes launched.

    Args:
        device: as for `lexiseg.models.loading.resolve_device`; several processes take devices of that type.
        precision: of products: "auto" (bfloat16 where the hardware is faster with it, else float32),
            "float32", "bfloat16" or "float16".
        devices: processes; 0 for as many as a launcher (torchrun) has started.

    Raises:
        UsageError: lightning is not installed, there is no such device, it lacks the precision, or there is
            no launcher.
    """
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise UsageError("training needs lightning, which is not installed: pip install 'lexiseg[train]'") from error
    place = resolve_device(device)
    products = resolve_precision("auto", place) if precision == "auto" else getattr(torch, precision)
    if products == torch.float16 and place.type != "cuda":
        raise UsageError(f"precision=float16 needs a CUDA device, not {place}; use bfloat16 or float32")
    processes, nodes = _launched() if devices == 0 else (devices, 1)
    chosen: Any = processes
    if place.type == "cuda" and place.index is not None and processes == 1:
        chosen = [place.index]
    # Fabric speaks under the name of whichever of the two was imported last.
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=place.type,
        devices=chosen,
        num_nodes=nodes,
        strategy=DDPStrategy(find_unused_parameters=True) if processes * nodes > 1 else "auto",
        precision=_NAMES[products],
    )
    fabric.launch()
    return fabric


def scaler_of(fabric: Fabric) -> Any:
    """What scales the loss in float16, and skips steps whose gradient overflowed; None in other formats."""
    return getattr(fabric.strategy.precision, "scaler", None)


def scaler_state(fabric: Fabric) -> dict[str, Any] | None:
    """Of `scaler_of`, for a checkpoint."""
    scaler = scaler_of(fabric)
    return None if scaler is None else dict(scaler.state_dict())


def restore_scaler(fabric: Fabric, state: dict[str, Any] | None) -> None:
    """Put back what `scaler_state` gave."""
    scaler = scaler_of(fabric)
    if scaler is not None and state:
        scaler.load_state_dict(state)


def _launched() -> tuple[int, int]:
    """Processes on this machine, and machines, as torchrun tells them."""
    try:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            "devices is 0, but no launcher such as torchrun has started this process; give their number"
        ) from error
    return local, max(1, world // local)
