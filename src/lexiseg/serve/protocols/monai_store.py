"""MONAI Label's datastore: scans and labels that are there for everybody, and the next sample of the worklist."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import Response

from lexiseg.datasets.label_maps import laid_over
from lexiseg.errors import UnreadableScan
from lexiseg.serve.app import Server, server_of
from lexiseg.serve.problems import Refused, not_found
from lexiseg.serve.protocols.desk import KEPT, Desk
from lexiseg.serve.reading import FILES, label_of
from lexiseg.serve.routes_scans import attachment
from lexiseg.values.scans import Scan, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lexiseg.values.arrays import BoolArray

router = APIRouter(tags=["MONAI Label"])
DESK = Desk("monai label")
LIST = "list:"
"""What the known places of the worklist's scans begin with."""
RESULTS = {".nrrd": "application/octet-stream", ".nii.gz": "application/gzip", ".nii": "application/octet-stream"}
"""Ends of label files, and their media types."""


@router.put("/datastore/")
@router.put("/datastore/image")
def add_image(
    request: Request, file: UploadFile, image: str = "", params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    """Send a scan to stay under an id."""
    server = server_of(request)
    entry = DESK.take(server, file.file, f"{label_of(image)}_{label_of(file.filename or '')}" if image else
                       file.filename or "scan")  # fmt: skip
    wanted = label_of(image) if image else entry.id
    with server.opening:
        known = images_of(server).get(wanted, "")
        if known.startswith(LIST):
            server.scans.remove(DESK.visitor, entry.id)
            raise Refused(409, f"{wanted!r} is a scan of the worklist; send this one under another id")
        if known:
            server.scans.remove(DESK.visitor, known)
        _remember(server, wanted, entry.id)
    return {"image": wanted}


@router.get("/datastore/")
def datastore(request: Request, output: str = "") -> dict[str, Any]:
    """What is there: numbers, or with output=all every scan and its labels."""
    server = server_of(request)
    if output != "all":
        return status_of(server)
    objects = {
        each: {"image": {"ext": "", "info": {}}, "labels": {tag: {"ext": path.name.partition(".")[2], "info": {}}
             for tag, path in _labels(server, each).items()}}
        for each in images_of(server)
    }  # fmt: skip
    return {"name": "lexiseg", "description": "", "objects": objects}


@router.head("/datastore/image", include_in_schema=False)
@router.get("/datastore/image")
def image(request: Request, image: str) -> Response:
    """A scan's file."""
    server = server_of(request)
    path, name = _file(server, image)
    headers = {"content-disposition": attachment(name)}
    content = b"" if request.method == "HEAD" else path.read_bytes()
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.put("/datastore/label")
def save_label(
    request: Request, image: str, label: UploadFile, tag: str = "final", params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    """Keep a label that a person finished; one that is final of a scan of the worklist is a verdict on it, too."""
    server = server_of(request)
    known = images_of(server).get(image)
    if known is None:
        raise not_found("image")
    if tag not in ("final", "original"):
        raise Refused(422, f"the tag is {tag[:40]!r}; expected final or original")
    end = next((each for each in RESULTS if (label.filename or "").endswith(each)), "")
    if not end:
        raise Refused(422, "the label is no .nrrd, .nii or .nii.gz; save it as one of these")
    from lexiseg.files import atomic_write

    content, notes = label.file.read(), ""
    if known.startswith(LIST) and tag == "final":
        notes = _review(server, image, content, end, params)
    kept = atomic_write(_label_folder(server, image) / f"{tag}{end}", lambda file: file.write(content))
    # One of another ending goes only now: before that it is all there is.
    for old in kept.parent.glob(f"{tag}.*"):
        if old != kept:
            old.unlink(missing_ok=True)
    return {"image": image, "label": image} | ({"notes": notes} if notes else {})


@router.get("/datastore/label")
def saved_label(request: Request, label: str, tag: str = "final") -> Response:
    """A label that was kept."""
    found = _labels(server_of(request), label).get(tag)
    if found is None:
        raise not_found("label")
    headers = {"content-disposition": attachment(f"{label}{found.name.removeprefix(tag)}")}
    return Response(found.read_bytes(), media_type="application/octet-stream", headers=headers)


@router.post("/activelearning/{strategy}")
def next_sample(request: Request, strategy: str) -> dict[str, Any]:
    """The most doubtful scan of the worklist that nobody looks at, and that was not given out within ten minutes."""
    server = server_of(request)
    if server.worklist is None:
        raise Refused(404, "there is no worklist; start lexiseg serve with --folder or --results")
    # All programs share the desk, so what it holds is somebody's.
    number = server.worklist.next(DESK.visitor, another=True)
    if number is None:
        return {}
    item = server.worklist.item(number)
    sample = {"id": item.id, "name": item.path.name}
    # A program on this machine opens the file itself; others need not know where it lies.
    return {**sample, "path": str(item.path.resolve())} if server.settings.loopback else sample


def images_of(server: Server) -> dict[str, str]:
    """Ids of scans that are there for everybody: those sent to stay, and those of the worklist; not a session's."""
    sent = {
        (entry.folder / KEPT).read_text("utf-8"): entry.id
        for entry in server.scans.all(DESK.visitor)
        if (entry.folder / KEPT).is_file()
    }
    listed = {} if server.worklist is None else {item.id: f"{LIST}{item.id}" for item in server.worklist.items}
    return {**listed, **sent}


def _remember(server: Server, image: str, id: str) -> None:
    from lexiseg.files import atomic_write

    entry = DESK.get(server, id)
    atomic_write(entry.folder / KEPT, lambda file: file.write(image.encode()))


def _file(server: Server, image: str) -> tuple[Path, str]:
    known = images_of(server).get(image)
    if known is None:
        raise not_found("image")
    if known.startswith(LIST):
        assert server.worklist is not None
        item = server.worklist.of(image)
        if item is None or item.error:
            raise not_found("image")
        if not item.path.is_file():
            raise Refused(404, "the scan is a series of files; open it from disk, or take another")
        return item.path, item.path.name
    entry = DESK.get(server, known)
    return entry.folder / FILES / entry.source.files[0], entry.source.name


def _label_folder(server: Server, image: str) -> Path:
    import hashlib

    digest = hashlib.sha256(image.encode()).hexdigest()[:32]
    return server.state.visitor(DESK.visitor) / "labels" / digest


def _labels(server: Server, image: str) -> dict[str, Path]:
    folder = _label_folder(server, image)
    return {path.name.partition(".")[0]: path for path in sorted(folder.glob("*"))} if folder.is_dir() else {}


def status_of(server: Server) -> dict[str, Any]:
    images = images_of(server)
    tags: dict[str, int] = {}
    for image in images:
        for tag in _labels(server, image):
            tags[tag] = tags.get(tag, 0) + 1
    return {"total": len(images), "completed": tags.get("final", 0), "label_tags": tags, "train": []}


def _review(server: Server, image: str, content: bytes, end: str, params: str) -> str:
    """Take a label as the verdict on a scan of the worklist: its masks go where those of the page go.

    Returns:
        What was kept of the phrases' masks that the label does not show, or could not be; "" for nothing.
    """
    from lexiseg.io.sources import read_source
    from lexiseg.runs.masks import stored_mask

    found = server.worklist
    item = None if found is None else found.of(image)
    if found is None or item is None or item.error:
        raise not_found("image")
    scan = read_source(item.source, id=item.id)
    server.state.temporary.mkdir(exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=server.state.temporary) as folder:
        path = Path(folder) / f"label{end}"
        path.write_bytes(content)
        masks = masks_of(_labels_on(path, scan), item.phrases, _names(params))
    notes: list[str] = []
    if len(item.phrases) > 1:
        written = {each: stored_mask(found.results, item.name, item.phrases, each, scan) for each in item.phrases}
        masks, notes = with_hidden(masks, written)
    found.leases.hold(item.id, DESK.visitor)
    try:
        found.keep(item, masks, scan)
    finally:
        found.leases.free(item.id, DESK.visitor)
    return "; ".join(notes)


def masks_of(labels: NDArray[Any], phrases: tuple[str, ...], names: dict[int, str]) -> dict[str, BoolArray]:
    """Each phrase's mask in a label map.

    Args:
        labels: 0 is background.
        phrases: of the scan.
        names: what the program calls each label; {} where it does not say. Of one phrase a single label needs none.

    Raises:
        Refused: a label is none of the phrases', or nobody can tell whose it is.
    """
    values = np.unique(labels)
    if not np.array_equal(values, np.abs(np.rint(values))):
        raise Refused(422, "the label holds values that are no whole numbers from 0 on; save it as a label map")
    held = [int(value) for value in values if value]
    asked = ", ".join(map(repr, phrases))
    if not names and len(phrases) == 1 and len(held) <= 1:
        return {phrases[0]: labels > 0}
    by_name = {_same(phrase): phrase for phrase in phrases}
    others = [str(names.get(value, value)) for value in held if _same(names.get(value, "")) not in by_name]
    if others:
        raise Refused(
            422, f"the label holds {', '.join(others)[:200]}; expected segments named as the phrases: {asked}"
        )
    masks: dict[str, BoolArray] = {phrase: np.zeros(labels.shape, np.bool_) for phrase in phrases}
    for value in held:
        masks[by_name[_same(names[value])]] |= labels == value
    return masks


def with_hidden(
    masks: Mapping[str, BoolArray], written: Mapping[str, BoolArray | None]
) -> tuple[dict[str, BoolArray], list[str]]:
    """Masks of a label map with what it cannot show of them: what lies beneath another phrase's.

    A label map has one phrase a voxel. So a brain comes back without its tumor, although nobody took it away. What the
    run's mask holds beneath another phrase is put back where the label is as it was sent, and where most of the other
    phrase lies within that mask. Else the voxel was given from one phrase to the other, as between two lungs.

    Args:
        masks: of the label map, by phrase; they do not overlap.
        written: the run's masks of the same phrases; None where there is none.

    Returns:
        The masks, and a line for each phrase that anything was put back of, or that nothing is known of.
    """
    whole = {phrase: np.zeros_like(masks[phrase]) if mask is None else mask for phrase, mask in written.items()}
    sent = laid_over(list(whole.values()))
    found = dict(masks)
    notes = [
        f"the run has no mask of {phrase!r}, so nothing beneath others is kept of it"
        for phrase, mask in written.items()
        if mask is None
    ]
    for phrase, mask in whole.items():
        for number, other in enumerate(whole, start=1):
            over = masks[other]
            hidden = mask & over
            if other == phrase or not hidden.any():
                continue
            if 2 * hidden.sum() < over.sum():
                hidden &= sent == number
            if count := int(hidden.sum()):
                found[phrase] = found[phrase] | hidden
                notes.append(f"{phrase!r} keeps {count} of the run's pixels or voxels beneath {other!r}")
    return found, notes


def _same(name: str) -> str:
    return " ".join(name.split()).casefold()


def _labels_on(path: Path, scan: Scan) -> NDArray[Any]:
    """A label file's values on a scan's own voxels."""
    from lexiseg.io.mask_grids import turn_onto
    from lexiseg.io.masks import read_stored

    try:
        stored = read_stored(path)
        if isinstance(scan, Volume) and stored.geometry is not None:
            return np.ascontiguousarray(turn_onto(stored.geometry, scan.geometry).apply(stored.values))
        # An image is a volume of one slice in such files.
        values = stored.values[0] if stored.values.shape == (1, *scan.shape) else stored.values
        if values.shape != scan.shape:
            raise UnreadableScan(f"its shape is {values.shape}, its scan's is {scan.shape}; expected the same")
        return values
    except UnreadableScan as error:
        raise Refused(422, f"the label: {str(error).removeprefix(f'{path}: ')}") from error


def _names(params: str) -> dict[int, str]:
    """What Slicer calls its labels: "label_info" has a name and an idx of each segment."""
    try:
        given = json.loads(params or "{}")
        found = [(int(each["idx"]), str(each["name"])) for each in given.get("label_info") or []]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(422, "params is no JSON object whose label_info has a name and an idx each") from error
    names = dict(found)
    if len(names) < len(found):
        raise Refused(422, "label_info has one idx for several segments; give each segment an idx of its own")
    return names
