"""One scan with its cached encodings: words, clicks, boxes, paint, undo, a journal; a server and a page sit on it."""

from __future__ import annotations

from lexiseg.session.session import Session

__all__ = ["Session"]
