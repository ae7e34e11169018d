"""Which device and which number format a model runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from lexiseg.errors import UnavailableDevice, UsageError

PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device of a name.

    Args:
        name: "auto" (CUDA where there is one, else the CPU), or any name torch knows: "cpu", "cuda",
            "cuda:1", "mps".

    Raises:
        UnavailableDevice: torch does not know the name, or this machine has no such device.
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnavailableDevice(f"unknown device {str(name)!r}: expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UnavailableDevice(
                f"device {str(name)!r} is not on this machine ({count} CUDA devices): use cpu or auto"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UnavailableDevice("device 'mps' is not on this machine: use cpu or auto")
    elif device.type not in ("cpu", "mps"):
        raise UnavailableDevice(f"device {str(name)!r} is not supported: expected auto, cpu, cuda, cuda:N or mps")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format of the towers' matrix products: float32 or bfloat16.

    "auto" is bfloat16 where the hardware multiplies it faster than float32 (CUDA from Ampere on, CPUs with
    AVX512-BF16 or AMX) and float32 elsewhere: emulated bfloat16 is several times slower.  Embeddings in
    bfloat16 stay within a cosine of 0.9999 of float32.

    Raises:
        UsageError: the name is none of auto, float32, bfloat16.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: expected one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    return torch.bfloat16 if _fast_bfloat16(device) else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which matrix products run in `dtype`; nothing at all for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # These two are private names of torch: an older or newer torch without them means float32.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if callable(probe))
