"""About the server, and its jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from importlib import util
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from lexiseg.serve import phantoms
from lexiseg.serve.app import server_of, visitor_of
from lexiseg.serve.exports import formats
from lexiseg.serve.jobs import Job
from lexiseg.serve.problems import not_found
from lexiseg.values.window import NAMED_WINDOWS
from lexiseg.version import __version__

router = APIRouter(tags=["server"])
_ALIVE = 15.0
"""Seconds after which a line is sent to a listener, so that a closed connection is noticed."""


@router.get("/about")
def about(request: Request) -> dict[str, Any]:
    """What the server can do: presets, phrases that its models know, phantoms, windows, limits, formats."""
    from lexiseg.text.phrases import default_library

    server = server_of(request)
    limits = server.settings.limits
    return {
        "version": __version__,
        "preset": server.models.default,
        "presets": [{"name": name, "about": each.about} for name, each in server.models.presets.items()],
        "ready": server.models.ready,
        "targets": [
            {"phrase": target.name, "modality": _modality(target.templates), "kinds": list(target.variants)}
            for target in default_library().targets
        ],
        "phantoms": phantoms.listed(),
        "windows": {name: list(values) for name, values in NAMED_WINDOWS.items()},
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels, "voxels": limits.voxels, "files": limits.files,
                   "phrase": limits.phrase},
        "formats": list(formats()),
        "propagate": True,
        "view3d": util.find_spec("ipyniivue") is not None,
        "folder": server.worklist is not None,
    }  # fmt: skip


@router.get("/jobs/{job}")
def job_now(request: Request, job: str) -> dict[str, Any]:
    """How far a job is."""
    return _job(request, job).as_dict()


@router.delete("/jobs/{job}")
def cancel(request: Request, job: str) -> dict[str, Any]:
    """Cancel a job."""
    found = _job(request, job)
    found.cancel()
    return found.as_dict()


@router.get("/jobs/{job}/events")
async def events(request: Request, job: str) -> StreamingResponse:
    """How far a job is, told whenever it changes (server-sent events); closing the stream cancels the job."""
    found = _job(request, job)
    return StreamingResponse(told_while_it_runs(found), media_type="text/event-stream")


async def told_while_it_runs(job: Job) -> AsyncGenerator[str, None]:
    """Server-sent events of a job until it is over; a stream that is closed before cancels it."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    forget = job.listen(wake)
    try:
        while True:
            changed.clear()
            over = job.over
            yield f"data: {json.dumps(job.as_dict())}\n\n"
            if over:
                return
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), _ALIVE)
                except TimeoutError:
                    yield ": still at it\n\n"
    finally:
        forget()
        if not job.over:
            job.cancel()


def _job(request: Request, id: str) -> Job:
    found = server_of(request).jobs.get(id, visitor_of(request))
    if found is None:
        raise not_found("job")
    return found


def _modality(templates: tuple[str, ...]) -> str:
    """What a target's wordings say it is seen in."""
    text = " ".join(templates).lower()
    for word in ("ultrasound", "x-ray", "mri", "ct"):
        if word in text.replace("radiograph", "x-ray").split() or f" {word}" in text:
            return {"x-ray": "X-ray", "mri": "MRI", "ct": "CT"}.get(word, word)
    return ""
