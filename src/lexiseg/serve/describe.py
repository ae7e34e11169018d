"""Scans and targets as plain values, as the interface tells them."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.session.deltas import Bits
from lexiseg.values.scans import Image, Planes, Scan, Volume
from lexiseg.values.window import DicomWindow

if TYPE_CHECKING:
    from lexiseg.serve.scans import Entry
    from lexiseg.session import Session
    from lexiseg.session.target import Target
    from lexiseg.session.views import Views
    from lexiseg.values.masks import Prompts

_STEPS = 32
"""The range of values that are sent is cut at so many window widths beyond the window."""
_SMALL = 96


def scan_record(entry: Entry, session: Session) -> dict[str, Any]:
    """A scan, with its targets."""
    scan, views = session.scan, session.views
    shown = shown_values(scan)
    low, high, window = ranges(scan, shown, session)
    colour = scan.colour if isinstance(scan, Volume) else scan.pixels.ndim == 3
    axes = {
        name: {
            "count": views.count(name),
            "height": views.shape(name)[0],
            "width": views.shape(name)[1],
            "spacing": _spacing(views.planes(name)),
            "places": _places(scan, views, name),
            "letters": views.planes(name).letters,
        }
        for name in views.axes
    }
    return {
        "id": entry.id,
        "name": entry.source.name,
        "kind": ("cine" if scan.geometry.time else "volume") if isinstance(scan, Volume) else "image",
        "modality": _modality(scan, entry.source.phantom),
        "shape": list(scan.shape),
        "axes": axes,
        "acquired": views.acquired,
        "distances": _distances(views.planes()),
        "colour": colour,
        "range": [low, high],
        "window": window,
        "unit": scan.unit,
        "notes": [*entry.notes, *(f"{key}: {text}" for key, text in scan.notes.items())],
        "targets": [target_record(session, target) for target in session.all_targets()],
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
        "threshold": session.threshold,
        "preset": session.pipeline.preset.name,
        "version": entry.version,
        "item": entry.source.origin,
    }


def target_record(session: Session, target: Target) -> dict[str, Any]:
    """A target, with its answer in words and numbers."""
    found = target.origin.found
    count = session.count(target.id)
    scan = session.scan
    sizes: dict[str, Any] = {"voxels" if isinstance(scan, Volume) else "pixels": count}
    if scan.spacing is not None:
        if isinstance(scan, Volume):
            sizes["volume_mm3"] = round(session.volume(target.id) or 0.0, 2)
        else:
            sizes["area_mm2"] = round(count * math.prod(scan.spacing), 2)
    return {
        "id": target.id,
        "name": target.look.name,
        "phrase": None if found is None else found.phrase,
        "preset": None if found is None else found.preset,
        "colour": target.look.colour,
        "visible": target.look.visible,
        "locked": target.look.locked,
        "presence": None if found is None else _number(found.presence),
        "confidence": None if found is None else _number(found.confidence),
        "verdict": verdict(session, target),
        "words": words(session, target),
        "edited": target.edited,
        "slices": {axis: session.filled(target.id, axis) for axis in session.views.axes},
        **sizes,
    }


def verdict(session: Session, target: Target) -> str:
    """ "present", "absent" or "unknown", as the mask is now."""
    found = target.origin.found
    if found is not None and not found.known and not target.edited:
        return "unknown"
    return "present" if session.present(target.id) else "absent"


def words(session: Session, target: Target) -> str:
    """The answer for a person, with presence as a number where there is one, and what the phrase was read as."""
    found, told = target.origin.found, _answer(session, target)
    if found is None or found.read_as is None or target.edited or not found.known:
        return told
    return f"{told}; read as {found.read_as!r}" if found.read_as else f"{told}; the phrase names none of the targets"


def _answer(session: Session, target: Target) -> str:  # noqa: PLR0911  (a line for each kind of answer)
    found = target.origin.found
    if target.edited or found is None:
        return "corrected by hand" if found is not None else ("drawn by hand" if target.edited else "nothing drawn yet")
    if not found.known:
        from lexiseg.text.known import advice

        return advice(found.phrase)
    if math.isnan(found.presence):
        return "drawn; presence is not measured" if session.present(target.id) else "nothing was drawn"
    number = f"{found.presence:.2f}"
    if session.present(target.id):
        return f"{'present' if found.presence >= 0.8 else 'probably present'}, {number}"
    least = session.threshold if found.threshold is None else found.threshold
    if not session.below(target.id) and (least is None or found.presence >= least):
        return f"nothing stands out, {number}"
    if found.threshold is not None and found.presence >= found.threshold:
        return f"below your threshold, {number}"
    if least is not None and 0.5 <= found.presence < least:
        return f"below the threshold of {least:g}, {number}"
    return f"{'absent' if found.presence < 0.05 else 'probably absent'}, {number}"


def mask_record(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A plane's mask as its box and bits."""
    return Bits.of(mask).as_dict()


def prompts_lists(prompts: Prompts) -> dict[str, Any]:
    """Boxes and points as plain lists."""
    points = [[float(x), float(y), int(label)] for (x, y), label in zip(prompts.points, prompts.labels, strict=True)]
    return {"boxes": [[float(edge) for edge in box] for box in prompts.boxes], "points": points}


def saliency_record(map: NDArray[np.float32]) -> dict[str, Any]:
    """A heat map, small: "height", "width", and bytes as base64, 255 being 1."""
    step = max(1, -(-max(map.shape) // _SMALL))
    height, width = (-(-side // step) for side in map.shape)
    padded = np.pad(map, ((0, height * step - map.shape[0]), (0, width * step - map.shape[1])), mode="edge")
    small = padded.reshape(height, step, width, step).mean(axis=(1, 3))
    grey = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return {"height": height, "width": width, "values": base64.b64encode(grey.tobytes()).decode()}


def shown_values(scan: Scan) -> NDArray[Any]:
    """What a page is sent of a scan: a volume's values; an image's own where brighter pixels have larger ones."""
    if isinstance(scan, Volume):
        return scan.values
    if scan.native is None or scan.pixels.ndim == 3:
        return scan.pixels
    finite = np.isfinite(scan.native)
    if not finite.any():
        return scan.pixels
    flat, pixels = scan.native[finite], scan.pixels[finite]
    rising = pixels[np.argmax(flat)] > pixels[np.argmin(flat)]
    return scan.native if rising else scan.pixels


def ranges(scan: Scan, shown: NDArray[Any], session: Session) -> tuple[float, float, dict[str, Any]]:
    """The values that are sent as 0 and 65535, and the window at first."""
    if shown.dtype == np.uint8 and shown.ndim == 4:
        return 0.0, 255.0, {"low": 0.0, "high": 255.0, "about": "as displayed"}
    if isinstance(scan, Image):
        window = _image_window(scan, shown)
    else:
        own = session.planes.window
        assert own is not None
        if isinstance(own, DicomWindow):
            low, high = own.centre - own.width / 2, own.centre + own.width / 2
        else:
            low, high = own.low, own.high
        window = {"low": float(low), "high": float(high), "about": own.describe()}
    finite = shown[np.isfinite(shown)] if shown.dtype.kind == "f" else shown
    width = window["high"] - window["low"]
    lowest = max(float(finite.min()), window["low"] - _STEPS * width)
    highest = min(float(finite.max()), window["high"] + _STEPS * width)
    return min(lowest, window["low"]), max(highest, window["high"]), window


def plane_bytes(scan: Scan, views: Views, place: tuple[str, int], span: tuple[float, float]) -> tuple[bytes, int, int]:
    """A plane as it is sent: uint16 little endian, or uint8 RGB; with its height and width."""
    (axis, index), (low, high) = place, span
    shown = shown_values(scan)
    plane = views.axes[axis].cut(shown if isinstance(scan, Volume) else shown[None])[index]
    height, width = plane.shape[:2]
    if plane.ndim == 3:
        colour = plane if plane.dtype == np.uint8 else np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(colour).tobytes(), height, width
    share = (np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * 65535).astype("<u2").tobytes(), height, width


def _image_window(scan: Image, shown: NDArray[Any]) -> dict[str, Any]:
    if shown is scan.pixels:
        return {"low": 0.0, "high": 1.0, "about": "as displayed"}
    finite = np.isfinite(shown)
    values, pixels = shown[finite], scan.pixels[finite]
    black, white = values[pixels <= 0], values[pixels >= 1]
    low = float(black.max()) if black.size else float(values.min())
    high = float(white.min()) if white.size else float(values.max())
    return {"low": low, "high": high, "about": "as displayed"}


def _spacing(planes: Any) -> list[float] | None:
    spacing = planes[0].spacing
    return None if spacing is None else [float(each) for each in spacing]


def _places(scan: Scan, views: Views, name: str) -> list[list[float] | None] | None:
    """mm of an axis's rows and of its columns, each where they run across slices that are not evenly apart."""
    positions = scan.geometry.positions if isinstance(scan, Volume) else None
    if positions is None:
        return None
    found, axes = [], views.axes[name]
    for axis, flip in zip(axes.axes[1:], axes.flips[1:], strict=True):
        own = [positions[-1] - each for each in positions[::-1]] if flip else list(positions)
        found.append(own if axis == 0 else None)
    return found


def _distances(planes: Planes) -> list[float] | None:
    """The least and the largest distance of one plane to the next in mm; None where there is none, or nobody knows."""
    gaps = np.diff(planes.positions or ())
    return [float(gaps.min()), float(gaps.max())] if len(gaps) else None


def _modality(scan: Scan, phantom: str) -> str:
    from lexiseg.serve.phantoms import OFFERS

    if phantom in OFFERS:
        return OFFERS[phantom].modality
    return str(scan.notes.get("modality", ""))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
