"""The worklist: what is to be looked through, next, verdicts, and what training takes."""

from __future__ import annotations

import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from lexiseg.errors import LexisegError, UnreadableScan
from lexiseg.serve.app import Server, server_of, visitor_of
from lexiseg.serve.problems import Refused
from lexiseg.serve.routes_scans import told_of
from lexiseg.serve.scans import Entry, Source
from lexiseg.serve.schemas import Strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lexiseg.runs.items import RunItem
    from lexiseg.serve.worklist import Worklist

router = APIRouter(tags=["worklist"])


class VerdictRequest(Strict):
    """What a person says of a scan."""

    verdict: Literal["accepted", "corrected", "rejected", "skipped"]
    seconds: Annotated[float, Field(ge=0, lt=1e6, description="how long it was looked at this time")] = 0.0
    scan: Annotated[str | None, Field(max_length=64, description="the id of the scan that was looked at")] = None
    version: Annotated[int | None, Field(ge=0, description="of that scan, as it was looked at")] = None


@router.get("/worklist")
def worklist(request: Request) -> dict[str, Any]:
    """All scans, doubtful ones first, with who has them and what was said."""
    return _list(request).told(visitor_of(request))


@router.post("/worklist/next")
def next_one(request: Request) -> dict[str, Any]:
    """Take the most doubtful scan that nobody looks at; both are null where none is left."""
    found, visitor = _list(request), visitor_of(request)
    while (number := found.next(visitor)) is not None:
        try:
            with _freed_on_error(found, found.item(number), visitor):
                return _opened(request, found, number)
        except UnreadableScan as error:
            # It is passed over; the list says why.
            found.unreadable(number, str(error))
    return {"item": None, "scan": None}


@router.post("/worklist/{item}/open")
def open_one(request: Request, item: int) -> dict[str, Any]:
    """Take a scan of the list, once the models have answered it."""
    found, visitor = _list(request), visitor_of(request)
    found.leases.hold(found.item(item).id, visitor)
    with _freed_on_error(found, found.item(item), visitor):
        return _opened(request, found, item)


@router.post("/worklist/{item}/verdict")
def verdict(request: Request, item: int, said: VerdictRequest) -> dict[str, Any]:
    """Say what is to become of a scan that was opened: masks that are accepted or corrected are kept as shown."""
    server, visitor, found = server_of(request), visitor_of(request), _list(request)
    one = found.item(item)
    found.leases.hold(one.id, visitor)
    with _freed_on_error(found, one, visitor):
        entry = _looked_at(server, visitor, found, one, said.scan)
    with entry.lock:
        session = server.scans.session(entry)
        if said.version not in (None, entry.version):
            raise Refused(409, "this scan was changed since you saw it, in another tab perhaps; look at it again first")
        told = found.say(one, said.verdict, said.seconds, session)
        # Whoever gave the verdict has seen it; everybody else has to open the scan again.
        server.scans.renote(entry, replace(entry.source, seen=found.seen_of(one)))
    found.leases.free(one.id, visitor)
    return told


@router.post("/worklist/export")
def export(request: Request) -> dict[str, Any]:
    """Write manifests of what was accepted or corrected, and what to type with each to train and to evaluate."""
    found = _list(request)
    paths, left_out = found.review.export(found.items)
    several = len(paths) > 1
    train, evaluate = [], []
    for path in paths:
        slug = path.stem.removeprefix("manifest") if several else ""
        train.append(["lexiseg", "train", "--masks", str(path), "--out", f"student{slug}"])
        evaluate.append(
            ["lexiseg", "evaluate", "--pred", str(found.results), "--manifest", str(path), "--out", f"report{slug}"]
        )
    return {
        "manifests": [str(path) for path in paths],
        "train": [shlex.join(words) for words in train],
        "evaluate": [shlex.join(words) for words in evaluate],
        "left_out": left_out,
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
    scan = told_of(server, entry)
    with entry.lock:
        notes = found.notes(item, server.scans.session(entry).scan)
    return {"item": told, "scan": {**scan, "notes": [*notes, *scan["notes"]]}}


def _entry(server: Server, visitor: str, item: RunItem) -> Entry:
    """The visitor's session of a scan of the list; a new one has what the run found, or a person left.

    A session of another run, of other files, or of before a verdict that somebody else gave is closed.
    """
    found = server.worklist
    assert found is not None
    run, seen = found.run_of(item), found.seen_of(item)
    with server.opening:
        _close_judged(server, visitor, found, item)
        for entry in _own(server, visitor, item):
            if (entry.source.run, entry.source.seen) == (run, seen):
                return entry
            server.scans.remove(visitor, entry.id)
        folder = server.scans.place(visitor, limited=False)
        try:
            source = Source(name=item.id, origin=item.id, preset=server.models.default, run=run, seen=seen)
            scan = server.read(source, folder)
            return server.scans.add(visitor, source, folder, scan, fill=lambda session: found.fill(session, item, scan))
        except LexisegError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _looked_at(server: Server, visitor: str, found: Worklist, item: RunItem, scan: str | None) -> Entry:
    """The session that a verdict is of; what it shows must be what was looked at."""
    entries = [entry for entry in _own(server, visitor, item) if scan in (None, entry.id)]
    if not entries:
        raise Refused(409, "this scan is not open, or was opened anew since; open it in the worklist first")
    entry = entries[-1]
    if (entry.source.run, entry.source.seen) != (found.run_of(item), found.seen_of(item)):
        raise Refused(409, "this scan has another answer or verdict than when you opened it; open it again first")
    return entry


def _own(server: Server, visitor: str, item: RunItem) -> list[Entry]:
    return [entry for entry in server.scans.all(visitor) if entry.source.origin == item.id]


def _close_judged(server: Server, visitor: str, found: Worklist, opened: RunItem) -> None:
    """Close a visitor's scans that have a verdict, but for the last one, which may still be in view.

    What was skipped stays: its corrections are kept nowhere else.
    """
    judged = [
        entry
        for entry in server.scans.all(visitor)
        if (item := found.of(entry.source.origin)) is not None
        and (said := found.review.verdict(item)) is not None
        and said.review != "skipped"
        and item.id != opened.id
    ]
    for entry in sorted(judged, key=lambda each: each.used)[:-1]:
        server.scans.remove(visitor, entry.id)


@contextmanager
def _freed_on_error(found: Worklist, item: RunItem, visitor: str) -> Iterator[None]:
    """What could not be opened is free for others."""
    try:
        yield
    except LexisegError:
        found.leases.free(item.id, visitor)
        raise
