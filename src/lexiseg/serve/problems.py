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
