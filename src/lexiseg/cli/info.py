"""`lexiseg info`: what files, folders and zips hold, by their headers alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli.reading import SERIES, SPACING, STACK, VOLUME, source_options
from lexiseg.cli.terminal import LogLevel, answer, reporting, set_up_logging

if TYPE_CHECKING:
    from rich.table import Table

    from lexiseg.io.describe import Description


def info(  # noqa: PLR0917  (typer takes options from the signature)
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Scans, folders of scans or studies, zips.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a list of objects.")] = False,
    series: SERIES = None,
    volume: VOLUME = None,
    stack: STACK = False,
    spacing: SPACING = None,
) -> None:
    """Say what is in files, folders and zips, without reading pixels or loading a model.

    One line for each scan: kind (image, volume, cine, not-an-image), size, spacing, plane, and what `segment` would do
    with it. A folder's DICOM series are counted :1, :2 and so on, for --series. Names and other data of patients are
    never shown; a series' description is, at the terminal alone.

    Exit status: 0, also where scans are refused; 2 where a PATH is missing or a folder cannot be read.
    """
    set_up_logging(LogLevel.warning)
    with reporting():
        from lexiseg.io.find import describe_inputs

        options = source_options(series=series, volume=volume, stack=stack, spacing=spacing)
        found = describe_inputs(paths, options)
        if as_json:
            typer.echo(json.dumps([each.as_dict() for each in found], indent=2, allow_nan=False))
            return
        answer().print(_table(found))
        for each in found:
            for line in (*each.notes, *filter(None, (each.error,))):
                answer().print(f"{each.path}: {line}" if line != each.error else line, markup=False, soft_wrap=True)


def _table(found: Sequence[Description]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    columns = (
        "",
        "path",
        "kind",
        "modality",
        "number",
        "description",
        "slices x rows x columns",
        "mm",
        "plane",
        "files",
    )
    for name in (*columns, "status"):
        table.add_column(name, overflow="fold")
    for each in found:
        size = "" if each.shape is None else " x ".join(map(str, each.shape))
        lengths = " ".join("-" if length is None else f"{length:.4g}" for length in each.spacing_mm)
        number = "" if each.number is None else str(each.number)
        cells = (each.place, each.path, each.kind, each.modality, number, each.text, size, lengths, each.plane)
        # As Text: names may hold brackets, which rich would read as markup.
        table.add_row(*(Text(cell) for cell in (*cells, str(each.files), each.status)))
    return table
