"""The same random numbers for the same scan, whatever was done before it."""

from __future__ import annotations

import random
import zlib

import numpy as np
import torch


def seed_scan(seed: int, scan: str) -> None:
    """Seed Python's, NumPy's and torch's generators for one scan of a run.

    From the run's seed and the scan's id, so that a resumed run, which skips scans, draws as an unbroken one.
    """
    number = zlib.crc32(f"{seed}:{scan}".encode())
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  (libraries below may still draw from the global generator)
    torch.manual_seed(number)
