"""`lexiseg`: the commands in one application."""

from __future__ import annotations

from typing import Annotated

import typer

import lexiseg
from lexiseg.cli import (
    benchmark,
    dataset,
    demo,
    evaluate,
    finetune,
    info,
    models,
    presets,
    retrieve,
    segment,
    serve,
    students,
    train,
)

app = typer.Typer(
    name="lexiseg",
    help="Say what to segment; get the mask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("segment")(segment.segment)
app.command("info")(info.info)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("evaluate")(evaluate.evaluate)
app.command("benchmark")(benchmark.benchmark)
app.command("pseudo-label")(students.pseudo_label)
app.command("train")(train.train)
app.command("predict")(students.predict)
app.command("distill")(students.distill)
app.command("finetune")(finetune.finetune)
app.command("retrieve")(retrieve.retrieve)
app.add_typer(dataset.app, name="dataset")
app.add_typer(models.app, name="models")
app.add_typer(presets.app, name="presets")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lexiseg {lexiseg.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Say what to segment; get the mask."""
