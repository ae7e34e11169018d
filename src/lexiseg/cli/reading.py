"""Options that say what is read of folders, zips and files of several volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lexiseg.io.sources import SourceOptions

SERIES = Annotated[
    list[str] | None,
    typer.Option("--series", metavar="N|UID|TEXT|:K", help="Which DICOM series of a folder; see `lexiseg info`."),
]
ALL_SERIES = Annotated[bool, typer.Option("--all-series", help="Every DICOM series of a folder.")]
ALL_PATIENTS = Annotated[bool, typer.Option("--all-patients", help="Also folders with more than one patient.")]
VOLUME = Annotated[
    int | None, typer.Option("--volume", metavar="N", help="Which of several volumes (time points, echoes), from 1.")
]
STACK = Annotated[bool, typer.Option("--stack", help="A folder's pictures, or a TIFF's pages, are one volume.")]
SPACING = Annotated[
    str | None, typer.Option("--spacing", metavar="S,R,C", help="Of a stack: mm from slice to slice, row, column.")
]


def source_options(
    *,
    series: list[str] | None,
    volume: int | None,
    stack: bool,
    spacing: str | None,
    all_series: bool = False,
    all_patients: bool = False,
) -> SourceOptions:
    """The options as one value.

    Raises:
        UsageError: they contradict each other, or the spacing is no three lengths.
    """
    from lexiseg.errors import UsageError
    from lexiseg.io.sources import SourceOptions

    lengths: tuple[float, ...] = ()
    if spacing is not None:
        try:
            lengths = tuple(float(part) for part in spacing.split(","))
        except ValueError:
            lengths = ()
        if len(lengths) != 3:
            raise UsageError(f"--spacing is {spacing!r}; expected three lengths in mm such as 5,0.5,0.5")
    return SourceOptions(
        series=tuple(series or ()),
        all_series=all_series,
        all_patients=all_patients,
        volume=volume,
        stack=stack,
        spacing=(lengths[0], lengths[1], lengths[2]) if lengths else None,
    )
