"""The entry point of `lexiseg`: it answers signals before anything takes time to import."""

from __future__ import annotations

from lexiseg.cli.ends import watch_signals
from lexiseg.lazy import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lexiseg.cli.app import app

__all__ = ["app", "run"]

__getattr__ = lazy_names("lexiseg.cli", {"app": ("app",)})


def run() -> None:
    """The `lexiseg` command; Ctrl-C and SIGTERM end it with one line, also while it is still starting."""
    watch_signals()
    from lexiseg.machine import leave, watch_load

    watch_load()
    from lexiseg.cli.app import app

    try:
        app()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            leave(end.code or 0)
        raise
