"""`lexiseg retrieve`: do images find their captions, and captions their images?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lexiseg.cli.bars import count_bar
from lexiseg.cli.terminal import LogLevel, answer, reporting, set_up_logging, talk
from lexiseg.evaluation.retrieval import DIRECTIONS, Retrieval


def retrieval_table(found: Retrieval) -> Table:
    """A line for each measure: both directions with their spread over shuffles and their interval."""
    title = f"{found.pairs} pairs, {found.captions} captions that differ"
    if found.shuffles > 1:
        title += f"; galleries of {found.gallery} dealt {found.shuffles} times, seed {found.seed}"
    table = Table(title=title, title_justify="left")
    table.add_column("measure", no_wrap=True)
    for direction in DIRECTIONS:
        table.add_column(direction, justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("by chance", justify="right", no_wrap=True)
    count = len(found.scores) // len(DIRECTIONS)
    for first, second in zip(found.scores[:count], found.scores[count:], strict=True):
        cells = []
        for each in (first, second):
            spread = "" if math.isnan(each.spread) else f" ± {100 * each.spread:.1f}"
            cells += [f"{100 * each.value:.1f}{spread}", _interval(each.interval)]
        table.add_row(first.measure, *cells, f"{100 * first.chance:.1f}")
    return table


def history_table(history: Sequence[Mapping[str, Any]], best: int) -> Table:
    """A line for each epoch of a fine-tuning run; the best is marked."""
    table = Table(title="validation retrieval, % of queries", title_justify="left")
    columns = [f"{measure} {direction}" for measure in ("top-1", "top-2") for direction in DIRECTIONS]
    table.add_column("epoch", no_wrap=True)
    for name in ("loss", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    for row in history:
        epoch = "before" if row["epoch"] == 0 else f"{row['epoch']}{' *' if row['epoch'] == best else ''}"
        loss = "-" if math.isnan(row["loss"]) else f"{row['loss']:.4f}"
        table.add_row(epoch, loss, *(f"{100 * row[name]:.1f}" for name in columns))
    return table


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def retrieve(  # noqa: PLR0917  (typer takes options from the signature)
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS.csv", help="image,text[,group][,split]; or a MedPix or ROCO folder."),
    ],
    encoder: Annotated[
        str, typer.Option(metavar="ID|DIR", help="A vision-language model, or a folder of `finetune`.")
    ] = "bundled",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write retrieval.csv and retrieval.json.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="all|train|val|test", help="Only this part of the pairs' own split.")
    ] = "all",
    gallery: Annotated[int, typer.Option(metavar="N", min=2, help="Candidates in a gallery.")] = 50,
    shuffles: Annotated[int, typer.Option(metavar="N", min=1, help="Deals into galleries.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the deals.")] = 0,
    min_caption: Annotated[int, typer.Option(metavar="N", min=1, help="Leave out captions with fewer characters.")] = 1,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the model runs.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For programs: JSON instead of a table.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar; errors alone.")] = False,
) -> None:
    """Measure cross-modal retrieval: top-1 and top-2 in galleries of 50, and recall over all pairs.

    Pairs whose image or caption cannot be used are left out, and said.
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting():
        import json

        from lexiseg.evaluation.retrieval import RetrievalSettings
        from lexiseg.training.finetuning.embedding import plain_rows, retrieve_pairs, write_retrieval

        settings = RetrievalSettings(gallery=gallery, shuffles=shuffles, seed=seed)
        with count_bar("images and captions", quiet=quiet) as tell:
            found = retrieve_pairs(
                pairs, encoder, settings=settings, part=split, min_caption=min_caption, device=device,
                progress=tell,
            )  # fmt: skip
        if out is not None:
            write_retrieval(found, out, encoder=encoder)
        if as_json:
            typer.echo(json.dumps(plain_rows(found), indent=2))
        else:
            answer().print(retrieval_table(found))
        if out is not None and not quiet:
            talk().print(f"{out / 'retrieval.csv'} and retrieval.json hold the same", markup=False)
