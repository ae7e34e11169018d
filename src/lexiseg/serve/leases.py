"""Who has which scan of a worklist."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from lexiseg.serve.problems import Refused

LEASE = 600.0
"""Seconds for which a scan stays with who opened it last, after the last thing that was done with it."""


@dataclass
class _Lease:
    visitor: str
    until: float


class Leases:
    """Scans, by their ids, and the visitors that have them; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, _Lease] = {}

    def holder(self, id: str) -> str | None:
        """Who has a scan; None where nobody has it."""
        with self._lock:
            held = self._held.get(id)
            return held.visitor if held is not None and held.until > time.monotonic() else None

    def take(self, id: str, visitor: str) -> bool:
        """Take a scan, or keep it; False where somebody else has it."""
        with self._lock:
            held = self._held.get(id)
            if held is not None and held.visitor != visitor and held.until > time.monotonic():
                return False
            self._held[id] = _Lease(visitor, time.monotonic() + LEASE)
            return True

    def renew(self, id: str, visitor: str) -> None:
        """Keep a scan that the visitor has; nothing happens where it has it no more."""
        with self._lock:
            if (held := self._held.get(id)) is not None and held.visitor == visitor:
                held.until = time.monotonic() + LEASE

    def hold(self, id: str, visitor: str) -> None:
        """Take a scan, or keep it.

        Raises:
            Refused: somebody else has it.
        """
        if not self.take(id, visitor):
            raise Refused(409, "somebody else is looking at this scan; take the next one")

    def free(self, id: str, visitor: str) -> None:
        """Give a scan back."""
        with self._lock:
            if (held := self._held.get(id)) is not None and held.visitor == visitor:
                del self._held[id]
