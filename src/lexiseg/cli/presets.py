"""`lexiseg presets`: which presets there are, and what is in them."""

from __future__ import annotations

from typing import Annotated

import typer

from lexiseg.cli.terminal import answer, reporting

app = typer.Typer(help="Presets: models and settings by name.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _presets(context: typer.Context) -> None:
    """List the presets, or show one."""
    if context.invoked_subcommand is None:
        list_presets()


@app.command("list")
def list_presets() -> None:
    """List the presets that ship with lexiseg."""
    with reporting():
        from rich.table import Table

        from lexiseg.pipelines.preset import load_preset, preset_names

        table = Table("preset", "pipeline", "encoder", "segmenter", "about", box=None, pad_edge=False)
        for name in preset_names():
            preset = load_preset(name)
            table.add_row(name, preset.pipeline, preset.encoder, preset.segmenter, preset.about)
        answer().print(table)


@app.command("show")
def show_preset(name: Annotated[str, typer.Argument(metavar="NAME|FILE.yaml")]) -> None:
    """Print a preset as YAML: a start for one of your own."""
    with reporting():
        import yaml

        from lexiseg.pipelines.preset import load_preset

        fields = load_preset(name).as_dict()
        typer.echo(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100), nl=False)
