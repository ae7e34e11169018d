"""`lexiseg dataset`: published data sets as manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.terminal import FAILED, LogLevel, answer, count_bar, reporting, set_up_logging, talk

app = typer.Typer(help="Data sets: make a manifest of one.", no_args_is_help=True, rich_markup_mode=None)

_MOST_LINES = 20


@app.command("import")
def import_one(  # noqa: PLR0917  (typer takes options from the signature)
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="See `lexiseg dataset layouts`.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The data set's folder, as unpacked.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="CSV", help="The manifest; in SRC or in a folder above, unless --copy."),
    ],
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Which masks, where there are several: lungs, infection, ...")
    ] = "",
    channel: Annotated[int, typer.Option(metavar="N", min=0, help="Of images with several: nnU-Net's _0000 is 0.")] = 0,
    text: Annotated[
        str, typer.Option(metavar="PHRASE", help="What to look for, for every row; else the target's name.")
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="70/15/15", help="Train/val/test (or train/test) by patient, at random.")
    ] = "",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of --split.")] = 0,
    copy: Annotated[bool, typer.Option("--copy", help="Copy scans and masks beside the manifest.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no summary; errors alone.")] = False,
) -> None:
    """Make a manifest of a published data set as downloaded.

    Writes id,image and, where known, mask,text,group,label,split and other columns. Masks that have to be
    merged, filled or extracted go into a folder beside the manifest; the data set is left as it is.

    Exit status: 0 all done, 1 something was left out, 2 bad usage (also: SRC is not of that layout).
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting():
        from lexiseg.datasets.importing import ImportRequest, import_dataset

        request = ImportRequest(
            layout=layout,
            source=source,
            out=out,
            target=target,
            channel=channel,
            text=text,
            split=split,
            seed=seed,
            copy=copy,
            overwrite=overwrite,
        )
        with count_bar("scans", quiet=quiet) as tell:
            imported = import_dataset(request, progress=tell)
        _tell_some(imported.problems, "problems")
        if not quiet:
            _tell_some([f"{name}: no mask" for name in imported.missing], "scans without a mask")
            splits = Counter(row.extra.get("split", "") for row in imported.rows)
            parts = "".join(f", {count} {name}" for name, count in splits.items() if name)
            counts = f"{len(imported.rows)} scans, {len(imported.missing)} without a mask{parts}"
            talk().print(f"{counts}: {imported.manifest}", markup=False)
        if imported.problems:
            raise typer.Exit(FAILED)


@app.command("layouts")
def list_layouts() -> None:
    """List the layouts that can be imported."""
    with reporting():
        from rich.table import Table

        from lexiseg.datasets.layouts.registry import LAYOUTS

        table = Table("layout", "set", "targets", "looks for", box=None, pad_edge=False)
        for each in LAYOUTS.values():
            table.add_row(each.name, each.about, ", ".join(each.targets), each.looks_for)
        answer().print(table, markup=False)


def _tell_some(lines: Sequence[str], of: str) -> None:
    for line in lines[:_MOST_LINES]:
        talk().print(line, style="yellow", markup=False)
    if len(lines) > _MOST_LINES:
        talk().print(f"... and {len(lines) - _MOST_LINES} more {of}", style="yellow", markup=False)
