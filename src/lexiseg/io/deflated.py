"""Voxels that deflate compressed, with their checksum looked at."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from lexiseg.errors import UnreadableScan

_CHUNK = 2**20
# Of zlib's or gzip's streams, whichever it is (zlib's manual, inflateInit2).
_EITHER = zlib.MAX_WBITS | 32


def inflated(path: Path, begin: int, size: int) -> bytearray:
    """The bytes that a file's compressed part holds.

    Args:
        path: the file.
        begin: where that part begins.
        size: how many bytes it must hold; hardly more are ever made.

    Raises:
        UnreadableScan: it is damaged, or holds another number of bytes; the reason alone.
    """
    content = bytearray()
    for part in _parts(path, begin, size):
        content += part
    return content


def check_deflated(path: Path, begin: int, size: int) -> None:
    """Raise as `inflated` does; nothing is kept."""
    for _ in _parts(path, begin, size):
        pass


def _parts(path: Path, begin: int, size: int) -> Iterator[bytes]:
    """What a compressed part holds, some 1 MiB at a time."""
    decoder, made = zlib.decompressobj(_EITHER), 0
    with path.open("rb") as file:
        file.seek(begin)
        packed = file.read(_CHUNK)
        try:
            while packed and not decoder.eof and made <= size:
                part = decoder.decompress(packed, _CHUNK)
                made += len(part)
                yield part
                packed = decoder.unconsumed_tail or file.read(_CHUNK)
            # Of what is cut off, and of what was taken in and not yet given out.
            rest = b"" if packed else decoder.flush()
        except zlib.error as error:
            raise UnreadableScan("its compressed voxels are damaged; copy or export it again") from error
    yield rest
    if made + len(rest) == size and decoder.eof:
        return
    if made + len(rest) <= size and not decoder.eof:
        raise UnreadableScan("its compressed voxels are cut off; copy or export it again")
    raise UnreadableScan("its compressed voxels are not as many as its header claims; copy or export it again")
