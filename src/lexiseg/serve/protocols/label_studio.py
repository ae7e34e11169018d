"""Label Studio's ML backend: tasks with a picture's address in, brush masks as run lengths out."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable
from typing import Annotated, Any
from xml.etree import ElementTree

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from lexiseg.serve.app import Server, server_of
from lexiseg.serve.problems import Refused
from lexiseg.serve.protocols import Protocol
from lexiseg.serve.protocols.desk import Desk
from lexiseg.values.arrays import BoolArray
from lexiseg.version import __version__

router = APIRouter(tags=["Label Studio"])
_DESK = Desk("label studio")


class PredictRequest(BaseModel):
    """Tasks of a project."""

    tasks: Annotated[list[dict[str, Any]], Field(max_length=100)]
    label_config: Annotated[str, Field(max_length=2**18)] = ""
    project: str | int | None = None
    params: dict[str, Any] = {}


@router.post("/setup")
def setup() -> dict[str, str]:
    """Which version answers."""
    return {"model_version": f"lexiseg {__version__}"}


@router.post("/webhook", status_code=201)
def webhook() -> dict[str, Any]:
    """Nothing is learnt from events here."""
    return {"result": {}, "status": "ok"}


@router.post("/predict")
def predict(request: Request, wanted: PredictRequest) -> dict[str, Any]:
    """A mask of each label of the project's brush, for each task; never fewer results than tasks."""
    server = server_of(request)
    brush = _brush(wanted.label_config)
    return {"results": [_of_task(server, task, brush) for task in wanted.tasks]}


def _of_task(server: Server, task: dict[str, Any], brush: tuple[str, str, str, list[str]]) -> dict[str, Any]:
    name, to, key, labels = brush
    data = task.get("data")
    if not isinstance(data, dict):
        raise Refused(422, f"a task has no data; expected an object with its picture under {key!r}")
    entry = _DESK.take(server, io.BytesIO(_content(data.get(key))), "task")
    try:
        scan = _DESK.picture(server, entry)

        def work(tell: Callable[[float], None]) -> dict[str, Any]:
            return {"found": _DESK.find(server, scan, labels, tell=tell)}

        found = _DESK.work(server, work, "Label Studio")["found"]
    finally:
        server.scans.remove(_DESK.visitor, entry.id)
    height, width = scan.shape[-2:]
    result = [
        {
            "from_name": name,
            "to_name": to,
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_rle(each.mask), "brushlabels": [each.phrase]},
        }
        for each in found
        if each.mask.any()
    ]
    scores = [each.confidence for each in found if each.mask.any() and not math.isnan(each.confidence)]
    return {"result": result, "score": min(scores, default=0.0), "model_version": f"lexiseg {__version__}"}


def brush_rle(mask: BoolArray) -> list[int]:
    """A mask (h, w) as Label Studio's brush stores it: RGBA bytes, in runs, bit by bit.

    The stream is the number of bytes (32 bits), the word size less one (5 bits), four run sizes less one (4 bits each);
    then runs: one bit whether the bytes are equal, two bits which run size, the run's length less one, and the byte
    once, or each.
    """
    grey = np.where(mask, np.uint8(255), np.uint8(0)).ravel()
    edges = np.flatnonzero(np.diff(grey)) + 1
    sizes = (3, 4, 8, 16)
    bits = [f"{4 * grey.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in sizes)]
    for start, end in zip(np.r_[0, edges], np.r_[edges, grey.size], strict=True):
        left, value = 4 * int(end - start), int(grey[start])
        while left:
            which = next((k for k, size in enumerate(sizes) if left <= 2**size), len(sizes) - 1)
            run = min(left, 2 ** sizes[which])
            bits.append(f"1{which:02b}{run - 1:0{sizes[which]}b}{value:08b}")
            left -= run
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return [int(stream[at : at + 8], 2) for at in range(0, len(stream), 8)]


def _brush(config: str) -> tuple[str, str, str, list[str]]:
    """The brush's name, the image's name and its key in a task's data, and the labels."""
    if "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise Refused(422, "the labelling configuration declares entities; expected plain tags")
    try:
        root = ElementTree.fromstring(config)  # noqa: S314  (without entities nothing can expand)
    except ElementTree.ParseError as error:
        raise Refused(422, "the labelling configuration is no XML") from error
    brush = root.find(".//BrushLabels")
    image = None if brush is None else root.find(f".//Image[@name='{brush.get('toName', '')}']")
    if brush is None or image is None:
        raise Refused(422, "the labelling configuration has no BrushLabels of an Image")
    labels = [label.get("value", "") for label in brush.findall(".//Label") if label.get("value")]
    return brush.get("name", ""), image.get("name", ""), image.get("value", "").removeprefix("$"), labels


def _content(address: Any) -> bytes:
    """A picture that a task holds itself: this server fetches nothing from anywhere."""
    if not isinstance(address, str) or not address.startswith("data:"):
        raise Refused(422, "the task's picture is an address; lexiseg opens none: use data: addresses, see the how-to")
    try:
        return base64.b64decode(address.partition("base64,")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "the task's picture is no base64") from error


PROTOCOL = Protocol("Label Studio", router, uploads=("/predict",))
