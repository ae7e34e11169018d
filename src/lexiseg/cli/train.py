"""`lexiseg train`: pseudo-labels in, a model's folder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg.cli.terminal import FAILED, LogLevel, Threads, reporting, set_up_logging, talk, train_bar
from lexiseg.machine import use_threads

if TYPE_CHECKING:
    from lexiseg.training.students.settings import TrainSettings
    from lexiseg.training.students.train import TrainReport


Network = Annotated[
    str | None,
    typer.Option(
        metavar="auto|towers|unet",
        help="What learns: the bundled encoder's towers, or a U-Net; auto: the towers where they know the target.",
    ),
]
Size = Annotated[int | None, typer.Option(metavar="PX", help="Of a U-Net: side of its square; 192.")]
Longest = Annotated[
    int | None,
    typer.Option(metavar="PX", help="Of a U-Net: a scan's longer side; above --size it slides over it."),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="bundled|none|DIR",
        help="What the network begins from: what ships, nothing (a U-Net), or a student; bundled.",
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
Steps = Annotated[int | None, typer.Option(metavar="N", help="Of the optimiser; 400, of the towers 60.")]
Rate = Annotated[
    float | None,
    typer.Option(metavar="X", help="Learning rate; 0.0002, with --start none 0.001, of the towers 0.0003."),
]
Cycles = Annotated[
    int | None, typer.Option(metavar="N", help="Of a U-Net: cosine cycles of the rate, for snapshots and refresh; 4.")
]
Robust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="Against wrong labels, more than once: weighting, refresh; of the towers also curriculum, balance; of a "
        "U-Net also small-loss, co-teaching, snapshots; or none. Default: weighting, of a U-Net snapshots too.",
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
    from lexiseg.errors import UsageError
    from lexiseg.training.students.settings import TrainSettings

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    of_unet = [f"--{name}" for name in ("size", "longest", "cycles") if name in chosen]
    if of_unet and chosen.get("network") != "unet":
        raise UsageError(f"{of_unet[0]} is an option of the U-Net; give --network unet too, or leave it out")
    if robust:
        chosen["robust"] = () if list(robust) == ["none"] else tuple(dict.fromkeys(robust))
    return TrainSettings(seed=seed, **chosen)


def summary_of(report: TrainReport) -> str:
    """One line on a training."""
    config = report.config
    against = "true masks" if config.supervised else "pseudo-labels"
    score = "" if config.score is None else f", {config.measure} {config.score:.3f} against held-out {against}"
    early = ", stopped early" if report.early else ""
    what = f"{config.members} networks" if config.network == "unet" else "the bundled encoder tuned"
    told = f"{config.labels}: {config.scans['train']} scans, {what}{score}{early}"
    if report.before:
        return f"trained before, on {told}: {report.folder}"
    return f"trained on {told} in {report.seconds:.0f} s: {report.folder}"


def train(  # noqa: PLR0917  (typer takes options from the signature)
    labels: Annotated[Path | None, typer.Argument(metavar="SET", help="A folder by `lexiseg pseudo-label`.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model goes.")] = ...,  # type: ignore[assignment]
    masks: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Instead of SET: a manifest with true masks, for the supervised upper bound."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="PHRASE", help="With --masks: the targets' names.")
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="lexiseg|nnunet", help="nnunet: hand the set to nnU-Net v2.")
    ] = "lexiseg",
    network: Network = None,
    size: Size = None,
    longest: Longest = None,
    start: Start = None,
    anchor: Anchor = None,
    batch: Batch = None,
    steps: Steps = None,
    rate: Rate = None,
    cycles: Cycles = None,
    robust: Robust = None,
    patience: Patience = None,
    precision: Precision = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where it is trained.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where DIR's training stopped.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of every random number.")] = 0,
    threads: Threads = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Train a student on pseudo-labels; held-out pseudo-labels stop it.

    Writes a folder for `lexiseg predict`: config.json, model.safetensors, README.md (the model card),
    scans.csv (what it saw), log.csv and curves.png.

    Exit status: 0 trained, 1 it could not be finished or some scans could not be read, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.errors import UsageError
        from lexiseg.training.students.labels import read_pseudo_labels, read_true_masks
        from lexiseg.training.students.train import train as run_training

        if (labels is None) == (masks is None):
            raise UsageError("give either SET (a folder of pseudo-labels) or --masks MANIFEST (true masks)")
        if text and masks is None:
            raise UsageError("--text names the targets of --masks; a SET names its own")
        if backend not in ("lexiseg", "nnunet"):
            raise UsageError(f"--backend is {backend}; expected lexiseg or nnunet")
        if masks is not None:
            given = read_true_masks(masks, text or (), seed=seed)
            if not quiet:
                talk().print("training uses true masks: this is the supervised upper bound", markup=False)
        else:
            assert labels is not None
            given = read_pseudo_labels(labels)
        if backend == "nnunet":
            from lexiseg.training.students.nnunet import train_nnunet

            talk().print(f"nnU-Net's results are in {train_nnunet(given, out)}", markup=False)
            return
        settings = train_settings(
            robust,
            seed,
            network=network,
            size=size,
            longest=longest,
            start=start,
            anchor=anchor,
            batch=batch,
            steps=steps,
            rate=rate,
            cycles=cycles,
            patience=patience,
            precision=precision,
        )
        with train_bar(quiet=quiet) as tell:
            report = run_training(given, out, settings, device=device, resume=resume, progress=tell)
        if not quiet:
            talk().print(summary_of(report), markup=False)
        if report.failed:
            raise typer.Exit(FAILED)
