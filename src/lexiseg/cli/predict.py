"""`lexiseg predict`: a trained model over scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.bars import run_bar
from lexiseg.cli.terminal import FAILED, LogLevel, reporting, set_up_logging, talk


def predict(  # noqa: PLR0917  (typer takes options from the signature)
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder by `lexiseg train`.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Scans and folders, as for `segment`.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where masks and results.csv go.")] = ...,  # type: ignore[assignment]
    manifest: Annotated[Path | None, typer.Option(metavar="CSV", help="Scans as id,image.")] = None,
    flips: Annotated[
        bool | None,
        typer.Option(
            "--flips/--no-flips",
            help="Show all networks the mirrored scan too. Default: in turns; not if a phrase names a side.",
        ),
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Leave out masks of which the student expects a lower Dice than this, 0 to 1.",
        ),
    ] = 0.0,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty/--no-uncertainty", help="Write NAME_uncertainty beside each mask.")
    ] = True,
    overlay: Annotated[bool, typer.Option("--overlay", help="Write a picture of each scan too.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the model runs.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what DIR has; do what is missing or failed.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Segment scans with a trained model; writes what `lexiseg segment` writes, and where it is not sure.

    Exit status: 0 all done, 1 some scans failed (results.csv says why), 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.pipelines.runs import RunOptions
        from lexiseg.pipelines.weak import PredictRequest, predict_files

        request = PredictRequest(
            model=model,
            out=out,
            inputs=inputs or (),
            manifest=manifest,
            flips=flips,
            min_confidence=min_confidence,
            uncertainty=uncertainty,
            device=device,
            options=RunOptions(overlay=overlay, resume=resume),
        )
        with run_bar(quiet=quiet) as (tell, _):
            summary = predict_files(request, progress=tell)
        if not quiet:
            talk().print(
                f"{summary.done} done, {summary.absent} absent, {summary.failed} failed "
                f"in {summary.seconds:.1f} s: {summary.folder}",
                markup=False,
            )
        if summary.failed:
            raise typer.Exit(FAILED)
