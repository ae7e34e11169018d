"""X-AnyLabeling-Server's interface: a picture and a text prompt, or marks, in; polygons and boxes out."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from lexiseg.errors import UsageError
from lexiseg.serve.app import Server, server_of
from lexiseg.serve.problems import Refused
from lexiseg.serve.protocols import Protocol
from lexiseg.serve.protocols.desk import Desk, phrases_of
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan

router = APIRouter(tags=["X-AnyLabeling"])
_DESK = Desk("x-anylabeling")
_MODEL = "lexiseg"
_ABOUT = {
    "display_name": "lexiseg",
    "widgets": [{"name": "edit_text"}, {"name": "button_send"}, {"name": "edit_conf"}],
    "params": {"conf_threshold": 0.3},
    "batch_processing_mode": "text_prompt",
}


class PredictRequest(BaseModel):
    """A picture and what to look for."""

    model: Annotated[str, Field(max_length=100)] = _MODEL
    image: str
    params: dict[str, Any] = {}


@router.get("/health")
def health() -> dict[str, str]:
    """Whether it answers."""
    return {"status": "UP", "model_class": "lexiseg"}


@router.get("/v1/models")
def models() -> dict[str, Any]:
    """What can be asked."""
    return {"success": True, "data": {_MODEL: _ABOUT}}


@router.get("/v1/models/{model}/info")
def model_info(model: str) -> dict[str, Any]:
    """One of them."""
    if model != _MODEL:
        raise Refused(404, f"there is no model {model[:60]!r}; expected {_MODEL}")
    return {"success": True, "data": _ABOUT}


@router.post("/v1/predict")
def predict(request: Request, wanted: PredictRequest) -> dict[str, Any]:
    """Outlines of what the text names, or of what the marks mean."""
    server = server_of(request)
    entry = _DESK.take(server, io.BytesIO(_content(wanted.image)), "picture")
    try:
        scan = _DESK.scan(server, entry)
        phrases = phrases_of(str(wanted.params.get("text_prompt", "")).replace(",", ";").replace(".", ";"))
        marks = wanted.params.get("marks") or []

        def work(tell: Callable[[float], None]) -> dict[str, Any]:
            return {
                "shapes": _by_marks(server, scan, marks) if marks else _by_text(server, scan, phrases, wanted, tell)
            }

        return {
            "success": True,
            "data": {**_DESK.work(server, work, "X-AnyLabeling"), "description": "", "replace": True},
        }
    finally:
        server.scans.remove(_DESK.visitor, entry.id)


def _by_text(
    server: Server, scan: Scan, phrases: list[str], wanted: PredictRequest, tell: Callable[[float], None]
) -> list[dict[str, Any]]:
    threshold = wanted.params.get("conf_threshold")
    least = float(threshold) if isinstance(threshold, int | float) else None
    found = _DESK.find(server, scan, phrases, threshold=least, tell=tell)
    return [shape for each in found for shape in _shapes(each.mask, each.phrase, each.confidence)]


def _by_marks(server: Server, scan: Scan, marks: Any) -> list[dict[str, Any]]:
    session = _DESK.blank(server, scan)
    target = session.add("object")
    for mark in marks if isinstance(marks, list) else []:
        kind, data = mark.get("type"), [float(value) for value in mark.get("data", [])]
        if kind == "point" and len(data) == 2:
            session.click(target, 0, data[0], data[1], inside=bool(mark.get("label", 1)))
        elif kind == "rectangle" and len(data) == 4:
            session.box(target, 0, (data[0], data[1], data[2], data[3]))
        else:
            raise UsageError("a mark is no point of two numbers and no rectangle of four")
    return _shapes(session.mask(target), "object", 1.0)


def _shapes(mask: BoolArray, label: str, score: float) -> list[dict[str, Any]]:
    """Each piece's outline, in pixels."""
    from skimage.measure import approximate_polygon, find_contours

    shapes = []
    # A pixel's centre lies at +0.5; a rim of background closes what touches the border.
    for outline in find_contours(np.pad(mask, 1).astype(float), 0.5):
        points = approximate_polygon(outline[:, ::-1] - 0.5, tolerance=0.5)
        if len(points) > 3:
            shapes.append({"label": label, "shape_type": "polygon", "points": points.round(2).tolist(),
                           "score": None if math.isnan(score) else round(float(score), 4), "description": "",
                           "attributes": {}})  # fmt: skip
    return shapes


def _content(image: str) -> bytes:
    try:
        return base64.b64decode(image.partition("base64,")[2] or image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "the image is no base64") from error


PROTOCOL = Protocol("X-AnyLabeling", router, uploads=("/v1/predict",))
