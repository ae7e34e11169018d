"""What goes wrong, as one line with a status."""

from __future__ import annotations

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


def status_of(error: LexisegError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, UnwritableResult):
        return 507
    if isinstance(error, (UsageError, FormatMismatch)):
        return 400
    return 422 if isinstance(error, UnreadableScan) else 500
