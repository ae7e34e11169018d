"""Targets: asked by words, corrected, taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from lexiseg.errors import UsageError
from lexiseg.serve.app import Server, server_of, visitor_of
from lexiseg.serve.jobs import Job
from lexiseg.serve.scans import Entry
from lexiseg.serve.schemas import AskRequest, EditRequest, LookRequest, Propagate, TargetRequest, ThresholdRequest

if TYPE_CHECKING:
    from lexiseg.session import Session
    from lexiseg.session.board import Step

router = APIRouter(tags=["targets"])
Place = tuple[str, int]
Touched = list[tuple[int, Place]] | None
"""Planes of targets that changed; None where any of them may have."""


@router.post("/scans/{scan}/ask", status_code=202)
def ask(request: Request, scan: str, asked: AskRequest) -> JSONResponse:
    """Look for a phrase; a job, whose result has the target."""
    from lexiseg.text.phrases import check_phrase

    server, visitor = server_of(request), visitor_of(request)
    entry = server.entry(visitor, scan)
    phrase = check_phrase(asked.phrase)
    preset = server.models.get(asked.preset)

    def work(tell: Callable[[float], None]) -> dict[str, Any]:
        from lexiseg.serve.describe import target_record

        tell(0.0)
        pipeline = preset.real()
        with entry.lock:
            session = server.scans.session(entry)
        # Without the lock: the scan can be looked at and corrected meanwhile.
        found = session.find(phrase, pipeline=pipeline, progress=tell)
        tell(1.0)
        with entry.lock:
            session = server.scans.session(entry)
            target = session.target(session.place(found, pipeline=pipeline))
            return {"target": target_record(session, target), "version": entry.version}

    job = server.jobs.submit(Job(visitor, work, f"looking for {phrase}"))
    return JSONResponse({"job": job.id}, 202)


@router.post("/scans/{scan}/targets", status_code=201)
def add(request: Request, scan: str, wanted: TargetRequest) -> dict[str, Any]:
    """Begin a target that nothing is drawn of."""
    return _with(request, scan, lambda session: session.target(session.add(wanted.name)).id)


@router.patch("/scans/{scan}/targets/{target}")
def change(request: Request, scan: str, target: int, look: LookRequest) -> dict[str, Any]:
    """Call or show a target in another way."""

    def work(session: Session) -> int:
        session.change(target, rename=look.name, colour=look.colour, visible=look.visible, locked=look.locked)
        return target

    return _with(request, scan, work)


@router.delete("/scans/{scan}/targets/{target}")
def remove(request: Request, scan: str, target: int) -> dict[str, Any]:
    """Take a target out; it can be undone."""

    def work(session: Session) -> None:
        session.remove(target)

    return _changed(request, scan, work)


@router.get("/scans/{scan}/targets/{target}/planes/{axis}/{plane}")
def plane_of_target(  # noqa: PLR0917  (the path's parts)
    request: Request,
    scan: str,
    target: int,
    axis: str,
    plane: int,
    layers: Annotated[str, Query(max_length=100, examples=["mask,saliency,region,prompts"])] = "mask,prompts",
) -> dict[str, Any]:
    """What is known of a target in a plane: mask, prompts, and on demand saliency and region."""
    from lexiseg.serve.describe import mask_record, prompts_lists, saliency_record

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    wanted = set(layers.split(","))
    if wanted - {"mask", "saliency", "region", "prompts"}:
        raise UsageError(f"layers is {layers!r}; expected some of mask,saliency,region,prompts")
    with entry.lock:
        session = server.scans.session(entry)
        server.ahead.look(visitor_of(request), session, *session.views.place(axis, plane))
        told: dict[str, Any] = {"version": entry.version}
        if "mask" in wanted:
            told["mask"] = mask_record(session.plane_mask(target, plane, axis))
        if "prompts" in wanted:
            told |= prompts_lists(session.prompts(target, plane, axis))
            told["candidates"] = 3 if session.target(target).asked.get((axis, plane)) else 0
        if wanted & {"saliency", "region"}:
            evidence = session.evidence(target, plane, axis=axis, pipeline=server.models.get(_preset(session, target)))
            told["saliency"] = None if evidence is None else saliency_record(evidence[0])
            told["region"] = None if evidence is None else mask_record(evidence[1])
        return told


@router.get("/scans/{scan}/targets/{target}/candidates")
def candidates(request: Request, scan: str, target: int, axis: str, plane: int) -> dict[str, Any]:
    """What the plane's mask may be instead, best rated first."""
    from lexiseg.serve.describe import mask_record

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock, server.clicks:
        session = server.scans.session(entry)
        offered = session.candidates(target, plane, axis=axis)
        return {"version": entry.version, "masks": [mask_record(mask) for mask in offered]}


@router.post("/scans/{scan}/targets/{target}/edits", response_model=None)
def edit(request: Request, scan: str, target: int, change: EditRequest) -> dict[str, Any] | JSONResponse:
    """Correct a target in a plane."""
    if change.kind == "propagate":
        return _propagated(request, scan, target, change)

    def work(session: Session) -> Touched:
        where: dict[str, Any] = {"axis": change.axis}
        at = (target, change.plane)
        if change.kind == "click":
            session.click(*at, change.x, change.y, inside=change.inside, **where)
        elif change.kind == "box":
            session.box(*at, change.box, **where)
        elif change.kind == "scribble":
            session.scribble(*at, np.array(change.points, np.float32), inside=change.inside, **where)
        elif change.kind == "paint":
            session.stroke(*at, np.array(change.points, np.float32), change.radius, erase=change.erase, **where)
        elif change.kind == "fill":
            session.fill(*at, **where)
        elif change.kind == "keep":
            session.keep(*at, change.x, change.y, **where)
        elif change.kind == "choose":
            session.choose(*at, change.candidate, **where)
        else:
            session.clear(*at, **where)
        return [(target, session.views.place(change.axis, change.plane))]

    return _changed(request, scan, work, model=change.kind in ("click", "box", "scribble", "choose"))


@router.post("/scans/{scan}/undo")
def undo(request: Request, scan: str) -> dict[str, Any]:
    """Take the last change back; nothing changes where there is none."""
    return _changed(request, scan, lambda session: _turned(session, session.last, session.undo))


@router.post("/scans/{scan}/redo")
def redo(request: Request, scan: str) -> dict[str, Any]:
    """Do what was taken back again."""
    return _changed(request, scan, lambda session: _turned(session, session.next, session.redo))


@router.put("/scans/{scan}/threshold")
def threshold(request: Request, scan: str, wanted: ThresholdRequest) -> dict[str, Any]:
    """Move the presence below which what was found is hidden; no model is asked."""

    def work(session: Session) -> None:
        session.threshold = wanted.value

    return _changed(request, scan, work)


def _propagated(request: Request, scan: str, target: int, change: Propagate) -> JSONResponse:
    server, visitor = server_of(request), visitor_of(request)
    entry = server.entry(visitor, scan)
    with entry.lock:
        session = server.scans.session(entry)
        axis, plane = session.views.place(change.axis, change.plane)
        session.editable(target)

    def work(tell: Callable[[float], None]) -> dict[str, Any]:
        began = time.perf_counter()
        tell(0.0)
        with entry.lock:
            since = session.mask(target)
        masks = session.carry(target, plane, axis=axis)
        tell(1.0)
        with entry.lock:
            now = server.scans.session(entry)
            taken, kept = now.settle(target, plane, masks, axis=axis, since=since)
            return {**_told(server, entry, now, [(target, (axis, index)) for index in taken], began), "kept": kept}

    job = server.jobs.submit(Job(visitor, work, "carrying the mask to its neighbours"))
    return JSONResponse({"job": job.id}, 202)


def _with(request: Request, scan: str, work: Callable[[Session], int]) -> dict[str, Any]:
    from lexiseg.serve.describe import target_record

    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock:
        session = server.scans.session(entry)
        told = target_record(session, session.target(work(session)))
        return {**told, "version": entry.version}


def _changed(
    request: Request,
    scan: str,
    work: Callable[[Session], Touched],
    *,
    model: bool = False,
) -> dict[str, Any]:
    """Do a change, and tell what it changed: planes of a target, as `work` returns them, or everything."""
    began = time.perf_counter()
    server = server_of(request)
    entry = server.entry(visitor_of(request), scan)
    with entry.lock:
        session = server.scans.session(entry)
        with server.clicks if model else nullcontext():
            touched = work(session)
        return _told(server, entry, session, touched, began)


def _told(server: Server, entry: Entry, session: Session, touched: Touched, began: float) -> dict[str, Any]:
    from lexiseg.serve.describe import mask_record, target_record

    known = {target.id: target for target in session.all_targets()}
    changed = {
        f"{axis}/{plane}": mask_record(session.plane_mask(number, plane, axis))
        for number, (axis, plane) in touched or ()
        if number in known
    }
    one = known.get(touched[0][0]) if touched else None
    return {
        "version": entry.version,
        "changed": changed,
        "everything": touched is None,
        "target": None if one is None else target_record(session, one),
        "targets": [target_record(session, target) for target in known.values()],
        "threshold": session.threshold,
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
        "ms": round(1000 * (time.perf_counter() - began), 1),
    }


def _turned(session: Session, step: Step | None, turn: Callable[[], bool]) -> Touched:
    """Take a step back, or do it again."""
    from lexiseg.session.target import Edit

    if not isinstance(step, Edit):
        turn()
        return [] if step is None else None
    hidden = session.below(step.target)
    turn()
    # Presence hides what was found and not edited: the first edit's coming and going may show or hide all of it.
    if step.cleared or hidden != session.below(step.target):
        return None
    return [(step.target, place) for place in step.places]


def _preset(session: Session, target: int) -> str | None:
    found = session.target(target).origin.found
    return None if found is None else found.preset
