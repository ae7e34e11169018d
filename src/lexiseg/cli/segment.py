"""`lexiseg segment`: files and a phrase in, masks and a table out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.cli.reading import (
    ALL_PATIENTS,
    ALL_SERIES,
    SERIES,
    SPACING,
    STACK,
    VOLUME,
    source_options,
)
from lexiseg.cli.terminal import FAILED, AtOnce, LogLevel, Products, Threads, reporting, run_bar, set_up_logging, talk
from lexiseg.machine import use_threads


def preset_changes(
    settings: Sequence[str] | None, *, threshold: float | str | None, encoder: str | None, segmenter: str | None
) -> dict[str, Any]:
    """`--set`, `--threshold`, `--encoder` and `--segmenter` as changes for `Preset.override`.

    Raises:
        UsageError: a setting cannot be read, or is empty.
    """
    from lexiseg.errors import UsageError
    from lexiseg.pipelines.preset import merge_settings

    named = {"encoder": encoder, "segmenter": segmenter}
    for option, value in {**named, "threshold": threshold}.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"--{option} is empty; give a value, or leave the option out")
    given = list(settings or ())
    if threshold is not None:
        given.append(f"presence.threshold={threshold}")
    return {**merge_settings(given), **{key: value for key, value in named.items() if value}}


class Axis(StrEnum):
    """Planes in which a volume can be cut."""

    axial = "axial"
    coronal = "coronal"
    sagittal = "sagittal"


class SegType(StrEnum):
    """How a DICOM SEG stores its pixels."""

    binary = "binary"
    labelmap = "labelmap"
    fractional = "fractional"


class Tune(StrEnum):
    """How a preset's settings become a run's."""

    fixed = "fixed"
    label_free = "label-free"
    auto = "auto"


def segment(  # noqa: PLR0917  (typer takes options from the signature)
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Scans, folders, zips: DICOM NIfTI NRRD MHA PNG JPEG TIFF BMP WebP."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="PHRASE", help="What to segment; once for each target."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where masks and results.csv go.")] = ...,  # type: ignore[assignment]
    preset: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="See `lexiseg presets`.")] = "demo",
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Scans as id,image[,text]. Without --text each row's own text is asked for.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What the manifest's paths are relative to and where they may lead."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="ID|DIR", help="Another vision-language model than the preset's.")
    ] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="ID|DIR|PTH", help="Another SAM than the preset's.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    save_stages: Annotated[bool, typer.Option("--save-stages", help="Write saliency, region and prompts too.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Write a picture of each scan too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what DIR has; do what is missing or failed.")] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="png, nifti, nrrd, dicom-seg, rtstruct, stl, coco, nnunet; several by commas; else by the scan.",
        ),
    ] = None,
    seg_type: Annotated[SegType, typer.Option("--seg-type", help="Of DICOM SEG.")] = SegType.binary,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Pseudonyms for identifiers and UIDs in DICOM SEG and RTSTRUCT.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the preset."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="X|auto:...",
            help="Presence below which a phrase is absent, 0 to 1; or auto:sensitivity=0.95, auto:specificity=0.9.",
        ),
    ] = None,
    plane: Annotated[
        Axis | None, typer.Option("--axis", help="The plane in which volumes are cut, else the acquired one.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|C,W",
            help="Black and white: auto, file, percentiles, lung, soft-tissue, bone, brain, or centre,width.",
        ),
    ] = None,
    propagate: Annotated[
        bool,
        typer.Option("--propagate", help="Carry a volume's surest slices to their neighbours by the segmenter."),
    ] = False,
    series: SERIES = None,
    all_series: ALL_SERIES = False,
    all_patients: ALL_PATIENTS = False,
    volume: VOLUME = None,
    stack: STACK = False,
    spacing: SPACING = None,
    tune: Annotated[
        Tune,
        typer.Option(
            help="fixed: the preset's settings; label-free: the surest of a few on some of the scans; auto: label-free "
            "where that takes seconds."
        ),
    ] = Tune.fixed,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of every random number.")] = 0,
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Segment scans by a phrase.

    Writes NAME_mask.png (0 and 255, the scan's size) for each NAME.ext, or NAME_mask.nii.gz for a volume,
    results.csv, files.csv and run.json. A DICOM series also gets NAME_mask.seg.dcm. Where several phrases are
    asked each has its own NAME_mask_PHRASE, and NAME_labels.png tells them apart (k is the k-th phrase).

    DIR is the run's own: without --resume, what an earlier run wrote there is removed, and said.

    INPUT and --manifest may be given together: a file that the manifest lists is done once, under its id.

    A folder or zip of a study is read by its DICOM series; `lexiseg info` lists them.

    Exit status: 0 all done, 1 some scans failed (results.csv says why), 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.runs.formats import parse_formats
        from lexiseg.runs.segment import RunOptions, RunRequest, segment_files

        each, together = parse_formats(formats or ())

        changes = preset_changes(setting, threshold=threshold, encoder=encoder, segmenter=segmenter)
        looks = {"plane": plane.value if plane is not None else None, "window": window, "propagate": propagate or None}
        if chosen := {name: value for name, value in looks.items() if value is not None}:
            changes["volume"] = {**changes.get("volume", {}), **chosen}
        request = RunRequest(
            out=out,
            inputs=inputs or (),
            manifest=manifest,
            root=root,
            phrases=text or (),
            preset=preset,
            changes=changes,
            device=device,
            precision=precision,
            batch=batch,
            tune=tune.value,
            reading=source_options(
                series=series,
                all_series=all_series,
                all_patients=all_patients,
                volume=volume,
                stack=stack,
                spacing=spacing,
            ),
            options=RunOptions(
                save_stages=save_stages,
                overlay=overlay,
                resume=resume,
                seed=seed,
                formats=each,
                exports=together,
                seg_type=seg_type.value,
                deidentify=deidentify,
            ),
        )
        with run_bar(quiet=quiet) as (tell, fetched):
            summary = segment_files(request, progress=tell, fetched=fetched)
        if not quiet:
            talk().print(str(summary), markup=False)
        if summary.failed:
            raise typer.Exit(FAILED)
