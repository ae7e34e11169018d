"""A scan from every side: its axes, the planes along each, all seen through one window."""

from __future__ import annotations

from typing import cast

from lexiseg.errors import UsageError
from lexiseg.values.geometry import PlaneName
from lexiseg.values.scans import Image, Plane, Planes, Scan, Volume

IMAGE_AXIS = "image"
_BODY: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")


class Views:
    """The planes of a scan along each of its axes.

    Args:
        scan: an image or a volume.
        planes: as the pipeline sees them; their window and axis hold.

    Attributes:
        axes: the directions, by name; an image counts as a volume of one slice along "image".
        grid_shape: (D, H, W); (1, H, W) of an image.
    """

    def __init__(self, scan: Scan, planes: Planes) -> None:
        self._scan = scan
        self._planes: dict[str, Planes] = {}
        if isinstance(scan, Image):
            self.axes = {IMAGE_AXIS: scan.axes}
            self.grid_shape: tuple[int, int, int] = (1, *scan.shape)
            self.acquired = IMAGE_AXIS
        else:
            assert planes.axes is not None
            self.acquired = planes.axes.name
            names = (self.acquired,) if scan.geometry.time else _BODY
            self.axes = {name: scan.geometry.plane_axes("auto" if scan.geometry.time else cast(PlaneName, name))
                         for name in names}  # fmt: skip
            self.grid_shape = scan.shape
        self._planes[self.acquired] = planes

    def axis(self, name: str | None) -> str:
        """An axis's name; the one of acquisition where none is given.

        Raises:
            UsageError: the scan has no such axis.
        """
        if name is None:
            return self.acquired
        if name not in self.axes:
            raise UsageError(f"there is no axis {name!r}; expected one of {', '.join(self.axes)}")
        return name

    def place(self, axis: str | None, plane: int) -> tuple[str, int]:
        """An axis and a plane of it that exist.

        Raises:
            UsageError: they do not.
        """
        name = self.axis(axis)
        if not 0 <= plane < self.count(name):
            raise UsageError(f"there is no plane {plane}; expected 0 to {self.count(name) - 1}")
        return name, plane

    def count(self, axis: str) -> int:
        """How many planes there are along an axis."""
        return self.grid_shape[self.axes[axis].axes[0]]

    def shape(self, axis: str) -> tuple[int, int]:
        """(h, w) of the planes along an axis."""
        _, row, column = self.axes[axis].axes
        return self.grid_shape[row], self.grid_shape[column]

    def planes(self, axis: str | None = None) -> Planes:
        """The planes along an axis."""
        name = self.axis(axis)
        if name not in self._planes:
            assert isinstance(self._scan, Volume)
            self._planes[name] = Planes(self._scan, self.axes[name], self._planes[self.acquired].window)
        return self._planes[name]

    def plane(self, axis: str, index: int) -> Plane:
        """One plane."""
        found: Plane = self.planes(axis)[index]
        return found
