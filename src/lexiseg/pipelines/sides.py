"""In which planes a phrase that names a side is asked: sagittal ones do not show it."""

from __future__ import annotations

from lexiseg.errors import BadPhrase
from lexiseg.values.geometry import PlaneName
from lexiseg.values.scans import Image, Planes

_SAGITTAL: PlaneName = "sagittal"
_OTHERS: tuple[PlaneName, ...] = ("axial", "coronal")
_STRETCHED = 2.0
"""How many times longer than wide pixels may be. At 2.4 a fifth of a "right lung" was on the left, at 4 a half."""
_LEAST = 32
"""Pixels across a picture; models make nothing of fewer."""


def shows_no_side(planes: Planes) -> bool:
    """Whether planes are sagittal."""
    scan = planes.scan
    axes = scan.axes if isinstance(scan, Image) else planes.axes
    return axes is not None and axes.name == _SAGITTAL


def planes_with_sides(planes: Planes, text: str, *, plane: PlaneName) -> Planes:
    """The planes for a phrase that names a side, where those of the setting are sagittal.

    Args:
        planes: sagittal.
        text: the phrase.
        plane: the setting; "auto" gives way to axial or coronal, whichever has the squarer pixels.

    Raises:
        BadPhrase: it cannot be asked; the line says what to do.
    """
    scan = planes.scan
    refused = f"{scan.id}: {text!r} names a side, which sagittal planes do not show"
    if isinstance(scan, Image):
        raise BadPhrase(f"{refused}; ask without the side, or give the volume that it is of")
    if plane != "auto":
        raise BadPhrase(f"{refused}; ask without the side, or with the plane (--axis) axial or coronal")
    others = [Planes(scan, scan.geometry.plane_axes(other), planes.window) for other in _OTHERS]
    best = min(others, key=_stretch)
    if _stretch(best) > _STRETCHED:
        assert best.axes is not None
        raise BadPhrase(
            f"{refused}, and its other planes are thin or stretched; ask without the side, or with the plane (--axis) "
            f"{best.axes.name} and look at the masks"
        )
    return best


def _stretch(planes: Planes) -> float:
    """How many times longer than wide pixels are, infinite where nobody knows and where a picture has too few."""
    plane = planes[0]
    if plane.spacing is None or min(plane.shape) < _LEAST:
        return float("inf")
    return float(max(plane.spacing) / min(plane.spacing))
