"""results.csv: appended to so that no kill loses a finished scan, and put in order at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.pipelines.runs.row import COLUMNS, Row, csv_line

RESULTS_NAME = "results.csv"
_HEADER = csv_line(COLUMNS)


def read_results(path: Path) -> list[Row]:
    """The rows of a results.csv, in the file's order; a last line that a kill tore off is dropped.

    Raises:
        UsageError: the file cannot be read, or is no results.csv.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror})") from error
    # What follows the last line break was being written when the run was killed.
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines(keepends=True)
    if not lines:
        return []
    if lines[0].replace("\r\n", "\n") != _HEADER:
        raise UsageError(f"{path}: it was not written by lexiseg; choose another folder or move it away")
    try:
        return [Row.from_line(line) for line in lines[1:]]
    except UsageError as error:
        raise UsageError(f"{path}: {error}; move it away or run without --resume") from error


def write_results(path: Path, rows: Iterable[Row]) -> Path:
    """Write all rows in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    text = _HEADER + "".join(row.to_line() for row in rows)
    return atomic_write(path, lambda file: file.write(text.encode()))


def append_results(path: Path, rows: Sequence[Row]) -> None:
    """Append one scan's rows to a table that `write_results` began, and wait until they are on the disk.

    Raises:
        UnwritableResult: the file system refused; the table ends where it ended before.
    """
    content = "".join(row.to_line() for row in rows).encode()
    try:
        # Unbuffered: a failed write must not come back when the file is closed.
        with path.open("ab", buffering=0) as handle:
            before = handle.seek(0, os.SEEK_END)
            try:
                if handle.write(content) != len(content):
                    raise OSError(None, "the disk is full")
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(before)
                raise
    except OSError as error:
        raise UnwritableResult(
            f"{path}: could not be written ({error.strerror}); free some space and run again with --resume"
        ) from error
