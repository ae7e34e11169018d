"""Which DICOM instances a scan is made of, for writers of objects that refer to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Frame(NamedTuple):
    """One frame of a file: `number` counts from 0, and is 0 in a file of one frame."""

    file: Path
    number: int


@dataclass(frozen=True)
class DicomInstances:
    """The files and frames of a scan, slice by slice.

    Attributes:
        frames: one for each slice (array axis 0) of a volume, in its order, one of an image; None where a slice is
            missing in the series and was filled in.
        keep: what must live as long as the files are needed, such as the folder that a zip was extracted to.
    """

    frames: tuple[Frame | None, ...]
    keep: Any = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Each file once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames if frame is not None))

    def headers(self) -> Iterator[Dataset]:
        """The dataset of each file without its pixels, in the order of `files`.

        Raises:
            OSError: a file is gone.
        """
        import pydicom

        return (pydicom.dcmread(file, force=True, stop_before_pixels=True) for file in self.files)
