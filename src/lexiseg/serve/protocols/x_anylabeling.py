"""X-AnyLabeling-Server's interface: a picture and a text prompt, or marks, in; polygons and boxes out."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lexiseg.io.dicom.contours import Polygon, outlines
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


@dataclass(frozen=True)
class _Mark:
    """A point, or a box's edges, in pixels; whether what is meant is inside."""

    data: list[float]
    inside: bool


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
    marks = _marks(wanted.params.get("marks") or [])
    entry = _DESK.take(server, io.BytesIO(_content(wanted.image)), "picture")
    try:
        scan = _DESK.picture(server, entry)
        phrases = phrases_of(str(wanted.params.get("text_prompt", "")).replace(",", ";").replace(".", ";"))

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


def _by_marks(server: Server, scan: Scan, marks: list[_Mark]) -> list[dict[str, Any]]:
    session = _DESK.blank(server, scan)
    target = session.add("object")
    for mark in marks:
        if len(mark.data) == 2:
            session.click(target, 0, mark.data[0], mark.data[1], inside=mark.inside)
        else:
            session.box(target, 0, (mark.data[0], mark.data[1], mark.data[2], mark.data[3]))
    return _shapes(session.mask(target), "object", 1.0)


def _marks(given: Any) -> list[_Mark]:
    """Marks as they are sent; none where there are none.

    Raises:
        Refused: one is no mark.
    """
    found = []
    for each in given if isinstance(given, list) else [given]:
        mark = each if isinstance(each, dict) else {}
        data = mark.get("data")
        numbers = data if isinstance(data, list) else []
        sound = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
        if not sound or (mark.get("type"), len(numbers)) not in (("point", 2), ("rectangle", 4)):
            raise Refused(422, f"a mark is {str(each)[:60]!r}; expected a point of two numbers or a rectangle of four")
        inside = bool(mark.get("label", 1))
        if not inside and len(numbers) == 4:
            raise Refused(422, "a rectangle has the label 0; expected 1: mark what is outside with points")
        found.append(_Mark([float(value) for value in numbers], inside))
    return found


def _shapes(mask: BoolArray, label: str, score: float) -> list[dict[str, Any]]:
    """Each piece's outline, in pixels; a hole is joined to its outline, since polygons have no holes."""
    return [
        {
            "label": label,
            "shape_type": "polygon",
            "points": _closed(corners).round(2).tolist(),
            "score": None if math.isnan(score) else round(float(score), 4),
            "description": "",
            "attributes": {},
        }
        for corners in outlines(mask)
    ]


def _closed(corners: Polygon) -> NDArray[np.float64]:
    """A polygon of rows and columns as x and y, a pixel's centre at +0.5, that ends where it began.

    It has fewer corners where no hole is joined to it: simplified, the two sides of a keyhole would come apart.
    """
    from skimage.measure import approximate_polygon

    ring = np.concatenate([corners, corners[:1]])[:, ::-1] + 0.5
    if len(np.unique(corners, axis=0)) < len(corners):
        return ring
    simple: NDArray[np.float64] = approximate_polygon(ring, tolerance=0.5)
    return simple if len(simple) > 3 else ring


def _content(image: str) -> bytes:
    try:
        return base64.b64decode(image.partition("base64,")[2] or image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "the image is no base64") from error


PROTOCOL = Protocol("X-AnyLabeling", router, uploads=("/v1/predict",))
