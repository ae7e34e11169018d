"""`lexiseg train`: pseudo-labels in, a model's folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli import train_options as options
from lexiseg.cli.bars import train_bar
from lexiseg.cli.terminal import FAILED, LogLevel, reporting, set_up_logging, talk


def train(  # noqa: PLR0917  (typer takes options from the signature)
    labels: Annotated[
        Path | None, typer.Argument(metavar="SET", help="A folder by `lexiseg pseudo-label`.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model goes.")] = ...,  # type: ignore[assignment]
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Instead of SET: a manifest with true masks, for the supervised upper bound."
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="PHRASE", help="With --masks: the targets' names.")
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="lexiseg|nnunet", help="nnunet: hand the set to nnU-Net v2.")
    ] = "lexiseg",
    size: options.Size = None,
    longest: options.Longest = None,
    start: options.Start = None,
    anchor: options.Anchor = None,
    batch: options.Batch = None,
    steps: options.Steps = None,
    rate: options.Rate = None,
    cycles: options.Cycles = None,
    robust: options.Robust = None,
    patience: options.Patience = None,
    precision: options.Precision = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where it is trained.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where DIR's training stopped.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of every random number.")] = 0,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Train a U-Net with residual units on pseudo-labels; held-out pseudo-labels stop it.

    Writes a folder for `lexiseg predict`: config.json, model.safetensors, README.md (the model card),
    scans.csv (what it saw), log.csv and curves.png.

    Exit status: 0 trained, 1 it could not be finished or some scans could not be read, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.errors import UsageError
        from lexiseg.learning.weak import read_pseudo_labels, read_true_masks
        from lexiseg.learning.weak import train as run_training

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
            from lexiseg.learning.weak.nnunet import train_nnunet

            talk().print(f"nnU-Net's results are in {train_nnunet(given, out)}", markup=False)
            return
        settings = options.train_settings(
            robust,
            seed,
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
            talk().print(options.summary_of(report), markup=False)
        if report.failed:
            raise typer.Exit(FAILED)
