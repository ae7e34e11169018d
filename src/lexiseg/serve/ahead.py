"""Planes that somebody looks at are encoded while nothing else is to be done: the first click is then fast."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lexiseg.errors import LexisegError

if TYPE_CHECKING:
    from lexiseg.session import Session

logger = logging.getLogger(__name__)

_PAUSE = 0.25
"""Seconds that a plane must be looked at: who turns through a volume looks at none."""


class Ahead:
    """Encodes what each visitor looked at last, one plane at a time.

    Args:
        idle: whether nobody waits for the models; nothing is encoded while somebody does.
        clicks: held while a plane is encoded, as for a click.

    Attributes:
        thread: that encodes.
    """

    def __init__(self, idle: Callable[[], bool], clicks: threading.Lock) -> None:
        self._idle, self._clicks = idle, clicks
        self._wanted: dict[str, tuple[Session, str, int]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self.thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self.thread.start()

    def look(self, visitor: str, session: Session, axis: str, plane: int) -> None:
        """A visitor looks at a plane."""
        with self._changed:
            self._wanted[visitor] = session, axis, plane
            self._changed.notify_all()

    def close(self) -> None:
        """The thread ends when the plane that it is at is encoded."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._wanted))
                if self._closed:
                    return
                # Whatever comes meanwhile replaces what is wanted.
                self._changed.wait(_PAUSE)
                ready = self._idle() and bool(self._wanted)
                session, axis, plane = self._wanted.pop(next(iter(self._wanted))) if ready else (None, "", 0)
            if session is None:
                continue
            try:
                with self._clicks:
                    session.prepare(plane, axis=axis)
            except LexisegError as error:
                logger.debug("a plane could not be encoded ahead: %s", error)
            except Exception:  # the thread must outlive any plane
                logger.debug("a plane could not be encoded ahead", exc_info=True)
