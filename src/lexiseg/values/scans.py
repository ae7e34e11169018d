"""Scans: an image that is ready to be shown, a volume in its own units, and the planes that models see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.values.arrays import FloatArray
from lexiseg.values.geometry import Geometry, PlaneAxes, PlaneName
from lexiseg.values.masks import Prompts
from lexiseg.values.window import ValueRange, Window, check_window, choose_window

_T = TypeVar("_T", bound=np.generic)
_AS_STORED = PlaneAxes("image", (0, 1, 2), (False, False, False))
"""Of an image that does not say which way it lies."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One upright picture of a scan, as models see it.

    Attributes:
        pixels: float32 in [0, 1], (H, W) grey or (H, W, 3) RGB.
        id: the scan's, for a volume with the plane's index.
        index: among the scan's planes.
        spacing: mm between pixel centres along row and column; None where unknown.
    """

    pixels: FloatArray
    id: str = "scan"
    index: int = 0
    spacing: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


class Planes(Sequence[Plane]):
    """A scan as planes, each made when it is asked for: the planes of a volume are not all kept.

    Args:
        scan: the scan.
        axes: how a volume is cut; None for an image.
        window: what makes a volume's values visible; None for an image's pixels as they are.
    """

    def __init__(self, scan: Scan, axes: PlaneAxes | None, window: Window | None) -> None:
        self.scan, self.axes, self.window = scan, axes, window
        if isinstance(scan, Volume):
            assert axes is not None
            self._turn, values = axes, scan.values
        else:
            self._turn, values = scan.axes, (scan.pixels if window is None else scan.native_values)[None]
        self._cut = self._turn.cut(values)

    def __len__(self) -> int:
        return len(self._cut)

    def __getitem__(self, index: Any) -> Any:
        """The plane of an index; of a slice, a list."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        values = self._cut[place]
        pixels = values if self.window is None else self.window.apply(values)
        volume = isinstance(self.scan, Volume)
        return Plane(
            pixels=np.ascontiguousarray(pixels, np.float32),
            id=f"{self.scan.id}_slice{place:04d}" if volume else self.scan.id,
            index=place,
            spacing=self._spacing(),
        )

    def __iter__(self) -> Iterator[Plane]:
        return (self[k] for k in range(len(self)))

    @property
    def positions(self) -> tuple[float, ...] | None:
        """mm of each plane along the normal, from the first; None of an image, or where no distance is known.

        Example:
            >>> grid = Geometry.of_spacing((2, 3, 4), (5.0, 1.0, 1.0))
            >>> Volume(np.arange(24.0).reshape(2, 3, 4), grid).planes().positions
            (0.0, 5.0)
        """
        if self.axes is None or not isinstance(self.scan, Volume) or self.scan.spacing is None:
            return None
        axis, flip = self.axes.axes[0], self.axes.flips[0]
        geometry = self.scan.geometry
        distance = geometry.distance_of_planes(axis)
        assert distance is not None
        own = geometry.positions if axis == 0 else None
        if own is None:
            return tuple(index * distance for index in range(len(self)))
        if distance != self.scan.spacing[axis]:
            own = tuple(each * distance / self.scan.spacing[axis] for each in own)
        return tuple(own[-1] - each for each in own[::-1]) if flip else own

    @property
    def letters(self) -> dict[str, str] | None:
        """Which way of the body each side of a plane is, see `Geometry.letters`."""
        geometry = self.scan.geometry
        return None if geometry is None else geometry.letters(self._turn)

    def record(self) -> dict[str, str]:
        """Plane and window as they were used, in words."""
        return {
            "plane": self.axes.name if self.axes is not None else "",
            "window": self.window.describe() if self.window is not None else "as displayed",
        }

    def cut(self, array: NDArray[_T]) -> NDArray[_T]:
        """A view (N, h, w) of an array on the scan's own grid, plane by plane."""
        found: NDArray[_T] = self._turn.cut(array if isinstance(self.scan, Volume) else array[None])
        return found

    def stored(self, prompts: Prompts) -> Prompts:
        """Prompts in an image's plane as they lie on its stored pixels; those in a volume's planes as they are."""
        if isinstance(self.scan, Volume):
            return prompts
        corners = np.concatenate([prompts.boxes.reshape(-1, 2), prompts.points])
        turned = self._turn.stored(corners, (self._cut.shape[1], self._cut.shape[2]))
        corners, points = np.split(turned, [2 * len(prompts.boxes)])
        pairs = corners.reshape(-1, 2, 2)
        return Prompts(np.concatenate([pairs.min(axis=1), pairs.max(axis=1)], axis=1), points, prompts.labels)

    def assemble(self, planes: Sequence[NDArray[_T]]) -> NDArray[_T]:
        """What was made of each plane, back on the scan's own grid.

        Args:
            planes: one array (h, w) for each plane, in order.

        Returns:
            (D, H, W) of a volume, (H, W) of an image; C-contiguous, the dtype of the arrays.

        Raises:
            ValueError: the number of planes or their shape differs from the scan's.
        """
        shapes = {plane.shape for plane in planes}
        if len(planes) != len(self) or shapes != {self._cut.shape[1:3]}:
            raise ValueError(
                f"{len(planes)} planes of shape {sorted(shapes)}, expected {len(self)} of {self._cut.shape[1:3]}"
            )
        found = self._turn.assemble(np.stack(planes))
        return np.ascontiguousarray(found if isinstance(self.scan, Volume) else found[0])

    def _spacing(self) -> tuple[float, float] | None:
        _, row, column = self._turn.axes
        spacing = self.scan.spacing
        if isinstance(self.scan, Image):
            return None if spacing is None else (spacing[row - 1], spacing[column - 1])
        if spacing is None:
            return self.scan.geometry.pixel_spacing if self.scan.geometry.time else None
        return spacing[row], spacing[column]


@dataclass(frozen=True, eq=False)
class Image:
    """One picture, ready to be shown.

    Attributes:
        pixels: float32 in [0, 1]; (H, W) grey or (H, W, 3) RGB.
        id: a name for files and tables, without extension.
        spacing: mm between pixel centres along row and column; None where the file does not say.
        geometry: the pixels as one slice (1, H, W), where the file says which way of the body they run; None otherwise.
            `pixels` are as the file has them, and `planes` shows them upright.
        native: (H, W) values in the scan's units, on the pixels' grid, where the file has units of its own;
            None where pixels are all that there is.
        unit: of `native`, "HU" or "".
        source: the file that was read; None for a scan made in memory.
        header: what a writer of the source's format must repeat, or refer to; None where there is nothing.
        notes: what was done on reading (window, photometric inversion, ...): no patient data.

    Raises:
        TypeError, ValueError: pixels of another kind or shape.
    """

    pixels: FloatArray
    id: str = "scan"
    spacing: tuple[float, float] | None = None
    geometry: Geometry | None = None
    native: NDArray[Any] | None = None
    unit: str = ""
    source: Path | None = None
    header: Any = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.float32:
            raise TypeError(f"pixels are {self.pixels.dtype}, expected float32 in [0, 1]")
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise ValueError(f"pixels have shape {shape}, expected (H, W) or (H, W, 3)")
        if self.native is not None and self.native.shape != shape[:2]:
            raise ValueError(f"native values have shape {self.native.shape}, expected {shape[:2]}")
        if self.geometry is not None and self.geometry.shape != (1, *shape[:2]):
            raise ValueError(f"the geometry is of shape {self.geometry.shape}, expected {(1, *shape[:2])}")

    @property
    def shape(self) -> tuple[int, int]:
        """The grid of a mask of this image: (H, W)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def axes(self) -> PlaneAxes:
        """How the pixels, as one slice, are turned upright; not at all where nobody knows which way they run."""
        return _AS_STORED if self.geometry is None else self.geometry.plane_axes()

    @property
    def native_values(self) -> NDArray[Any]:
        """`native`.

        Raises:
            UnreadableScan: there is none.
        """
        if self.native is None:
            raise UnreadableScan(f"{self.id}: it has no values but its pixels; a window needs CT, MR or X-ray values")
        return self.native

    def planes(self, plane: PlaneName = "auto", window: str = "auto") -> Planes:
        """The image as its one plane.

        Args:
            plane: of no effect: an image has one.
            window: see `lexiseg.values.window.check_window`; "auto" and "file" show the pixels as they are.

        Raises:
            UnreadableScan: the window needs values that the image does not have.
        """
        setting = check_window(window)
        if setting in ("auto", "file"):
            return Planes(self, None, None)
        own = choose_window(setting, self.native_values, own=None, unit=self.unit, name=self.id)
        return Planes(self, None, own)


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices in native units.

    Attributes:
        values: (D, H, W) real numbers in the scan's units (Hounsfield for CT), as they are stored; of colour uint8
            (D, H, W, 3), RGB.
        geometry: where the voxels lie.
        id: a name for files and tables, without extension.
        unit: of the values: "HU", or "" where nobody knows.
        window: the file's own; None where it has none.
        source: the file that was read; None for a volume made in memory.
        header: what a writer of the source's format must repeat, or refer to; None for a volume made in memory.
        notes: what was done on reading: no patient data.

    Raises:
        ValueError: another shape than the geometry's, or values that are no real numbers.
    """

    values: NDArray[Any]
    geometry: Geometry
    id: str = "scan"
    unit: str = ""
    window: Window | None = None
    source: Path | None = None
    header: Any = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.values.shape
        if 0 in shape or shape[:3] != self.geometry.shape or shape[3:] not in ((), (3,)):
            raise ValueError(f"values have shape {shape}, expected (D, H, W) = {self.geometry.shape}")
        if self.colour and self.values.dtype != np.uint8:
            raise ValueError(f"colours are {self.values.dtype}, expected uint8")
        if self.values.dtype.kind not in "iufb":
            raise ValueError(f"values are {self.values.dtype}, expected real numbers")

    @property
    def colour(self) -> bool:
        """Whether the values are RGB."""
        return self.values.ndim == 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """The grid of a mask of this volume: (D, H, W)."""
        return self.geometry.shape

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """mm between voxel centres along slice, row and column; None where the affine does not say."""
        return self.geometry.spacing

    def planes(self, plane: PlaneName = "auto", window: str = "auto") -> Planes:
        """The volume as upright planes, all seen through one window.

        Args:
            plane: see `Geometry.plane_axes`.
            window: see `lexiseg.values.window.check_window`; decided once for the whole volume.

        Raises:
            UnreadableScan: the window means nothing for these values, or all values are equal.
            UsageError: see `Geometry.plane_axes`.

        Example:
            >>> values = np.arange(24.0).reshape(2, 3, 4)
            >>> volume = Volume(values, Geometry.of_spacing((2, 3, 4)))
            >>> [plane.shape for plane in volume.planes("axial")]
            [(3, 4), (3, 4)]
        """
        setting = check_window(window)
        if self.colour:
            if setting not in ("auto", "file"):
                raise UnreadableScan(f"{self.id}: it is in colour, and has no window; expected auto")
            return Planes(self, self.geometry.plane_axes(plane), ValueRange(0, 255, "colour as displayed"))
        chosen = choose_window(setting, self.values, own=self.window, unit=self.unit, name=self.id)
        return Planes(self, self.geometry.plane_axes(plane), chosen)


Scan = Image | Volume
"""What a reader gives and a pipeline takes."""
