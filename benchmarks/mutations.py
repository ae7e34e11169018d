"""Damaged files by the thousand: every reader either reads them or refuses them in one line.

    python benchmarks/mutations.py --count 500 --seed 0

Small valid files of each format are made here, then bits, lengths, header fields and tags are changed at random. Each
is read in a process of its own, which may take 10 seconds and 1 GiB of address space beyond what it has after its
imports. Counted are: read, refused by one line, traceback, crash, hang, memory. Exit 1 on any of the last four.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import UnreadableScan
from sound_files import valid_files

SECONDS = 10.0
"""The longest that one file may take."""
MEMORY = 2**30
"""Bytes of address space that reading one file may add."""
MAX_PIXELS = 2**22
"""Handed to the reader, so that the bound on memory means something: 16 bytes a pixel in float64 and float32 copies,
and room for the decoders'."""
FAULTS = ("traceback", "crash", "hang", "memory")
OUTCOMES = ("read", "refused", *FAULTS)
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """One file with one to four changes."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if len(changed) < 16:
            break
        changes = [_bits, _extreme, _cut, _repeat, *([_FIELDS[kind]] * 4)]
        changes[int(rng.integers(len(changes)))](changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Headers lie at the beginning, of TIFF often at the end: these places are chosen more often."""
    size = len(data)
    reach = min(size, 600)
    places = (rng.integers(size), rng.integers(reach), size - 1 - rng.integers(reach))
    return int(places[int(rng.integers(3))])


def _bits(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 9))):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _extreme(data: bytearray, rng: np.random.Generator) -> None:
    width, order = int(rng.choice([1, 2, 4])), str(rng.choice(["little", "big"]))
    number = _EXTREMES[int(rng.integers(len(_EXTREMES)))] & (256**width - 1)
    at = min(_place(data, rng), len(data) - width)
    data[at : at + width] = number.to_bytes(width, order)  # type: ignore[arg-type]


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    if rng.random() < 0.5:
        del data[max(at, 8) :]
    else:
        del data[at : at + int(rng.integers(1, 33))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    at, length = _place(data, rng), int(rng.integers(1, 129))
    data[at:at] = data[at : at + length]


def _png_field(data: bytearray, rng: np.random.Generator) -> None:
    """A change inside a chunk, with a right checksum."""
    starts, at = [], 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    start = starts[int(rng.integers(len(starts)))] if starts else 8
    length = int.from_bytes(data[start : start + 4], "big")
    end = start + 8 + length
    if length == 0 or end + 4 > len(data):
        return
    data[start + 8 + int(rng.integers(length))] = int(rng.integers(256))
    data[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(data[start + 4 : end])))


def _jpeg_field(data: bytearray, rng: np.random.Generator) -> None:
    """A byte of a marker's segment, or its length."""
    marks = [at for at in range(2, len(data) - 8) if data[at] == 0xFF and data[at + 1] >= 0xC0]
    if marks:
        data[marks[int(rng.integers(len(marks)))] + int(rng.integers(1, 8))] = int(rng.integers(256))


def _tiff_field(data: bytearray, rng: np.random.Generator) -> None:
    """Tag, type, count or value of an entry of the first directory."""
    order = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in (b"+\0", b"\0+")
    wide, entry = (8, 20) if big else (4, 12)
    start = int.from_bytes(data[8:16] if big else data[4:8], order)  # type: ignore[arg-type]
    head = 8 if big else 2
    count = int.from_bytes(data[start : start + head], order)  # type: ignore[arg-type]
    at = start + head + entry * int(rng.integers(max(1, min(count, 30))))
    offset, width = ((0, 2), (2, 2), (4, wide), (4 + wide, 2))[int(rng.integers(4))]
    number = int(rng.integers(300)) if rng.random() < 0.5 else _EXTREMES[int(rng.integers(len(_EXTREMES)))]
    if at + offset + width <= len(data):
        data[at + offset : at + offset + width] = (number & (256**width - 1)).to_bytes(width, order)  # type: ignore[arg-type]


def _dicom_field(data: bytearray, rng: np.random.Generator) -> None:
    """VR, length or value of an element of group 0028, or of any."""
    group = b"\x28\0" if rng.random() < 0.7 else b"\x08\0" if rng.random() < 0.5 else b"\x02\0"
    places = [at for at in range(132, len(data) - 12, 2) if data[at : at + 2] == group]
    if not places:
        return
    at = places[int(rng.integers(len(places)))]
    what = int(rng.integers(4))
    if what == 0:
        vrs = (b"US", b"SS", b"DS", b"IS", b"UN", b"OB", b"OW", b"SQ", b"LO", b"FD", b"AT", b"ZZ")
        data[at + 4 : at + 6] = vrs[int(rng.integers(len(vrs)))]
    elif what == 1:
        data[at + 6 : at + 8] = int(rng.integers(12)).to_bytes(2, "little")
    elif what == 2:
        data[at + 8 : at + 10] = rng.bytes(2)
    else:
        data[at + 2 : at + 4] = rng.bytes(2)


def _nifti_field(data: bytearray, rng: np.random.Generator) -> None:
    """A number of the header: extreme, not finite, or negative."""
    at = 2 * int(rng.integers(min(len(data), 352) // 2))
    numbers = (
        struct.pack("<h", int(rng.integers(-32768, 32768))),
        struct.pack("<f", float(rng.choice([np.nan, np.inf, -np.inf, 0, -1, 1e30, 1e-30]))),
        struct.pack("<i", int(rng.integers(-(2**31), 2**31))),
        struct.pack("<h", int(rng.integers(0, 20))),
    )
    number = numbers[int(rng.integers(len(numbers)))]
    data[at : at + len(number)] = number


_FIELDS: dict[str, Callable[[bytearray, np.random.Generator], None]] = {
    "PNG": _png_field,
    "JPEG": _jpeg_field,
    "TIFF": _tiff_field,
    "DICOM": _dicom_field,
    "NIfTI": _nifti_field,
}


def outcome(path: Path) -> tuple[str, str]:
    """What reading a file came to, and why."""
    from lexiseg.io.read import read_scan

    try:
        scan = read_scan(path, max_pixels=MAX_PIXELS, max_voxels=MAX_PIXELS)
        pixels = scan.planes()[0].pixels
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            return "traceback", "pixels outside [0, 1]"
    except UnreadableScan as error:
        text = str(error)
        if "\n" in text:
            return "traceback", f"more than one line: {text!r}"
        return ("memory" if isinstance(error.__cause__, MemoryError) else "refused"), text.removeprefix(f"{path}: ")
    except BaseException as error:  # noqa: BLE001  (this is what is looked for)
        return "traceback", f"{type(error).__name__}: {error}"
    return "read", ""


def _work(pipe: Connection, folder: str) -> None:
    """Read what comes, under a bound on memory, and answer."""
    # Before the bound is set: imports are not counted.
    for data in (files[0] for files in valid_files().values()):
        path = Path(folder, "warm.bin")
        path.write_bytes(data)
        outcome(path)
    # A library's own words on standard error would fill the terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
    pipe.send("ready")
    path = Path(folder, "mutated.bin")
    while True:
        data = pipe.recv()
        if data is None:
            return
        path.write_bytes(data)
        pipe.send(outcome(path))


class Worker:
    """One process that reads, started anew after a hang or a crash."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process: Any = None

    def read(self, data: bytes) -> tuple[str, str]:
        """The outcome of one file."""
        if self._process is None or not self._process.is_alive():
            self._start()
        self._pipe.send(data)
        if not self._pipe.poll(SECONDS):
            self._process.kill()
            self._process.join()
            return "hang", f"more than {SECONDS:g} s"
        try:
            answer: tuple[str, str] = self._pipe.recv()
        except EOFError:
            self._process.join()
            return "crash", f"exit code {self._process.exitcode}"
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.is_alive():
            self._pipe.send(None)
            self._process.join(5)
            self._process.kill()
        self._folder.cleanup()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, self._folder.name), daemon=True)
        self._process.start()
        other.close()
        assert self._pipe.recv() == "ready"


def campaign(count: int, seed: int, kinds: list[str], keep: Path | None = None) -> Iterator[tuple[str, Counter[str]]]:
    """For each format: how often each outcome came, of `count` mutated files.

    Args:
        count: files of each format.
        seed: of the changes; the same seed makes the same files.
        kinds: formats.
        keep: a folder for files that show a fault; None keeps none.
    """
    worker = Worker()
    try:
        for kind in kinds:
            counts: Counter[str] = Counter()
            files = valid_files()[kind]
            for number in range(count):
                rng = np.random.default_rng([seed, number, sorted(_FIELDS).index(kind)])
                data = mutated(files[number % len(files)], kind, rng)
                what, why = worker.read(data)
                counts[what] += 1
                if what in FAULTS:
                    print(f"{kind} {number}: {what}: {why}", file=sys.stderr)
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{kind}_{number}.bin").write_bytes(data)
            yield kind, counts
    finally:
        worker.close()


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="mutated files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=sorted(_FIELDS), action="append", help="this one alone; may be repeated")
    parser.add_argument("--keep", type=Path, help="a folder for files that show a fault")
    asked = parser.parse_args()
    print(f"{'format':8}" + "".join(f"{name:>11}" for name in OUTCOMES) + f"{'seconds':>10}")
    failed, started = False, time.monotonic()
    for kind, counts in campaign(asked.count, asked.seed, asked.format or list(valid_files()), asked.keep):
        elapsed, started = time.monotonic() - started, time.monotonic()
        print(f"{kind:8}" + "".join(f"{counts[name]:11d}" for name in OUTCOMES) + f"{elapsed:10.1f}", flush=True)
        failed |= any(counts[name] for name in FAULTS)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
