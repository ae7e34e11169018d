"""What goes wrong, as one line with a status."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lexiseg.errors import FormatMismatch, LexisegError, UnreadableScan, UnwritableResult, UsageError


class Refused(LexisegError):
    """A request that cannot be done, with its HTTP status.

    Args:
        status: of the reply.
        line: for a person.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def not_found(what: str) -> Refused:
    """There is no such thing, or it is somebody else's: the reply is the same."""
    return Refused(404, f"there is no such {what}; it may have been removed, or the server was started anew")


def is_full(error: BaseException) -> bool:
    """Whether an error comes of a disk without space, or a quota that is used up."""
    return any(each.errno in (errno.ENOSPC, errno.EDQUOT) for each in _refusals(error))


def line_of(error: BaseException) -> str:
    """What a visitor is told of an error: one line, which names no place on the server's disk."""
    if is_full(error):
        return "the server's disk is full, so this was not saved; free some space there and do it again"
    if isinstance(error, UnwritableResult):
        for refusal in _refusals(error):
            return f"the server could not save this ({refusal.strerror or 'refused'}); tell who runs it"
    return " ".join(str(error).split())


_ADVICE = (
    (
        "resume with the same, run without --resume, or choose another folder",
        "start with the same, or choose another --results",
    ),
    ("run without --resume or choose another folder", "choose another folder with --results"),
    ("run without --resume to start anew", "choose another folder with --results"),
    ("choose another folder or move it away", "choose another folder with --results, or move it away"),
    ("run again with --resume", "start again"),
    ("--resume continues", "a new start goes on"),
)
"""What a run advises whoever typed `lexiseg segment`, and what whoever typed `lexiseg serve` can do."""


def advised(line: str) -> str:
    """A run's line on what went wrong, with options that `lexiseg serve` has."""
    for of_segment, of_serve in _ADVICE:
        line = line.replace(of_segment, of_serve)
    return " ".join(line.split())


def _refusals(error: BaseException | None) -> Iterator[OSError]:
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__


def status_of(error: LexisegError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, UnwritableResult) or is_full(error):
        return 507
    if isinstance(error, (UsageError, FormatMismatch)):
        return 400
    return 422 if isinstance(error, UnreadableScan) else 500
