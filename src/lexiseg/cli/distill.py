"""`lexiseg distill`: from scans without labels to a trained model and its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli import train_options as options
from lexiseg.cli.bars import train_bar
from lexiseg.cli.pseudo_label import summary_of
from lexiseg.cli.terminal import FAILED, LogLevel, reporting, set_up_logging, talk


def distill(  # noqa: PLR0917  (typer takes options from the signature)
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Scans and folders, as for `segment`.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="PHRASE", help="What to learn; once for each target."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets labels/, model/ and masks/.")] = ...,  # type: ignore[assignment]
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Scans as id,image[,group][,split]; its masks are not opened."),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="The teacher.")] = "demo",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the preset."),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(metavar="X", help="Scans below are left out; others weigh their confidence.")
    ] = 0.5,
    absent: Annotated[
        str, typer.Option(metavar="keep|drop", help="Scans without the target: empty masks, or left out.")
    ] = "keep",
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
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where DIR's run stopped.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of every random number.")] = 0,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Label scans with a preset, train a model on the labels, and segment the scans with it.

    The same as pseudo-label, train and predict one after the other; --resume continues in any of them.

    Exit status: 0 all done, 1 some scans failed or nothing was found, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.cli.preset_options import preset_changes
        from lexiseg.pipelines.weak import DistillRequest, LabelRule, PseudoLabelRequest
        from lexiseg.pipelines.weak import distill as run_distillation

        labels = PseudoLabelRequest(
            out=out,
            phrases=text or (),
            inputs=inputs or (),
            manifest=manifest,
            preset=preset,
            changes=preset_changes(setting, threshold=None, encoder=None, segmenter=None),
            rule=LabelRule(confidence=min_confidence, absent=absent),
            device=device,
            seed=seed,
            resume=resume,
        )
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
            report = run_distillation(DistillRequest(labels=labels, settings=settings), progress=tell)
        if not quiet:
            talk().print(summary_of(report.labels), markup=False)
            talk().print(options.summary_of(report.training), markup=False)
            talk().print(f"{report.masks.done} masks: {report.masks.folder}", markup=False)
        if report.labels.run.failed or report.training.failed or report.masks.failed:
            raise typer.Exit(FAILED)
