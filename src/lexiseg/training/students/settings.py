"""Settings of a student's training, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lexiseg.errors import UsageError
from lexiseg.training.settings import PRECISIONS, Settings, setting

ROBUST: Mapping[str, str] = {
    "weighting": "scans of which the teacher was sure weigh more",
    "small-loss": "the worst fitting scans of a batch are left out",
    "co-teaching": "two networks, each trained on the scans that fit the other",
    "refresh": "an averaged student corrects the pseudo-labels after each cycle",
    "snapshots": "the best network of each cycle joins an ensemble",
    "curriculum": "the surer half of the scans first, all of them from half of the run on",
    "balance": "scans with and without the target are seen equally often",
}
"""What can be done about wrong pseudo-labels; see `lexiseg.training.students.robust` and `towers_trainer`."""

BUNDLED, NOTHING = "bundled", "none"
"""What a student can begin from, besides a student's folder."""

AUTO, TOWERS, UNET = "auto", "towers", "unet"
"""Networks: the bundled encoder's image towers, tuned; or a U-Net."""

OPTIONS_OF: Mapping[str, frozenset[str]] = {
    UNET: frozenset({"weighting", "small-loss", "co-teaching", "refresh", "snapshots"}),
    TOWERS: frozenset({"weighting", "refresh", "curriculum", "balance"}),
}
"""Which of `ROBUST` each network can do."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """How a student is trained; the text of each `setting` tells what the field means."""

    network: str = setting(
        AUTO,
        'What learns: "towers" (the bundled encoder\'s image towers, drawn by its segmenter), "unet" (a U-Net '
        'alone), or "auto": the towers where the bundled encoder knows the target and was the teacher, else the U-Net.',
        choices=(AUTO, TOWERS, UNET),
    )
    part: str = setting(
        "projections",
        'What of the towers learns: "projections" (to the space of phrases) or "pyramids" (the feature pyramids too).',
        choices=("projections", "pyramids"),
    )
    size: int = setting(
        192,
        "Side of the square that the network sees, in pixels; a multiple of 2 ** (len(widths) - 1).",
        low=8,
        high=4096,
    )
    longest: int = setting(
        0,
        "To how many pixels a scan's longer side is brought first. Equal to `size` (or 0, which means that) the "
        "network sees whole scans; with more it is trained on crops, and slides over a scan.",
        low=0,
        high=65536,
    )
    start: str = setting(
        BUNDLED,
        'What the network begins from: "bundled" (a U-Net that draws the usual target of each modality of the '
        'bundled models), "none" (random weights) or a student\'s folder.',
    )
    anchor: float | None = setting(
        None,
        "Share of the start in the weights that are validated and kept, see `drawn_back`; without a start, nothing. "
        "None: by how far start and labels disagree, see `share_of_start`.",
        low=0,
        high=1,
    )
    widths: tuple[int, ...] = setting(
        (16, 32, 64, 128, 256), "Channels of the network's levels; each level halves the resolution."
    )
    residual_units: int = setting(2, "In each level.", low=0, high=16)
    batch: int = setting(8, "Scans in a step.", low=1, high=4096)
    steps: int | None = setting(None, "Of the optimiser, in all. None: 400 of a U-Net, 60 of the towers.", low=1)
    rate: float | None = setting(
        None,
        "The learning rate at the top of a cycle. None: of a U-Net 1e-3 from random weights and 2e-4 from others, "
        "which larger steps would only undo; of the towers 3e-4.",
        low=1e-8,
        high=1,
    )
    weight_decay: float = setting(1e-4, "Of AdamW.", low=0, high=1)
    average: float = setting(
        0.98, "Decay of the weights' moving average, which is what is validated and kept.", low=0, high=0.99999
    )
    cycles: int = setting(4, "Cosine cycles of the learning rate.", low=1, high=1000)
    robust: tuple[str, ...] | None = setting(
        None,
        "What is done about wrong labels, keys of `ROBUST`. None: weighting, and of a U-Net snapshots.",
        choices=tuple(ROBUST),
    )
    forget: float = setting(0.2, "Share of a batch that small-loss and co-teaching leave out.", low=0, high=0.9)
    trust: float = setting(0.8, "Probability above which refresh corrects a pixel's label.", low=0.5, high=1)
    checks: int = setting(40, "Validations in the run, spread evenly.", low=1, high=10000)
    patience: int = setting(15, "Checks without a better score after which the run ends; 0 for never.", low=0)
    flips: bool | None = setting(None, "Mirror scans left to right in training; None: where no phrase names a side.")
    precision: str = setting("auto", "Number format of products; weights stay float32.", choices=PRECISIONS)
    seed: int = setting(0, "Of every random number.", low=0, high=2**31)

    def __post_init__(self) -> None:
        if self.robust and "none" in self.robust:
            raise UsageError("robust is none beside others; expected none alone, or others")
        super().__post_init__()
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
        if {"small-loss", "co-teaching"} <= set(self.options):
            raise UsageError("co-teaching chooses scans by small loss already; expected only one of the two")

        strange = set(self.options) - OPTIONS_OF[TOWERS if self.network == TOWERS else UNET]
        if strange and self.network != AUTO:
            raise UsageError(
                f"robust is {', '.join(sorted(strange))}, which the network {self.network} cannot do; expected among "
                f"{', '.join(sorted(OPTIONS_OF[self.network]))}"
            )

    @property
    def top_rate(self) -> float:
        """The learning rate at the top of a cycle."""
        if self.rate is not None:
            return self.rate
        if self.network == TOWERS:
            return 3e-4
        return 1e-3 if self.start == NOTHING else 2e-4

    @property
    def count(self) -> int:
        """Steps of the optimiser, in all."""
        if self.steps is not None:
            return self.steps
        return 60 if self.network == TOWERS else 400

    @property
    def options(self) -> tuple[str, ...]:
        """What is done about wrong labels, keys of `ROBUST`."""
        if self.robust is not None:
            return self.robust
        return ("weighting",) if self.network == TOWERS else ("weighting", "snapshots")

    @property
    def extent(self) -> int:
        """Pixels of a scan's longer side on the network's scale."""
        return self.longest or self.size
