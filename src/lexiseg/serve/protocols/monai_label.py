"""MONAI Label's protocol, as 3D Slicer's module speaks it: text and clicks, sessions, a datastore, the next sample.

Written from the requests that its client makes (monailabel 0.8.5, monailabel/client/client.py).
"""

from __future__ import annotations

import io
import json
import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from lexiseg.errors import UsageError
from lexiseg.serve.app import Server, server_of
from lexiseg.serve.problems import Refused, not_found
from lexiseg.serve.protocols import Protocol
from lexiseg.serve.protocols.desk import KEPT, Desk, in_plane, label_map, phrases_of, plain, volume_file, voxels_of
from lexiseg.serve.reading import FILES, label_of
from lexiseg.serve.scans import Entry
from lexiseg.values.scans import Scan
from lexiseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter(tags=["MONAI Label"])
_DESK = Desk("monai label")
_TEXT, _CLICKS = "lexiseg_text", "lexiseg_clicks"
_LIST = "list:"
_RESULTS = {".nrrd": "application/octet-stream", ".nii.gz": "application/gzip", ".nii": "application/octet-stream"}


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
        "datastore": _status(server),
    }


@router.put("/session/")
def open_session(request: Request, files: list[UploadFile]) -> dict[str, Any]:
    """Send a scan."""
    if len(files) != 1:
        raise Refused(422, f"{len(files)} files were sent; expected one, such as a NIfTI of the volume")
    entry = _DESK.take(server_of(request), files[0].file, files[0].filename or "scan")
    return {"session_id": entry.id, "session_info": _session(entry)}


@router.get("/session/{id}")
def session(request: Request, id: str) -> dict[str, Any]:
    """Whether a session is there still."""
    return _session(_DESK.get(server_of(request), id))


@router.delete("/session/{id}")
def end_session(request: Request, id: str) -> dict[str, Any]:
    """Close a session: its scan goes."""
    server = server_of(request)
    told = _session(_DESK.get(server, id))
    server.scans.remove(_DESK.visitor, id)
    return told


@router.put("/datastore/")
@router.put("/datastore/image")
def add_image(
    request: Request, file: UploadFile, image: str = "", params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    """Send a scan to stay under an id."""
    server = server_of(request)
    entry = _DESK.take(server, file.file, f"{label_of(image)}_{label_of(file.filename or '')}" if image else
                       file.filename or "scan")  # fmt: skip
    wanted = label_of(image) if image else entry.id
    with server.opening:
        known = _images(server).get(wanted, _LIST)
        if not known.startswith(_LIST):
            server.scans.remove(_DESK.visitor, known)
        _remember(server, wanted, entry.id)
    return {"image": wanted}


@router.get("/datastore/")
def datastore(request: Request, output: str = "") -> dict[str, Any]:
    """What is there: numbers, or with output=all every scan and its labels."""
    server = server_of(request)
    if output != "all":
        return _status(server)
    objects = {
        each: {"image": {"ext": "", "info": {}}, "labels": {tag: {"ext": path.name.partition(".")[2], "info": {}}
             for tag, path in _labels(server, each).items()}}
        for each in _images(server)
    }  # fmt: skip
    return {"name": "lexiseg", "description": "", "objects": objects}


@router.head("/datastore/image", include_in_schema=False)
@router.get("/datastore/image")
def image(request: Request, image: str) -> Response:
    """A scan's file."""
    server = server_of(request)
    path, name = _file(server, image)
    headers = {"content-disposition": f'attachment; filename="{plain(name)}"'}
    content = b"" if request.method == "HEAD" else path.read_bytes()
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.put("/datastore/label")
def save_label(
    request: Request, image: str, label: UploadFile, tag: str = "final", params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    """Keep a label that a person finished."""
    server = server_of(request)
    if image not in _images(server):
        raise not_found("image")
    if tag not in ("final", "original"):
        raise Refused(422, f"the tag is {tag[:40]!r}; expected final or original")
    end = next((each for each in _RESULTS if (label.filename or "").endswith(each)), "")
    if not end:
        raise Refused(422, "the label is no .nrrd, .nii or .nii.gz; save it as one of these")
    from lexiseg.files import atomic_write

    content = label.file.read()
    kept = atomic_write(_label_folder(server, image) / f"{tag}{end}", lambda file: file.write(content))
    # One of another ending goes only now: before that it is all there is.
    for old in kept.parent.glob(f"{tag}.*"):
        if old != kept:
            old.unlink(missing_ok=True)
    return {"image": image, "label": image}


@router.get("/datastore/label")
def saved_label(request: Request, label: str, tag: str = "final") -> Response:
    """A label that was kept."""
    found = _labels(server_of(request), label).get(tag)
    if found is None:
        raise not_found("label")
    headers = {"content-disposition": f'attachment; filename="{plain(label)}{found.name.removeprefix(tag)}"'}
    return Response(found.read_bytes(), media_type="application/octet-stream", headers=headers)


@router.post("/activelearning/{strategy}")
def next_sample(request: Request, strategy: str) -> dict[str, Any]:
    """The most doubtful scan of the worklist that nobody looks at."""
    server = server_of(request)
    if server.worklist is None:
        raise Refused(404, "there is no worklist; start lexiseg serve with --folder or --results")
    number = server.worklist.next(_DESK.visitor)
    if number is None:
        return {}
    item = server.worklist.item(number)
    sample = {"id": item.id, "name": item.path.name}
    # A program on this machine opens the file itself; others need not know where it lies.
    return {**sample, "path": str(item.path)} if server.settings.loopback else sample


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
    found = _DESK.work(server, lambda tell: ask(server, scan, given, tell), f"MONAI Label, {model}")
    labels, names, lost = label_map(found["masks"])
    told = {"label_names": names, "lost_voxels": lost, **found["told"]}
    if output == "json":
        return JSONResponse(told)
    end = str(given.get("result_extension", ".nrrd"))
    name, content = f"lexiseg_{secrets.token_hex(4)}{end}", volume_file(labels, scan, end)
    if output == "image":
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=_RESULTS[end], headers=headers)
    return _multipart(told, name, _RESULTS[end], content)


def _by_text(server: Server, scan: Scan, given: dict[str, Any], tell: Callable[[float], None]) -> dict[str, Any]:
    phrases = phrases_of(str(given.get("text", "")))
    preset = str(given.get("preset", "")) or None
    found = _DESK.find(server, scan, phrases, preset=preset, threshold=_threshold(given), tell=tell)
    told = {"presence": {each.phrase: _finite(each.presence) for each in found},
            "verdict": {each.phrase: each.verdict for each in found}}  # fmt: skip
    return {"masks": {each.phrase: each.mask for each in found}, "told": told}


def _by_clicks(server: Server, scan: Scan, given: dict[str, Any], tell: Callable[[float], None]) -> dict[str, Any]:
    """Points are voxels i, j, k; each is asked in the slice of acquisition that it lies in."""
    tell(0.0)
    name = str(given.get("label") or "target")[:200]
    session = _DESK.blank(server, scan)
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
    if end not in _RESULTS:
        raise UsageError(f"result_extension is {str(end)[:20]!r}; expected {', '.join(_RESULTS)}")
    return given


def _scan(server: Server, id: str, file: UploadFile | None) -> Scan:
    if file is not None and file.filename:
        entry = _DESK.take(server, file.file, file.filename)
        try:
            return _DESK.scan(server, entry)
        finally:
            server.scans.remove(_DESK.visitor, entry.id)
    known = _images(server).get(id, id)
    if known.startswith(_LIST) and server.worklist is not None:
        item = server.worklist.of(known.removeprefix(_LIST))
        if item is not None:
            from lexiseg.io.sources import read_source

            return read_source(item.source, id=item.id)
    return _DESK.scan(server, _DESK.get(server, known))


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


def _images(server: Server) -> dict[str, str]:
    """Ids of scans: those that were sent, and those of the worklist."""
    sent = {_named(server, entry): entry.id for entry in server.scans.all(_DESK.visitor)}
    listed = {} if server.worklist is None else {item.id: f"{_LIST}{item.id}" for item in server.worklist.items}
    return {**listed, **sent}


def _named(server: Server, entry: Entry) -> str:
    path = entry.folder / KEPT
    return path.read_text("utf-8") if path.is_file() else entry.id


def _remember(server: Server, image: str, id: str) -> None:
    from lexiseg.files import atomic_write

    entry = _DESK.get(server, id)
    atomic_write(entry.folder / KEPT, lambda file: file.write(image.encode()))


def _file(server: Server, image: str) -> tuple[Path, str]:
    known = _images(server).get(image)
    if known is None:
        raise not_found("image")
    if known.startswith(_LIST):
        assert server.worklist is not None
        item = server.worklist.of(image)
        if item is None or item.error:
            raise not_found("image")
        if not item.path.is_file():
            raise Refused(404, "the scan is a series of files; open it from disk, or take another")
        return item.path, item.path.name
    entry = _DESK.get(server, known)
    return entry.folder / FILES / entry.source.files[0], entry.source.name


def _label_folder(server: Server, image: str) -> Path:
    import hashlib

    digest = hashlib.sha256(image.encode()).hexdigest()[:32]
    return server.state.visitor(_DESK.visitor) / "labels" / digest


def _labels(server: Server, image: str) -> dict[str, Path]:
    folder = _label_folder(server, image)
    return {path.name.partition(".")[0]: path for path in sorted(folder.glob("*"))} if folder.is_dir() else {}


def _status(server: Server) -> dict[str, Any]:
    images = _images(server)
    tags: dict[str, int] = {}
    for image in images:
        for tag in _labels(server, image):
            tags[tag] = tags.get(tag, 0) + 1
    return {"total": len(images), "completed": tags.get("final", 0), "label_tags": tags, "train": []}


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
