"""The application: one process, one port, everything that is shared by its visitors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from lexiseg.errors import LexisegError
from lexiseg.serve.ahead import Ahead
from lexiseg.serve.guard import Guard
from lexiseg.serve.jobs import Jobs
from lexiseg.serve.models import Models
from lexiseg.serve.problems import is_full, line_of, status_of
from lexiseg.serve.reading import read_source
from lexiseg.serve.scans import Entry, Scans, Source
from lexiseg.serve.settings import ServeSettings
from lexiseg.serve.state import State
from lexiseg.version import __version__

if TYPE_CHECKING:
    from lexiseg.serve.worklist import Worklist
    from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

API = "/api/v1"
_ENDING = 5.0
"""Seconds in which the threads may end what they are at when the server is closed."""


class Server:
    """What is shared by all requests.

    Args:
        settings: see `ServeSettings`.
        state: the launch's folder.
        models: presets; those of the settings when None.

    Attributes:
        scans, jobs, ahead, models, settings: see their classes.
        opening: held while a scan of the worklist is opened: a visitor has it once.
        clicks: held while a click asks the models: one after the other each is answered sooner than all at once.
    """

    def __init__(self, settings: ServeSettings, state: State, models: Models | None = None) -> None:
        self.settings, self.state = settings, state
        limits = settings.limits
        self.models = models or Models(
            settings.preset,
            device=settings.device,
            precision=settings.precision,
            batch=settings.batch,
            encodings=limits.encodings,
            segmenter=settings.segmenter,
        )
        self.jobs = Jobs(queue=limits.queue, waiting=limits.waiting)
        self.clicks, self.opening = threading.Lock(), threading.Lock()
        self.worklist: Worklist | None = None
        if settings.folder is not None or settings.results is not None or settings.manifest is not None:
            from lexiseg.serve.worklist import Worklist

            self.worklist = Worklist(settings, self.models)
        self.ahead = Ahead(lambda: self.models.ready and not self.jobs.waiting(), self.clicks)
        self.scans = Scans(state, self.models, limits, self.read)

    def read(self, source: Source, folder: Path) -> Scan:
        """The scan of a source.

        Raises:
            UnreadableScan: it cannot be read.
        """
        if source.origin:
            return self._of_worklist(source)
        return read_source(source, folder, self.settings.limits)

    def entry(self, visitor: str, scan: str) -> Entry:
        """A visitor's scan; one of the worklist stays with who uses it.

        Raises:
            Refused: there is none of this id, or it is another visitor's.
        """
        found = self.scans.get(visitor, scan)
        if found.source.origin and self.worklist is not None:
            self.worklist.leases.renew(found.source.origin, visitor)
        return found

    def start(self) -> None:
        """Load the models and segment the worklist, both in the background."""
        self.models.warm()
        if self.worklist is not None:
            self.worklist.start()

    def close(self) -> None:
        """Stop the work, and let go of the folder."""
        self.models.close()
        self.jobs.close()
        self.ahead.close()
        if self.worklist is not None:
            self.worklist.close()
        # A thread that computes while the interpreter ends aborts the process.
        until = time.monotonic() + _ENDING
        for thread in (self.jobs.thread, self.ahead.thread, self.models.thread):
            if thread is not None:
                thread.join(max(0.0, until - time.monotonic()))
        self.state.close()

    def _of_worklist(self, source: Source) -> Scan:
        from lexiseg.errors import UnreadableScan
        from lexiseg.io.sources import read_source as read

        name, found = source.origin, self.worklist
        item = None if found is None else found.of(name)
        if found is None or item is None:
            raise UnreadableScan(f"{name}: it is not in the worklist of this server")
        if item.error:
            raise UnreadableScan(item.error)
        if source.run != found.run_of(item):
            raise UnreadableScan(
                f"{name}: it was opened in another run, or changed since; open it again in the worklist"
            )
        return read(item.source, id=item.id)


def server_of(request: Request) -> Server:
    """The server of a request."""
    found: Server = request.app.state.server
    return found


def visitor_of(request: Request) -> str:
    """The key of who is asking."""
    return str(request.state.visitor)


def make_app(server: Server, *, port: int, token: str | None = None) -> FastAPI:
    """The application of a server.

    Args:
        server: what its requests share; it is closed when the application ends.
        port: that it is reached at.
        token: what visitors must bring; None for none.
    """
    from lexiseg.serve import routes_edits, routes_scans, routes_work, routes_worklist
    from lexiseg.serve.protocols import protocols

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        import anyio.to_thread

        # Requests wait for each other's clicks in threads; twenty people and their pictures need more than 40.
        anyio.to_thread.current_default_thread_limiter().total_tokens = 100
        server.start()
        yield
        server.close()

    app = FastAPI(
        title="lexiseg",
        version=__version__,
        summary="Say what to segment; correct it; take the mask.",
        openapi_url=f"{API}/openapi.json",
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.state.server, app.state.token = server, token
    for routes in (routes_work, routes_scans, routes_edits, routes_worklist):
        app.include_router(routes.router, prefix=API)
    spoken = protocols()
    for protocol in spoken:
        app.include_router(protocol.router)
    _say_problems(app)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the server answers."""
        return {"ok": True, "status": "UP", "version": __version__}

    @app.get("/vendor/niivue.js", include_in_schema=False)
    def niivue() -> Response:
        return _installed("ipyniivue", "static/widget.js")

    page = resources.files("lexiseg.serve") / "page"
    app.mount("/", StaticFiles(directory=str(page), html=True, check_dir=False), name="page")
    uploading = (f"{API}/scans", *(path for protocol in spoken for path in protocol.uploads))
    app.add_middleware(
        Guard,
        token=token,
        names=server.settings.names,
        port=port,
        uploads=server.settings.limits.bytes,
        takes_uploads=lambda path: path.startswith(uploading) and not path.startswith(f"{API}/scans/"),
        known=server.scans.known,
        open=("/healthz", *(path for protocol in spoken for path in protocol.open)),
    )
    return app


def _say_problems(app: FastAPI) -> None:
    """Every problem is one line under "error"."""

    @app.exception_handler(LexisegError)
    def refused(request: Request, error: LexisegError) -> Response:
        return _problem(status_of(error), line_of(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return _problem(422, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def missing(request: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, str(error.detail))

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)

    # An upload is spooled before any code of ours sees it.
    @app.exception_handler(OSError)
    def unsaved(request: Request, error: OSError) -> Response:
        return _problem(507, line_of(error)) if is_full(error) else unexpected(request, error)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        from lexiseg.runs.batch import internal_error

        logger.debug("a request failed", exc_info=error)
        return _problem(500, internal_error(error))


def _installed(package: str, file: str) -> Response:
    """A script of a package that is installed beside this one; the package is not imported."""
    found = util.find_spec(package)
    places = [] if found is None else found.submodule_search_locations or []
    for place in places:
        if (path := Path(place) / file).is_file():
            return FileResponse(path, media_type="text/javascript")
    return _problem(404, f"{package} is not installed; expected the extra view3d: pip install 'lexiseg[view3d]'")


def _problem(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(line.split())}, status_code=status)
