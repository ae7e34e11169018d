"""Settings of a student's training, as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lexiseg.errors import UsageError

ROBUST: Mapping[str, str] = {
    "weighting": "scans of which the teacher was sure weigh more",
    "small-loss": "the worst fitting scans of a batch are left out",
    "co-teaching": "two networks, each trained on the scans that fit the other",
    "refresh": "an averaged student corrects the pseudo-labels after each cycle",
    "snapshots": "the best network of each cycle joins an ensemble",
}
"""What can be done about wrong pseudo-labels; see `lexiseg.training.students.robust`."""

BUNDLED, NOTHING = "bundled", "none"
"""What a student can begin from, besides a student's folder."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a student is trained.

    Attributes:
        size: side of the square that the network sees, in pixels; a multiple of 2 ** (len(widths) - 1).
        longest: to how many pixels a scan's longer side is brought first. Equal to `size` (or 0, which means
            that) the network sees whole scans; with more it is trained on crops, and slides over a scan.
        start: what the network begins from: "bundled" (a U-Net that draws the usual target of each modality
            of the bundled models), "none" (random weights) or a student's folder.
        anchor: share of the start in the weights that are validated and kept, see `drawn_back`; without
            a start, nothing. None: by how far start and labels disagree, see `share_of_start`.
        widths: channels of the network's levels; each level halves the resolution.
        residual_units: in each level.
        batch: scans in a step.
        steps: of the optimiser, in all.
        rate: the learning rate at the top of a cycle; None for 1e-3 from random weights and 2e-4 from others,
            which larger steps would only undo.
        weight_decay: of AdamW.
        average: decay of the weights' moving average, which is what is validated and kept.
        cycles: cosine cycles of the learning rate.
        robust: keys of `ROBUST`.
        forget: share of a batch that small-loss and co-teaching leave out.
        trust: probability above which refresh corrects a pixel's label.
        checks: validations in the run, spread evenly.
        patience: checks without a better score after which the run ends; 0 for never.
        flips: mirror scans left to right in training; None where no phrase names a side.
        precision: "auto", "float32", "bfloat16" or "float16" products; weights stay float32.
        seed: of every random number.
    """

    size: int = 192
    longest: int = 0
    start: str = BUNDLED
    anchor: float | None = None
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual_units: int = 2
    batch: int = 8
    steps: int = 400
    rate: float | None = None
    weight_decay: float = 1e-4
    average: float = 0.98
    cycles: int = 4
    robust: tuple[str, ...] = ("weighting", "snapshots")
    forget: float = 0.2
    trust: float = 0.8
    checks: int = 40
    patience: int = 15
    flips: bool | None = None
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is {value}; expected {low:g} to {high:g}")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise UsageError(f"widths is {self.widths}; expected at least two positive numbers")
        # The bottom level needs more than one pixel, or instance norm has nothing to average.
        factor = 2 ** (len(self.widths) - 1)
        if self.size % factor or self.size < 2 * factor:
            raise UsageError(
                f"size is {self.size}; expected a multiple of {factor}, at least {2 * factor}, for "
                f"{len(self.widths)} levels"
            )
        if self.longest and self.longest < self.size:
            raise UsageError(f"longest is {self.longest}; expected 0 or at least the size {self.size}")
        unknown = [name for name in self.robust if name not in ROBUST]
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; expected among {', '.join(ROBUST)}")
        if {"small-loss", "co-teaching"} <= set(self.robust):
            raise UsageError("co-teaching chooses scans by small loss already; expected only one of the two")
        if self.precision not in ("auto", "float32", "bfloat16", "float16"):
            raise UsageError(f"precision is {self.precision!r}; expected auto, float32, bfloat16 or float16")

    @property
    def top_rate(self) -> float:
        """The learning rate at the top of a cycle."""
        if self.rate is not None:
            return self.rate
        return 1e-3 if self.start == NOTHING else 2e-4

    @property
    def extent(self) -> int:
        """Pixels of a scan's longer side on the network's scale."""
        return self.longest or self.size

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for records."""
        return {**dataclasses.asdict(self), "widths": list(self.widths), "robust": list(self.robust)}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("size", 8, 4096),
    ("longest", 0, 65536),
    ("anchor", 0, 1),
    ("residual_units", 0, 16),
    ("batch", 1, 4096),
    ("steps", 1, math.inf),
    ("rate", 1e-8, 1),
    ("weight_decay", 0, 1),
    ("average", 0, 0.99999),
    ("cycles", 1, 1000),
    ("forget", 0, 0.9),
    ("trust", 0.5, 1),
    ("checks", 1, 10000),
    ("patience", 0, math.inf),
    ("seed", 0, 2**31),
)
