"""While one scan is worked on, the next is read and the files of the last are written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Generic, Self, TypeVar

from lexiseg.runs.items import RunItem
from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)
T = TypeVar("T")

LARGEST = 32 << 20
"""Bytes of a file that is read ahead. Two large volumes in memory would be one too many, and they take long anyway."""


class ReadAhead:
    """Scans in the order in which they are worked on, each read while the one before it is.

    Args:
        items: all that will be taken, in order.
        read: an item's scan; it is called in another thread.
    """

    def __init__(self, items: Sequence[RunItem], read: Callable[[RunItem], Scan]) -> None:
        self._read = read
        self._next = {item.id: after for item, after in pairwise(items)}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: dict[str, Future[tuple[Scan, float]]] = {}

    def take(self, item: RunItem) -> tuple[Scan, float]:
        """The item's scan, and how many seconds it took to read; the next one is begun.

        Raises:
            Exception: whatever reading it raised.
        """
        future = self._ahead.pop(item.id, None)
        after = self._next.get(item.id)
        try:
            return self._timed(item) if future is None else future.result()
        finally:
            if after is not None and _is_small(after):
                self._ahead[after.id] = self._threads.submit(self._timed, after)

    def _timed(self, item: RunItem) -> tuple[Scan, float]:
        began = time.perf_counter()
        return self._read(item), time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


class Behind(Generic[T]):
    """One piece of work at a time in another thread, in order; what was begun is always ended.

    Example:
        >>> with Behind[int]() as behind:
        ...     behind.begin(lambda: 1)
        ...     behind.begin(lambda: 2)
        ...     behind.wait()
        1
        2
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._going: Future[T] | None = None

    def begin(self, work: Callable[[], T]) -> T | None:
        """Begin a piece of work once the last one has ended, and return what that one gave.

        Raises:
            Exception: whatever the last one raised; the new one is not begun.
        """
        last = self.wait()
        self._going = self._threads.submit(work)
        return last

    def wait(self) -> T | None:
        """What the last piece of work gave; None where there is none that was not asked for.

        Raises:
            Exception: whatever it raised.
        """
        going, self._going = self._going, None
        return None if going is None else going.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True)
        if self._going is not None and self._going.exception() is not None:
            logger.debug("work behind an error failed too", exc_info=self._going.exception())


def _is_small(item: RunItem) -> bool:
    """Whether an item's files are small enough to be read while another scan is in memory."""
    try:
        sizes = [file.stat().st_size for file in item.source.files if not item.error]
    except OSError:
        return False
    return len(sizes) > 0 and sum(sizes) <= LARGEST
