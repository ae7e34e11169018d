"""Starting and stopping a server."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace

from lexiseg.errors import LexisegError, UsageError
from lexiseg.serve.settings import ServeSettings

logger = logging.getLogger(__name__)


def bind(settings: ServeSettings) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: the port is in use or not allowed, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        sock.close()
        raise UsageError(_why(error, settings)) from error
    return sock


def _why(error: Exception, settings: ServeSettings) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"port {settings.port} is in use; stop what uses it, or choose another: --port 0 takes a free one"
    if code == errno.EACCES:
        return f"port {settings.port} is not allowed for this user; choose one above 1023"
    return f"{settings.host} is no address of this machine; expected 127.0.0.1, or 0.0.0.0 for all"


def token_of(settings: ServeSettings) -> str | None:
    """What visitors must bring: the given token, a new one where it is asked for or needed, or None."""
    if settings.token:
        return settings.token
    if settings.token == "" or not settings.loopback:
        return secrets.token_urlsafe(24)
    return None


def address(settings: ServeSettings, port: int, token: str | None) -> str:
    """What is to be opened in a browser."""
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(settings.host, settings.host)  # noqa: S104  (compared, not bound)
    named = f"[{host}]" if ":" in host else host
    return f"http://{named}:{port}/" + (f"?token={token}" if token else "")


def serve(settings: ServeSettings, *, told: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        settings: see `ServeSettings`.
        told: called with the address once somebody can open it.

    Raises:
        UsageError: the port is in use, or the preset, the folder or the token cannot be.
        LexisegError: the state's folder cannot be used.
    """
    try:
        import uvicorn

        from lexiseg.serve.app import Server, make_app
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed; expected the extra serve: pip install 'lexiseg[serve]'"
        ) from error
    from lexiseg.serve.state import State

    sock = bind(settings)
    port = int(sock.getsockname()[1])
    token = token_of(settings)
    try:
        state = State(settings.state, port=port)
    except LexisegError:
        sock.close()
        raise
    try:
        server = Server(replace(settings, port=port), state)
    except LexisegError:
        state.close()
        sock.close()
        raise
    # Zips are opened and uploads held where a later start finds what a kill left.
    state.temporary.mkdir(mode=0o700)
    tempfile.tempdir = str(state.temporary)
    # A phrase that is typed on a page must not make this machine ask another one for models.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    app = make_app(server, port=port, token=token)
    # Neither access logs nor tracebacks: both would hold names and phrases. What goes wrong is logged by the app.
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=3, lifespan="on"
    )
    running = _Telling(config, lambda: told(address(settings, port, token)))
    try:
        running.run(sockets=[sock])
    finally:
        server.close()


class _Telling:
    """A uvicorn server that says when it answers."""

    def __init__(self, config: object, ready: Callable[[], None]) -> None:
        import uvicorn

        class Told(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                if self.started:
                    ready()

        self._server = Told(config)  # type: ignore[arg-type]

    def run(self, sockets: list[socket.socket]) -> None:
        self._server.run(sockets=sockets)
