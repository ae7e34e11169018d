"""Scans: sent, looked at, closed, exported."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from lexiseg.errors import LexisegError, UnwritableResult
from lexiseg.serve.app import Server, server_of, visitor_of
from lexiseg.serve.problems import Refused, line_of
from lexiseg.serve.reading import Upload, settle
from lexiseg.serve.scans import Entry, Source
from lexiseg.serve.schemas import PhantomRequest

router = APIRouter(tags=["scans"])


@router.post("/scans", status_code=201, openapi_extra={
    "requestBody": {"content": {
        "multipart/form-data": {"schema": {"type": "object", "properties": {
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}}}}},
        "application/json": {"schema": {"type": "object", "properties": {"phantom": {"type": "string"}}},
                             "example": {"phantom": "breast-ultrasound"}}}}})  # fmt: skip
async def send(request: Request) -> JSONResponse:
    """Open scans: files as multipart "files", or a shipped phantom as JSON."""
    server, visitor = server_of(request), visitor_of(request)
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            wanted = PhantomRequest.model_validate(await request.json())
        except (ValidationError, ValueError, RecursionError) as error:
            raise Refused(
                422, 'the body is no request for a phantom; expected {"phantom": "breast-ultrasound"}'
            ) from error
        made = [await run_in_threadpool(_open_phantom, server, visitor, wanted.phantom)]
        return JSONResponse({"scans": made}, 201)
    limits = server.settings.limits
    async with request.form(max_files=limits.files, max_fields=limits.files) as form:
        files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
        if not files:
            raise Refused(422, "no file was sent; expected one or more in the form's field files")
        made, refused = await run_in_threadpool(_open_files, server, visitor, files)
    if not made:
        raise Refused(422, refused[0] + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""))
    return JSONResponse({"scans": made, "refused": refused}, 201)


@router.get("/scans")
def all_scans(request: Request) -> list[dict[str, Any]]:
    """Your scans, also those of a server that was killed; one that cannot be read any more says so."""
    server, told = server_of(request), []
    for entry in server.scans.all(visitor_of(request)):
        try:
            told.append(told_of(server, entry))
        except LexisegError as error:
            told.append({"id": entry.id, "name": entry.source.name, "error": line_of(error)})
    return told


@router.get("/scans/{scan}")
def one_scan(request: Request, scan: str) -> dict[str, Any]:
    """A scan, with its targets."""
    server = server_of(request)
    return told_of(server, server.entry(visitor_of(request), scan))


@router.delete("/scans/{scan}", status_code=204)
def close_scan(request: Request, scan: str) -> None:
    """Close a scan: its file and its edits go."""
    server_of(request).scans.remove(visitor_of(request), scan)


@router.get("/scans/{scan}/planes/{axis}/{plane}", response_class=Response)
def one_plane(request: Request, scan: str, axis: str, plane: int) -> Response:
    """A plane's values: uint16 little endian over the scan's range, or uint8 RGB; X-Height, X-Width, X-Channels."""
    from lexiseg.serve.describe import plane_bytes, ranges, shown_values

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock:
        session = server.scans.session(entry)
        name, index = session.views.place(axis, plane)
        if entry.range is None:
            entry.range = ranges(session.scan, shown_values(session.scan), session)[:2]
        content, height, width = plane_bytes(session.scan, session.views, (name, index), entry.range)
        server.ahead.look(visitor_of(request), session, name, index)
    channels = "3" if len(content) == 3 * height * width else "1"
    headers = {"X-Height": str(height), "X-Width": str(width), "X-Channels": channels,
               "Cache-Control": "private, max-age=3600"}  # fmt: skip
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/scans/{scan}/export", response_class=Response)
def export(
    request: Request,
    scan: str,
    format: Annotated[str, Query(max_length=20, examples=["png"])],
    targets: Annotated[str, Query(max_length=2000, description="ids with commas between; all when empty")] = "",
) -> Response:
    """The masks as files: one, or a zip of several."""
    from lexiseg.serve.exports import export_files, packed

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock:
        session = server.scans.session(entry)
        files = export_files(session, format, [part for part in targets.split(",") if part])
    name, kind, content = packed(files, session.scan.id, format)
    return Response(content, media_type=kind, headers={"Content-Disposition": attachment(name)})


@router.get("/scans/{scan}/command")
def command(request: Request, scan: str) -> dict[str, str]:
    """What to type to have the same answer: as a command, and in Python."""
    from lexiseg.serve.exports import as_command, as_python

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock:
        session = server.scans.session(entry)
        return {"command": as_command(session, entry.source), "python": as_python(session, entry.source)}


def attachment(name: str) -> str:
    """The header that gives a file its name: in ASCII, and as it is where that says less (RFC 6266)."""
    plain = "".join(each if each.isascii() and each.isprintable() and each not in '"\\?' else "_" for each in name)
    whole = quote(name, safe="", errors="replace")
    return f'attachment; filename="{plain}"' + ("" if plain == name else f"; filename*=UTF-8''{whole}")


def told_of(server: Server, entry: Entry) -> dict[str, Any]:
    """A scan as it is told."""
    from lexiseg.serve.describe import scan_record

    with entry.lock:
        return scan_record(entry, server.scans.session(entry))


def _open_phantom(server: Server, visitor: str, id: str) -> dict[str, Any]:
    from lexiseg.serve.phantoms import OFFERS, phantom_scan

    scan = phantom_scan(id)
    source = Source(name=OFFERS[id].title, phantom=id, preset=server.models.default)
    return told_of(server, server.scans.add(visitor, source, server.scans.place(visitor), scan))


def open_files(server: Server, visitor: str, files: Iterable[tuple[IO[bytes], str]]) -> tuple[list[Entry], list[str]]:
    """Scans of files that were sent, each with its name, and a line on each that is none.

    Raises:
        UnwritableResult: the file system refused; nothing is kept.
        Refused: the visitor has too many scans.
    """
    upload = Upload(server.scans.incoming(visitor))
    made: list[Entry] = []
    try:
        for file, name in files:
            upload.store(file, name)
        for piece in upload.pieces(server.settings.limits):
            folder = server.scans.place(visitor)
            try:
                # Moved first: a scan may refer to its files.
                source = Source(name=piece.label, files=settle(piece, folder), preset=server.models.default)
                made.append(server.scans.add(visitor, source, folder, server.read(source, folder)))
            except UnwritableResult:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            except LexisegError as error:
                shutil.rmtree(folder, ignore_errors=True)
                upload.refused.append(" ".join(str(error).split()))
        return made, upload.refused
    finally:
        upload.remove()


def _open_files(server: Server, visitor: str, files: list[UploadFile]) -> tuple[list[dict[str, Any]], list[str]]:
    made, refused = open_files(server, visitor, [(each.file, each.filename or "scan") for each in files])
    return [told_of(server, entry) for entry in made], refused
