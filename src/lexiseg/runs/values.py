"""What a run is given, and what it tells; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lexiseg.pipelines.results import Result
    from lexiseg.values.scans import Planes, Scan


class Pipeline(Protocol):
    """What a run asks of a pipeline."""

    preset: Any
    """With a `name`, and `as_dict` for the record."""
    encoder: Any
    segmenter: Any

    @property
    def provenance(self) -> Any:
        """Preset and weights, as plain values."""

    def planes(self, scan: Scan) -> Planes:
        """The planes of a scan as the pipeline sees them."""

    def __call__(
        self,
        scan: Scan,
        phrases: Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Result:
        """Segment a scan."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is done.

    Attributes:
        save_stages: write the saliency, the refined region and the prompts of each scan too.
        overlay: write a picture of each scan too.
        resume: keep what an earlier run of the same folder, settings and weights has done; failed scans are
            tried again.
        seed: of every random number.
    """

    save_stages: bool = False
    overlay: bool = False
    resume: bool = False
    seed: int = 0


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done: scans done or failed in this session; a volume that is being worked on counts by its slices.
        total: scans that this session has to do (those an earlier one did are left out).
        scan: the path, as it was given, of the scan that is worked on.
        failed: how many of them failed.
    """

    done: float
    total: int
    scan: str
    failed: int


@dataclass(frozen=True)
class RunSummary:
    """How a run ended; `done` and `failed` add up to its scans.

    Attributes:
        folder: where the results are.
        done: scans with a mask.
        absent: those of them in which no phrase was found.
        failed: scans whose rows say why.
        skipped: those of `done` that an earlier run had done.
        seconds: wall time of this session.
    """

    folder: Path
    done: int
    absent: int
    failed: int
    skipped: int
    seconds: float

    def counts(self) -> dict[str, int]:
        """The numbers of scans, for run.json."""
        scans = self.done + self.failed
        return {"scans": scans, "done": self.done, "absent": self.absent, "failed": self.failed,
                "skipped": self.skipped}  # fmt: skip
