"""What a run found in a scan, as writers of files are given it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UsageError
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.scans import Scan

if TYPE_CHECKING:
    from lexiseg.io.dicom.pseudonyms import Pseudonyms

SegType = Literal["binary", "labelmap", "fractional"]
"""How a DICOM SEG stores its pixels: bits of each segment, one label map, or probabilities of each segment."""
AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
"""Who made a mask, as DICOM calls it (PS3.3 C.8.20.2): a model alone, a model and a person, or a person alone."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How files are written.

    Attributes:
        seg_type: of DICOM SEG; see `SegType`.
        pseudonyms: what stands for identifiers and UIDs in DICOM objects; None keeps the patient's own.

    Raises:
        UsageError: no such type of SEG.
    """

    seg_type: SegType = "binary"
    pseudonyms: Pseudonyms | None = None

    def __post_init__(self) -> None:
        if self.seg_type not in get_args(SegType):
            raise UsageError(f"the type of SEG is {self.seg_type!r}; expected {', '.join(get_args(SegType))}")


@dataclass(frozen=True, eq=False)
class Segment:
    """One target.

    Attributes:
        name: the phrase.
        slug: the phrase in file names; see `lexiseg.io.names.slugs`.
        mask: bool, the scan's shape.
        probability: float32 in [0, 1], the scan's shape, what the mask was cut from; None where it is not kept.
        algorithm_type: who made the mask.
    """

    name: str
    slug: str
    mask: BoolArray
    probability: FloatArray | None = None
    algorithm_type: AlgorithmType = "AUTOMATIC"


@dataclass(frozen=True, eq=False)
class Segments:
    """All targets of a scan.

    Attributes:
        scan: what they are of.
        items: in the order of the phrases; they may overlap.
        labels: uint8, the scan's shape: k is the k-th target, where they overlap one of them.
        provenance: preset and weights, as in run.json.
    """

    scan: Scan
    items: tuple[Segment, ...]
    labels: NDArray[np.uint8]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether each target has files of its own."""
        return len(self.items) > 1

    @property
    def found(self) -> tuple[Segment, ...]:
        """The targets that have any mask."""
        return tuple(item for item in self.items if item.mask.any())
