"""Work in batches on a device that may run out of memory: half as many are tried then, and it is said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

# What fitted before, by device, kind of work and batch asked for: the next scan need not find it out again.
_FITTED: dict[tuple[str, str, int], int] = {}
_LOCK = Lock()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had not enough memory for a computation."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator and MPS have no error of their own.
    told = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in told or "out of memory" in told)


def views_at_once(side: int, device: torch.device) -> int:
    """How many square inputs go through a network at once where nobody says.

    Eight, and on a CPU as many as have the pixels of one of 512: what is larger fills its cores alone, and several at
    once only need more memory.

    Example:
        >>> views_at_once(192, torch.device("cpu")), views_at_once(1024, torch.device("cpu"))
        (7, 1)
    """
    return 8 if device.type != "cpu" else max(1, min(8, 512**2 // side**2))


def in_batches(
    items: Sequence[T], batch: int, work: Callable[[Sequence[T]], R], *, what: str, device: torch.device
) -> Iterator[R]:
    """What some work gives for each batch of the items, in order.

    Where the device runs out of memory the same items are tried again with half the batch, which then stays for this
    kind of work; a warning says so. A single one that does not fit is the caller's error.

    Args:
        items: what is worked on.
        batch: at most so many at once.
        work: takes some of the items; it must leave nothing behind where it fails.
        what: the items' name in the plural, for the warning.
        device: where the work is done.

    Example:
        >>> list(in_batches([1, 2, 3], 2, list, what="numbers", device=torch.device("cpu")))
        [[1, 2], [3]]
    """
    key = (str(device), what, batch)
    start = 0
    while start < len(items):
        size = _FITTED.get(key, batch)
        try:
            found = work(items[start : start + size])
        except (MemoryError, RuntimeError) as error:
            tried = min(size, len(items) - start)
            if tried == 1 or not is_out_of_memory(error):
                raise
            with _LOCK:
                _FITTED[key] = max(1, tried // 2)
        else:
            start += size
            yield found
            continue
        # Outside of the handler, whose traceback holds the tensors that did not fit.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning("%s has not enough memory for %d %s at once: trying %d", device, tried, what, _FITTED[key])
