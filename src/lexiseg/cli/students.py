"""`lexiseg distill`: from scans without labels to a trained model and its masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg.cli import train as options
from lexiseg.cli.reading import ALL_PATIENTS, ALL_SERIES, SERIES, SPACING, STACK, VOLUME, source_options
from lexiseg.cli.segment import Tune
from lexiseg.cli.terminal import (
    FAILED,
    AtOnce,
    LogLevel,
    Products,
    Threads,
    reporting,
    run_bar,
    set_up_logging,
    talk,
    train_bar,
)
from lexiseg.machine import use_threads

if TYPE_CHECKING:
    from lexiseg.training.students.pseudo_labels import PseudoLabelReport

_SAME = 0.98
"""An overlap from which two masks are one to a user: a pixel along the outline."""

Mirror = Annotated[
    bool, typer.Option("--mirror", help="The teacher looks at each mirrored scan too; not if a phrase names a side.")
]

Tuned = Annotated[
    Tune,
    typer.Option(
        help="label-free: a few scans say whether the teacher sees them as they are, as negatives or sharpened; "
        "auto: so it is where that takes seconds; fixed: as they are."
    ),
]


def pseudo_label(  # noqa: PLR0917  (typer takes options from the signature)
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Scans and folders, as for `segment`.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="PHRASE", help="What to label; once for each target."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the set goes.")] = ...,  # type: ignore[assignment]
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Scans as id,image[,group][,split]; its masks are not opened."),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="The teacher.")] = "demo",
    encoder: Annotated[str | None, typer.Option(metavar="ID|DIR", help="Another than the preset's.")] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="ID|DIR|PTH", help="Another than the preset's.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the preset."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="Presence below which a phrase is absent, 0 to 1.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(metavar="X", help="Scans below are left out; others weigh their confidence.")
    ] = 0.5,
    min_presence: Annotated[
        float, typer.Option(metavar="X", help="Scans with a mask but less presence are left out.")
    ] = 0.0,
    absent: Annotated[
        str, typer.Option(metavar="keep|drop", help="Scans without the target: empty masks, or left out.")
    ] = "keep",
    validation: Annotated[
        float, typer.Option(metavar="X", help="Share of the scans that training is stopped by.")
    ] = 0.2,
    mirror: Mirror = False,
    tune: Tuned = Tune.fixed,
    export: Annotated[
        list[str] | None, typer.Option("--export", metavar="nnunet|coco", help="Write that layout too.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep what DIR has; do what is missing.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the split and the teacher.")] = 0,
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Label scans with a preset, as a set for `lexiseg train`. No true mask is opened.

    Writes images/, masks/, manifest.csv with each scan's weight, presence, confidence and part of the split,
    pseudo_labels.json (what made them), and the teacher's own run in teacher/.

    Exit status: 0 all done, 1 some scans failed or nothing was found, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.cli.segment import preset_changes
        from lexiseg.training.students.pseudo_labels import LabelRule, PseudoLabelRequest, make_pseudo_labels

        request = PseudoLabelRequest(
            out=out,
            phrases=text or (),
            inputs=inputs or (),
            manifest=manifest,
            preset=preset,
            changes=preset_changes(setting, threshold=threshold, encoder=encoder, segmenter=segmenter),
            rule=LabelRule(confidence=min_confidence, presence=min_presence, absent=absent),
            validation=validation,
            exports=export or (),
            device=device,
            precision=precision,
            batch=batch,
            seed=seed,
            resume=resume,
            mirror=mirror,
            tune=tune.value,
        )
        with run_bar(quiet=quiet) as (tell, fetched):
            report = make_pseudo_labels(request, progress=tell, fetched=fetched)
        if not quiet:
            talk().print(summary_of(report), markup=False)
        if report.run.failed:
            raise typer.Exit(FAILED)


def summary_of(report: PseudoLabelReport) -> str:
    """One line on a set."""
    test = f", {report.test} test scans left alone" if report.test else ""
    return (
        f"{report.kept} images in the set ({report.empty} without target), {report.left_out} scans left out, "
        f"{report.run.failed} failed{test}: {report.folder}"
    )


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
        bool,
        typer.Option("--uncertainty/--no-uncertainty", help="Of a U-Net: NAME_uncertainty beside each mask."),
    ] = True,
    overlay: Annotated[bool, typer.Option("--overlay", help="Write a picture of each scan too.")] = False,
    series: SERIES = None,
    all_series: ALL_SERIES = False,
    all_patients: ALL_PATIENTS = False,
    volume: VOLUME = None,
    stack: STACK = False,
    spacing: SPACING = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the model runs.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep what DIR has; do what is missing or failed.")] = False,
    threads: Threads = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Segment scans with a trained model; writes what `lexiseg segment` writes, and where it is not sure.

    Exit status: 0 all done, 1 some scans failed (results.csv says why), 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.runs.segment import RunOptions
        from lexiseg.training.students.predict import PredictRequest, predict_files

        request = PredictRequest(
            model=model,
            out=out,
            inputs=inputs or (),
            manifest=manifest,
            flips=flips,
            min_confidence=min_confidence,
            uncertainty=uncertainty,
            device=device,
            precision=precision,
            options=RunOptions(overlay=overlay, resume=resume),
            reading=source_options(
                series=series,
                all_series=all_series,
                all_patients=all_patients,
                volume=volume,
                stack=stack,
                spacing=spacing,
            ),
        )
        with run_bar(quiet=quiet) as (tell, _):
            summary = predict_files(request, progress=tell)
        if not quiet:
            talk().print(str(summary), markup=False)
        if summary.failed:
            raise typer.Exit(FAILED)


def beside_teacher(found: Mapping[str, Any]) -> str:
    """One line on a student beside its teacher, of `Comparison.as_dict`."""
    alike = "undefined" if found["overlap"] is None else f"{found['overlap']:.2f}"
    told = f"beside its teacher, on {found['scans']} scans: {found['sure']} sure masks, overlapped by {alike}"
    told += f", {found['missed']} missed; drawn in {found['found']} scans where the teacher found nothing"
    same = found["overlap"] is not None and found["overlap"] >= _SAME and not found["missed"] and not found["found"]
    return f"{told}; it draws what its teacher draws: learning gave nothing" if same else told


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
    mirror: Mirror = False,
    tune: Tuned = Tune.auto,
    network: options.Network = None,
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
    deliver_anyway: Annotated[
        bool,
        typer.Option("--deliver-anyway", help="Deliver the student even where it looks worse than its teacher."),
    ] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where DIR's run stopped.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of every random number.")] = 0,
    threads: Threads = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Label scans with a preset, train a model on the labels, and segment the scans with it.

    The same as pseudo-label, train and predict one after the other; --resume continues in any of them. Between the
    last two the student is laid beside its teacher, without labels. Where it looks worse it is not delivered: it goes
    to refused/, and the masks are the teacher's.

    Exit status: 0 all done, 1 some scans failed or nothing was found, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.cli.segment import preset_changes
        from lexiseg.training.students.distill import DistillRequest
        from lexiseg.training.students.distill import distill as run_distillation
        from lexiseg.training.students.pseudo_labels import LabelRule, PseudoLabelRequest

        labels = PseudoLabelRequest(
            out=out,
            phrases=text or (),
            inputs=inputs or (),
            manifest=manifest,
            preset=preset,
            changes=preset_changes(setting, threshold=None, encoder=None, segmenter=None),
            rule=LabelRule(confidence=min_confidence, absent=absent),
            device=device,
            # float16 is a format of training alone.
            precision=precision if precision in ("float32", "bfloat16") else "auto",
            seed=seed,
            resume=resume,
            mirror=mirror,
            tune=tune.value,
        )
        settings = options.train_settings(
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
            report = run_distillation(
                DistillRequest(labels=labels, settings=settings, deliver_anyway=deliver_anyway), progress=tell
            )
        if not quiet:
            talk().print(summary_of(report.labels), markup=False)
            talk().print(options.summary_of(report.training), markup=False)
            talk().print(beside_teacher(report.comparison), markup=False)
            by = "the student" if report.delivered else "the teacher"
            talk().print(f"{report.masks.done} masks by {by}: {report.masks.folder}", markup=False)
        if report.labels.run.failed or report.training.failed or report.masks.failed:
            raise typer.Exit(FAILED)
