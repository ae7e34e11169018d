"""`lexiseg models`: what is bundled, cached and known; fetch; check."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.terminal import FAILED, answer, download_bar, reporting, talk

app = typer.Typer(help="Models: what is bundled, cached and known.", no_args_is_help=True, rich_markup_mode=None)


class ModelKind(StrEnum):
    """What a model is for."""

    encoder = "encoder"
    segmenter = "segmenter"


@app.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: everything, as JSON.")] = False,
) -> None:
    """List models: bundled, pulled, in the hub's cache, and known by name."""
    with reporting():
        from lexiseg.models.weights.status import list_models

        rows = list_models()
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, default=str))
            return
        from rich.table import Table

        columns = ("model", "kind", "where", "MB", "licence", "revision", "sha256", "about")
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            size = f"{row.megabytes:.0f}" if row.megabytes else ""
            note = f"{row.note}; gated" if row.gated else row.note
            table.add_row(row.id, row.kind, row.state, size, row.licence, row.revision[:12], row.sha256[:12], note)
        answer().print(table)


@app.command("pull")
def pull_one(
    model: Annotated[str, typer.Argument(metavar="ORG/REPO", help="A model of the hub.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Another folder than the usual.")] = None,
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit.")] = None,
    kind: Annotated[ModelKind | None, typer.Option(help="Where the repository holds both.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar.")] = False,
) -> None:
    """Fetch a model, so that it works with the network unplugged."""
    with reporting(interrupted="stopped; the same command continues"):
        from lexiseg.models.weights.download import pull

        with download_bar(quiet=quiet) as tell:
            folder = pull(model, out=out, revision=revision, kind=kind.value if kind else None, progress=tell)
        answer().print(str(folder), markup=False, soft_wrap=True)


@app.command("describe")
def describe(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: everything, as JSON.")] = False,
) -> None:
    """Say what the bundled models know, by kind of scan, and how well they draw it."""
    with reporting():
        from lexiseg.models.weights.described import bundled_description

        told = bundled_description()
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(told), indent=2))
            return
        from rich.table import Table

        table = Table("scan", "phrase", "score (95 % interval)", box=None, pad_edge=False)
        for kind in told.kinds:
            for score in kind.scores:
                table.add_row(kind.scan, score.phrase, str(score))
            if kind.known:
                table.add_row(kind.scan, ", ".join(kind.known), "taught, not measured")
        answer().print(table)
        made = f"patients that were never trained on, text only; {told.command}, {told.date}"
        answer().print(made, markup=False, soft_wrap=True)


@app.command("check")
def check(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL...]", help="Names, folders, files; else bundled.")
    ] = None,
) -> None:
    """Recompute checksums and compare them with the record."""
    with reporting():
        from lexiseg.models.weights.status import check_model

        checks = [check_model(name) for name in models or ["bundled"]]
        for each in checks:
            for file in each.files:
                verdict = "ok" if file.ok and file.recorded else "not recorded" if file.ok else "DIFFERS"
                verdict = verdict if file.found else "MISSING"
                answer().print(f"{each.id}  {file.name}  {file.found[:16]}  {verdict}", markup=False)
        if not all(each.ok for each in checks):
            talk().print("some files are not what was recorded; pull the model again", style="bold red")
            raise typer.Exit(FAILED)


@app.command("export")
def export_one(
    student: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder by `lexiseg train` or `distill`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.pt2|FILE.onnx", help="Where it goes.")] = ...,  # type: ignore[assignment]
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write a student as one file for other programs: torch's own format, or ONNX."""
    with reporting():
        from lexiseg.errors import UsageError
        from lexiseg.io.names import printable

        if out.is_file() and not overwrite:
            raise UsageError(f"{printable(str(out))}: it is there already; choose another name or add --overwrite")
        from lexiseg.training.students.config import read_config
        from lexiseg.training.students.export import description_of, export_student

        written, known = export_student(student, out), description_of(read_config(student))
        told = f"it takes {known['input']}; it gives {known['output']}: {', '.join(known['targets'])}"
        talk().print(f"written: {written}; {told}", markup=False, soft_wrap=True)
