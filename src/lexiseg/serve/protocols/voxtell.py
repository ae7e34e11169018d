"""VoxTell's jobs, as its napari plug-in speaks them: a volume up, free-text prompts, masks in RAS back.

Written from the requests that its client makes (napari-voxtell 0.2.0, napari_voxtell/remote). Arrays travel as it
frames them, compressed by blosc2 (the extra `lexiseg[voxtell]`).
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lexiseg.errors import UnreadableScan
from lexiseg.serve.app import Server, server_of
from lexiseg.serve.jobs import Job
from lexiseg.serve.problems import Refused, not_found
from lexiseg.serve.protocols import Protocol
from lexiseg.serve.protocols.desk import Desk
from lexiseg.values.scans import Scan, Volume

if TYPE_CHECKING:
    from lexiseg.values.arrays import BoolArray

router = APIRouter(tags=["VoxTell"])
_DESK = Desk("voxtell")
_MAGIC = b"VXA2"
_CHUNK = 2**30
_BYTES = "application/octet-stream"
_PAUSE = 0.2


class JobRequest(BaseModel):
    """Prompts for a volume."""

    image_id: Annotated[str, Field(max_length=64)]
    prompts: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=255)]
    keep_largest: bool = False


@router.get("/capabilities")
def capabilities(request: Request) -> dict[str, Any]:
    """What answers; every prompt is embedded when it is asked."""
    from lexiseg.text.phrases import default_library

    names = [target.name for target in default_library().targets]
    return {"model": f"lexiseg {server_of(request).models.default}", "patch_size": [], "available_embeddings": names}


@router.post("/images")
async def send(request: Request, include_image: bool = True) -> Response:
    """A .nii.gz; its id, spacing and shape in the header X-Meta, and the volume in RAS where it is wanted."""
    server, content = server_of(request), await request.body()
    return await run_in_threadpool(_taken, server, content, include_image)


@router.post("/jobs")
def start(request: Request, wanted: JobRequest) -> dict[str, str]:
    """Ask for prompts."""
    server = server_of(request)
    scan = _volume(server, wanted.image_id)

    masks: list[BoolArray] = []

    def work(tell: Callable[[float], None]) -> dict[str, Any] | None:
        """The next prompt; others' jobs go between two of them."""
        number, count = len(masks), len(wanted.prompts)
        mask = _DESK.find(server, scan, wanted.prompts[number : number + 1], tell=_share(tell, number, count))[0].mask
        masks.append(_largest(mask) if wanted.keep_largest else mask)
        return {"masks": masks} if len(masks) == count else None

    job = Job(_DESK.visitor, work, "VoxTell's prompts")
    job.about = {"image": wanted.image_id, "count": len(wanted.prompts)}
    return {"job_id": server.jobs.submit(job).id}


@router.get("/jobs/{id}/events")
async def events(request: Request, id: str) -> StreamingResponse:
    """How far a job is, a JSON object a line; the last one has its status."""
    return StreamingResponse(_told(_job(server_of(request), id)), media_type="application/x-ndjson")


@router.get("/jobs/{id}/result")
def result(request: Request, id: str) -> Response:
    """The masks, uint8 (prompts, z, y, x), in RAS."""
    server = server_of(request)
    job = _job(server, id)
    if job.state != "done":
        raise Refused(409, job.error or f"the job is {job.state}; its result comes when it is done")
    scan = _volume(server, job.about["image"])
    return Response(packed(np.stack([_to_ras(mask, scan).astype(np.uint8) for mask in job.result["masks"]])),
                    media_type=_BYTES)  # fmt: skip


@router.post("/jobs/{id}/cancel")
def cancel(request: Request, id: str) -> dict[str, str]:
    """Stop a job."""
    job = _job(server_of(request), id)
    job.cancel()
    return {"status": job.state}


@router.post("/images/{id}/export")
async def export(request: Request, id: str) -> Response:
    """A label map in RAS as .nii.gz on the volume's own voxels."""
    server, content = server_of(request), await request.body()
    return await run_in_threadpool(_exported, server, id, content)


def packed(array: NDArray[Any]) -> bytes:
    """An array as VoxTell frames it: magic, dtype, shape, length, then compressed chunks.

    Raises:
        Refused: blosc2 is not installed.
    """
    blosc2 = _blosc2()
    raw, kind = np.ascontiguousarray(array).tobytes(), array.dtype.str.encode()
    parts = [
        _MAGIC,
        bytes([len(kind)]),
        kind,
        bytes([array.ndim]),
        *(_long(side) for side in array.shape),
        _long(len(raw)),
    ]
    for at in range(0, len(raw), _CHUNK):
        chunk = raw[at : at + _CHUNK]
        small = blosc2.compress(chunk, typesize=array.dtype.itemsize)
        parts += [_long(len(chunk)), _long(len(small)), small]
    return b"".join(parts)


def unpacked(content: bytes, most: int) -> NDArray[Any]:
    """The inverse of `packed`, of at most so many bytes.

    Raises:
        Refused: it is no such array, or larger.
    """
    blosc2 = _blosc2()
    file = io.BytesIO(content)

    def number() -> int:
        return int.from_bytes(file.read(8), "little")

    try:
        if file.read(4) != _MAGIC:
            raise ValueError
        kind = np.dtype(file.read(file.read(1)[0]).decode("ascii"))
        shape = tuple(number() for _ in range(file.read(1)[0]))
        length = number()
        if kind.kind not in "biuf" or length > most or length != int(np.prod(shape)) * kind.itemsize:
            raise ValueError
        raw = bytearray()
        while file.tell() < len(content):
            expected, size = number(), number()
            if len(raw) + expected > length:
                raise ValueError
            small = file.read(size)
            # The chunk's own header says how much it becomes: bytes 4 to 7 of blosc's format.
            if int.from_bytes(small[4:8], "little") != expected:
                raise ValueError
            raw += blosc2.decompress(small)
        return np.frombuffer(bytes(raw), kind).reshape(shape)
    except (ValueError, IndexError, TypeError, OverflowError, RuntimeError) as error:
        raise Refused(422, "the body is no array as VoxTell frames it, or too large") from error


def _taken(server: Server, content: bytes, include_image: bool) -> Response:
    entry = _DESK.take(server, io.BytesIO(content), "volume.nii.gz")
    scan = _DESK.scan(server, entry)
    if not isinstance(scan, Volume) or scan.geometry.time:
        server.scans.remove(_DESK.visitor, entry.id)
        raise UnreadableScan("it is no volume in space; expected one volume as .nii.gz")
    array = _to_ras(scan.values, scan)
    meta = {"image_id": entry.id, "spacing": _spacing(scan), "shape": list(array.shape)}
    body = packed(array) if include_image else b""
    return Response(body, media_type=_BYTES, headers={"X-Meta": json.dumps(meta)})


def _exported(server: Server, id: str, content: bytes) -> Response:
    from lexiseg.io.nifti import nifti_bytes

    scan = _volume(server, id)
    voxels = int(np.prod(scan.shape))
    labels = unpacked(content, most=8 * voxels)
    turned = _turn(scan)
    expected = _to_ras(np.zeros(scan.shape, np.bool_), scan).shape
    if labels.shape != expected:
        raise Refused(422, f"the labels have shape {labels.shape}, expected the volume's {expected}")
    import nibabel as nib

    back = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), turned)
    own = nib.orientations.apply_orientation(labels.T, back).T
    return Response(nifti_bytes(np.ascontiguousarray(own.astype(np.uint8)), scan), media_type="application/gzip")


def _volume(server: Server, id: str) -> Volume:
    scan: Scan = _DESK.scan(server, _DESK.get(server, id))
    assert isinstance(scan, Volume)
    return scan


def _turn(scan: Volume) -> Any:
    """The file's axes against RAS, as nibabel writes orientations."""
    import nibabel as nib

    return nib.io_orientation(scan.geometry.affine)


def _to_ras(array: NDArray[Any], scan: Volume) -> NDArray[Any]:
    """An array (D, H, W) on the file's voxels as (z, y, x) that grow to superior, anterior and right."""
    import nibabel as nib

    turned: NDArray[Any] = nib.orientations.apply_orientation(array.T, _turn(scan)).T
    return turned


def _spacing(scan: Volume) -> list[float]:
    """mm along z, y and x of RAS."""
    sizes = scan.spacing or (1.0, 1.0, 1.0)
    order = _turn(scan)[:, 0].astype(int)
    along = {int(world): sizes[2 - voxel] for voxel, world in enumerate(order)}
    return [along[2], along[1], along[0]]


def _largest(mask: BoolArray) -> BoolArray:
    from scipy import ndimage

    numbered, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    found: BoolArray = numbered == sizes.argmax()
    return found


def _share(tell: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    return lambda share: tell((number + share) / count)


async def _told(job: Job) -> AsyncGenerator[str, None]:
    count, last = job.about["count"], -1
    try:
        while not job.over:
            if (done := int(job.share * count)) != last:
                last = done
                yield json.dumps({"done": done, "total": count}) + "\n"
            await asyncio.sleep(_PAUSE)
        last_line = {"status": {"failed": "error"}.get(job.state, job.state), "done": count, "total": count}
        if job.error:
            last_line["message"] = job.error
        yield json.dumps(last_line) + "\n"
    finally:
        if not job.over:
            job.cancel()


def _job(server: Server, id: str) -> Job:
    found = server.jobs.get(id, _DESK.visitor)
    if found is None:
        raise not_found("job")
    return found


def _long(value: int) -> bytes:
    return int(value).to_bytes(8, "little")


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError as error:
        raise Refused(501, "VoxTell's arrays need blosc2: pip install 'lexiseg[voxtell]', then start again") from error
    return blosc2


PROTOCOL = Protocol("VoxTell", router, uploads=("/images",))
