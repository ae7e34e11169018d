"""Options of a training, shared by `train` and `distill`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lexiseg.learning.weak import TrainReport, TrainSettings

Size = Annotated[int | None, typer.Option(metavar="PX", help="Side of the network's square; 192.")]
Longest = Annotated[
    int | None,
    typer.Option(metavar="PX", help="A scan's longer side; above --size the network slides over it."),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="bundled|none|DIR",
        help="What the network begins from: the U-Net that ships, nothing, or a student; bundled.",
    ),
]
Anchor = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="The start's share in the weights kept, 0 to 1; by default less, the more labels contradict it.",
    ),
]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Scans in a step; 8.")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Of the optimiser; 400.")]
Rate = Annotated[
    float | None, typer.Option(metavar="X", help="Learning rate; 0.0002, with --start none 0.001.")
]
Cycles = Annotated[
    int | None, typer.Option(metavar="N", help="Cosine cycles of the rate, for snapshots and refresh; 4.")
]
Robust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="Against wrong labels, more than once: weighting, small-loss, co-teaching, refresh, snapshots; "
        "or none. Default: weighting and snapshots.",
    ),
]
Patience = Annotated[
    int | None, typer.Option(metavar="N", help="Checks without a better score that end it; 0: never; 15.")
]
Precision = Annotated[
    str | None, typer.Option(metavar="auto|float32|bfloat16|float16", help="Number format of products.")
]


def train_settings(robust: Sequence[str] | None, seed: int, **given: float | str | None) -> TrainSettings:
    """Settings of what was given; None leaves the default.

    Raises:
        UsageError: a value that a setting cannot have.
    """
    from lexiseg.learning.weak import TrainSettings

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if robust:
        chosen["robust"] = () if list(robust) == ["none"] else tuple(dict.fromkeys(robust))
    return TrainSettings(seed=seed, **chosen)


def summary_of(report: TrainReport) -> str:
    """One line on a training."""
    config = report.config
    against = "true masks" if config.supervised else "pseudo-labels"
    score = "" if config.score is None else f", Dice {config.score:.3f} against held-out {against}"
    early = ", stopped early" if report.early else ""
    return (
        f"trained on {config.labels}: {config.scans['train']} scans, {config.members} networks{score}{early} "
        f"in {report.seconds:.0f} s: {report.folder}"
    )
