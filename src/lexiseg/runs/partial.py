"""NAME_slices.partial: the finished slices of a volume that is being worked on, for the run that resumes.

It grows by whole records, each with its checksum: what a kill tore off is passed over. It is of one run's settings,
weights and phrases and of one scan's values, and of no use to any other; it goes when the volume's files are written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import UnwritableResult
from lexiseg.values.scans import Volume

logger = logging.getLogger(__name__)

ENDING = "slices.partial"
_MARK = b"lexiseg slices 1 "
_HEAD = struct.Struct("<II16s")  # plane, bytes, their digest
_LENGTH = struct.Struct("<I")
_MOST = 2**30


def key_of(settings: Mapping[str, Any], phrases: Sequence[str], scan: Volume, planes: Mapping[str, str]) -> str:
    """What a partial file must be of to be taken up: a digest of everything that decides a slice's answer.

    Args:
        settings: of the run, see `settings_record`.
        phrases: that are asked of the scan.
        scan: the volume: its values and its grid count, wherever they were read from.
        planes: plane and window, in words.
    """
    digest = hashlib.blake2b(digest_size=32)
    digest.update(json.dumps([settings, list(phrases), dict(planes)], sort_keys=True, default=str).encode())
    geometry = scan.geometry
    for array in (scan.values, geometry.affine, np.asarray(geometry.positions or (), np.float64)):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        # Slice by slice: an array that is a view of another layout is not copied whole.
        for part in array:
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


class PartialVolume:
    """A volume's finished slices in a run's folder; a `lexiseg.pipelines.packed.Journal`.

    Args:
        path: the file.
        key: see `key_of`.
        announce: called before the file is made, so that no kill leaves one that nobody knows.
        every: planes that are written at once.
        seconds: after which fewer are written too.
    """

    def __init__(
        self, path: Path, key: str, *, announce: Callable[[], None], every: int = 16, seconds: float = 10.0
    ) -> None:
        self._path, self._key, self._announce = path, key, announce
        self._every, self._seconds = every, seconds
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        self._size = 0

    def recall(self) -> Mapping[int, tuple[bytes, ...]]:
        """The slices that were written down by plane, and the file cut where it is torn.

        Raises:
            UnwritableResult: the file system refused.
        """
        try:
            # What is larger than any of ours is not read.
            content = self._path.read_bytes() if self._path.stat().st_size <= 2 * _MOST else b""
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unwritable(error) from error
        start = _MARK + self._key.encode() + b"\n"
        found: dict[int, tuple[bytes, ...]] = {}
        self._size = 0
        if content.startswith(start):
            found, self._size = _records(content, len(start))
            logger.info("%s: %d slices were done by an earlier run", self._path.name, len(found))
        else:
            logger.info("%s: it is of other settings or of another scan, and begun anew", self._path.name)
        try:
            os.truncate(self._path, self._size)
        except OSError as error:
            raise self._unwritable(error) from error
        return found

    def keep(self, index: int, slices: tuple[bytes, ...]) -> None:
        """Write a plane down, with some that came before it.

        Raises:
            UnwritableResult: the file system refused.
        """
        body = b"".join(_LENGTH.pack(len(each)) + each for each in slices)
        self._waiting.append(_HEAD.pack(index, len(body), _digest(index, body)) + body)
        if len(self._waiting) >= self._every or time.monotonic() - self._written >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what waits, and see it on the disk.

        Raises:
            UnwritableResult: the file system refused; the file ends where it ended before.
        """
        self._written = time.monotonic()
        content, self._waiting = b"".join(self._waiting), []
        if not content or self._size + len(content) > _MOST:
            return
        if self._size == 0:
            self._announce()
            content = _MARK + self._key.encode() + b"\n" + content
        try:
            # Unbuffered: a failed write must not come back when the file is closed.
            with self._path.open("ab", buffering=0) as handle:
                try:
                    if handle.write(content) != len(content):
                        raise OSError(None, "the disk is full")
                    os.fsync(handle.fileno())
                except OSError:
                    handle.truncate(self._size)
                    raise
        except OSError as error:
            raise self._unwritable(error) from error
        self._size += len(content)

    def remove(self) -> None:
        """The volume is done.

        Raises:
            UnwritableResult: the file system refused.
        """
        self._waiting = []
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UnwritableResult:
        return UnwritableResult(f"{self._path}: slices could not be written down ({error.strerror}); free some space")


def _records(content: bytes, at: int) -> tuple[dict[int, tuple[bytes, ...]], int]:
    """The whole records from a place on, and where they end."""
    found: dict[int, tuple[bytes, ...]] = {}
    while at + _HEAD.size <= len(content):
        index, length, digest = _HEAD.unpack_from(content, at)
        body = content[at + _HEAD.size : at + _HEAD.size + length]
        slices = _split(body)
        if len(body) < length or _digest(index, body) != digest or slices is None:
            break
        found[index] = slices
        at += _HEAD.size + length
    return found, at


def _split(body: bytes) -> tuple[bytes, ...] | None:
    parts, at = [], 0
    while at < len(body):
        if at + _LENGTH.size > len(body):
            return None
        (length,) = _LENGTH.unpack_from(body, at)
        part = body[at + _LENGTH.size : at + _LENGTH.size + length]
        if len(part) < length:
            return None
        parts.append(part)
        at += _LENGTH.size + length
    return tuple(parts)


def _digest(index: int, body: bytes) -> bytes:
    return hashlib.blake2b(_LENGTH.pack(index) + body, digest_size=16).digest()
