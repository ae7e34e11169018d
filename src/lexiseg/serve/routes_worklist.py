"""The worklist: what is to be looked through, next, verdicts, and what training takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from lexiseg.errors import LexisegError
from lexiseg.serve.app import Server, server_of, visitor_of
from lexiseg.serve.problems import Refused
from lexiseg.serve.routes_scans import told_of
from lexiseg.serve.scans import Entry, Source
from lexiseg.serve.schemas import Strict

if TYPE_CHECKING:
    from lexiseg.runs.items import RunItem
    from lexiseg.serve.worklist import Worklist

router = APIRouter(tags=["worklist"])


class VerdictRequest(Strict):
    """What a person says of a scan."""

    verdict: Literal["accepted", "corrected", "rejected", "skipped"]
    seconds: Annotated[float, Field(ge=0, lt=1e6, description="how long it was looked at this time")] = 0.0


@router.get("/worklist")
def worklist(request: Request) -> dict[str, Any]:
    """All scans, doubtful ones first, with who has them and what was said."""
    return _list(request).told(visitor_of(request))


@router.post("/worklist/next")
def next_one(request: Request) -> dict[str, Any]:
    """Take the most doubtful scan that nobody looks at; both are null where none is left."""
    found = _list(request)
    while (number := found.next(visitor_of(request))) is not None:
        try:
            return _opened(request, found, number)
        except LexisegError:
            # What cannot be read is passed over; the list says why.
            found.free(found.item(number).id, visitor_of(request))
            found.unreadable(number)
    return {"item": None, "scan": None}


@router.post("/worklist/{item}/open")
def open_one(request: Request, item: int) -> dict[str, Any]:
    """Take a scan of the list."""
    found = _list(request)
    found.hold(found.item(item).id, visitor_of(request))
    return _opened(request, found, item)


@router.post("/worklist/{item}/verdict")
def verdict(request: Request, item: int, said: VerdictRequest) -> dict[str, Any]:
    """Say what is to become of a scan: its masks are kept where they are accepted or corrected."""
    server, visitor, found = server_of(request), visitor_of(request), _list(request)
    one = found.item(item)
    found.hold(one.id, visitor)
    entry = _entry(server, visitor, one)
    with entry.lock:
        told = found.say(one, said.verdict, said.seconds, server.scans.session(entry))
    found.free(one.id, visitor)
    return told


@router.post("/worklist/export")
def export(request: Request) -> dict[str, Any]:
    """Write manifests of what was accepted or corrected, for `lexiseg train --masks` and `lexiseg evaluate`."""
    found = _list(request)
    paths = found.review.export(found.items)
    return {
        "manifests": [str(path) for path in paths],
        "train": f"lexiseg train --masks {paths[0]} --out student",
        "evaluate": f"lexiseg evaluate --pred {found.results} --manifest {paths[0]} --out report",
    }


def _list(request: Request) -> Worklist:
    found = server_of(request).worklist
    if found is None:
        raise Refused(404, "there is no worklist; start lexiseg serve with --folder or --results")
    return found


def _opened(request: Request, found: Worklist, number: int) -> dict[str, Any]:
    server, visitor = server_of(request), visitor_of(request)
    item = found.item(number)
    entry = _entry(server, visitor, item)
    told = next(each for each in found.told(visitor)["items"] if each["id"] == str(number))
    return {"item": told, "scan": told_of(server, entry)}


def _entry(server: Server, visitor: str, item: RunItem) -> Entry:
    """The visitor's session of a scan of the list; a new one has what the run found."""
    with server.opening:
        for entry in server.scans.all(visitor):
            if entry.source.origin == item.id:
                return entry
        folder = server.scans.place(visitor)
        try:
            source = Source(name=item.id, origin=item.id, preset=server.models.default)
            scan = server.read(source, folder)
            entry = server.scans.add(visitor, source, folder, scan)
            assert server.worklist is not None
            server.worklist.fill(server.scans.session(entry), item, scan)
        except LexisegError:
            shutil.rmtree(Path(folder), ignore_errors=True)
            raise
        return entry
