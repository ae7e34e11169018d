"""MONAI Label's protocol, as 3D Slicer's module speaks it: text and clicks, and sessions; see `monai_store` too.

Written from the requests that its client makes (monailabel 0.8.5, monailabel/client/client.py).
"""

from __future__ import annotations

import io
import json
import math
import secrets
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from lexiseg.errors import UsageError
from lexiseg.serve.app import Server, server_of
from lexiseg.serve.problems import Refused
from lexiseg.serve.protocols import Protocol, monai_store
from lexiseg.serve.protocols.desk import in_plane, label_map, phrases_of, volume_file, voxels_of
from lexiseg.serve.protocols.monai_store import DESK, LIST, RESULTS, images_of, status_of
from lexiseg.serve.scans import Entry
from lexiseg.values.scans import Scan
from lexiseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter(tags=["MONAI Label"])
router.include_router(monai_store.router)
_TEXT, _CLICKS = "lexiseg_text", "lexiseg_clicks"


@router.get("/auth/")
def auth(request: Request) -> dict[str, bool]:
    """Whether a token must be shown."""
    return {"enabled": request.app.state.token is not None}


@router.post("/auth/token")
def token(request: Request, password: Annotated[str, Form(max_length=200)]) -> dict[str, str]:
    """The launch's token as a password, whatever the user's name; what is wrong is refused by the next request."""
    return {"access_token": password, "token_type": "Bearer"}


@router.get("/auth/token/valid")
def valid() -> dict[str, bool]:
    """Whoever reaches this has shown it."""
    return {"valid": True}


@router.get("/info/")
def info(request: Request) -> dict[str, Any]:
    """Models and data; strings in a model's config become cells that the user edits, and come back in params."""
    from lexiseg.text.phrases import default_library

    server = server_of(request)
    labels = [target.name for target in default_library().targets]
    text = {"text": labels[0], "threshold": "", "preset": server.models.default}
    models = {
        _TEXT: {
            "type": "segmentation",
            "labels": labels,
            "dimension": 3,
            "description": "What the phrase in the option text names; several with ; between",
            "config": text,
        },
        _CLICKS: {
            "type": "deepgrow",
            "labels": [],
            "dimension": 3,
            "description": "What clicks mean, slice by slice; option propagate carries it to the neighbours",
            "config": {"propagate": "false"},
        },
    }
    strategies = {"doubt": {"description": "Doubtful scans of the worklist first"}} if server.worklist else {}
    return {
        "name": "lexiseg",
        "description": "Say what to segment; correct it with clicks",
        "version": __version__,
        "labels": labels,
        "models": models,
        "trainers": {},
        "strategies": strategies,
        "scoring": {},
        "train_stats": {},
        "datastore": status_of(server),
    }


@router.put("/session/")
def open_session(request: Request, files: list[UploadFile]) -> dict[str, Any]:
    """Send a scan."""
    if len(files) != 1:
        raise Refused(422, f"{len(files)} files were sent; expected one, such as a NIfTI of the volume")
    entry = DESK.take(server_of(request), files[0].file, files[0].filename or "scan")
    return {"session_id": entry.id, "session_info": _session(entry)}


@router.get("/session/{id}")
def session(request: Request, id: str) -> dict[str, Any]:
    """Whether a session is there still."""
    return _session(DESK.get(server_of(request), id))


@router.delete("/session/{id}")
def end_session(request: Request, id: str) -> dict[str, Any]:
    """Close a session: its scan goes."""
    server = server_of(request)
    told = _session(DESK.get(server, id))
    server.scans.remove(DESK.visitor, id)
    return told


@router.get("/train/")
def training() -> Response:
    """Nothing is trained here."""
    return JSONResponse({"error": "nothing is trained; lexiseg train does that"}, 404)


@router.post("/infer/{model}")
def infer(  # noqa: PLR0917  (the client's fields)
    request: Request,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form(max_length=2**20)] = "{}",
    file: UploadFile | None = None,
    label: UploadFile | None = None,
    output: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Segment by text or by clicks; the mask comes as NRRD beside its parameters.

    Where phrases overlap the smaller one is on top; "lost_voxels" says how many each phrase lost by that.
    """
    server = server_of(request)
    given = _params(params)
    if model not in (_TEXT, _CLICKS):
        raise Refused(404, f"there is no model {model[:60]!r}; expected {_TEXT} or {_CLICKS}")
    scan = _scan(server, session_id or image, file)
    ask = _by_text if model == _TEXT else _by_clicks
    found = DESK.work(server, lambda tell: ask(server, scan, given, tell), f"MONAI Label, {model}")
    labels, names, lost = label_map(found["masks"])
    told = {"label_names": names, "lost_voxels": lost, **found["told"]}
    if output == "json":
        return JSONResponse(told)
    end = str(given.get("result_extension", ".nrrd"))
    name, content = f"lexiseg_{secrets.token_hex(4)}{end}", volume_file(labels, scan, end)
    if output == "image":
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=RESULTS[end], headers=headers)
    return _multipart(told, name, RESULTS[end], content)


def _by_text(server: Server, scan: Scan, given: dict[str, Any], tell: Callable[[float], None]) -> dict[str, Any]:
    phrases = phrases_of(str(given.get("text", "")))
    preset = str(given.get("preset", "")) or None
    found = DESK.find(server, scan, phrases, preset=preset, threshold=_threshold(given), tell=tell)
    told = {"presence": {each.phrase: _finite(each.presence) for each in found},
            "verdict": {each.phrase: each.verdict for each in found}}  # fmt: skip
    return {"masks": {each.phrase: each.mask for each in found}, "told": told}


def _by_clicks(server: Server, scan: Scan, given: dict[str, Any], tell: Callable[[float], None]) -> dict[str, Any]:
    """Points are voxels i, j, k; each is asked in the slice of acquisition that it lies in."""
    tell(0.0)
    name = str(given.get("label") or "target")[:200]
    session = DESK.blank(server, scan)
    target = session.add(name if any(character.isalpha() for character in name) else f"target {name}")
    touched: dict[int, None] = {}
    for key, inside in (("foreground", True), ("background", False)):
        for point in voxels_of(given.get(key)):
            index, x, y = in_plane(session, point)
            session.click(target, index, x, y, inside=inside)
            touched[index] = None
    if str(given.get("propagate", "")).lower() in ("true", "1", "yes"):
        for index in [index for index in touched if session.plane_mask(target, index).any()][:1]:
            session.propagate(target, index)
    return {"masks": {name: session.mask(target)}, "told": {}}


def _threshold(given: dict[str, Any]) -> float | None:
    text = str(given.get("threshold", "")).strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"threshold is {text[:40]!r}; expected a number from 0 to 1") from error


def _params(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError("params is no JSON") from error
    if not isinstance(given, dict):
        raise UsageError("params is no JSON object")
    end = given.get("result_extension", ".nrrd")
    if end not in RESULTS:
        raise UsageError(f"result_extension is {str(end)[:20]!r}; expected {', '.join(RESULTS)}")
    return given


def _scan(server: Server, id: str, file: UploadFile | None) -> Scan:
    if file is not None and file.filename:
        entry = DESK.take(server, file.file, file.filename)
        try:
            return DESK.scan(server, entry)
        finally:
            server.scans.remove(DESK.visitor, entry.id)
    known = images_of(server).get(id, id)
    if known.startswith(LIST) and server.worklist is not None:
        item = server.worklist.of(known.removeprefix(LIST))
        if item is not None:
            from lexiseg.io.sources import read_source

            return read_source(item.source, id=item.id)
    return DESK.scan(server, DESK.get(server, known))


def _multipart(told: dict[str, Any], name: str, kind: str, content: bytes) -> Response:
    boundary = secrets.token_hex(16)
    body = io.BytesIO()
    for head, part in (
        ('form-data; name="params"\r\nContent-Type: application/json', json.dumps(told).encode()),
        (f'form-data; name="image"; filename="{name}"\r\nContent-Type: {kind}', content),
    ):
        body.write(f"--{boundary}\r\nContent-Disposition: {head}\r\n\r\n".encode() + part + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return Response(body.getvalue(), media_type=f"multipart/form-data; boundary={boundary}")


def _session(entry: Entry) -> dict[str, Any]:
    return {"name": entry.id, "image": entry.source.name, "expiry": 0}


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


PROTOCOL = Protocol(
    "MONAI Label",
    router,
    uploads=("/session/", "/datastore/", "/infer/"),
    open=("/auth/", "/auth/token"),
)
