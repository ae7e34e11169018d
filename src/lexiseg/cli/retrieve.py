"""`lexiseg retrieve`: do images find their captions, and captions their images?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.terminal import AtOnce, LogLevel, Products, Threads, answer, count_bar, reporting, set_up_logging, talk
from lexiseg.machine import use_threads


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
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar; errors alone.")] = False,
) -> None:
    """Measure cross-modal retrieval: top-1 and top-2 in galleries of 50, and recall over all pairs.

    Pairs whose image or caption cannot be used are left out, and said.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting():
        import json

        from lexiseg.evaluation.retrieval import RETRIEVAL_FILES, RetrievalSettings
        from lexiseg.io.taken import refuse_taken
        from lexiseg.training.finetuning.embedding import plain_rows, retrieve_pairs, write_retrieval

        if out is not None:
            refuse_taken(out, RETRIEVAL_FILES, inputs=[pairs])
        settings = RetrievalSettings(gallery=gallery, shuffles=shuffles, seed=seed)
        with count_bar("images and captions", quiet=quiet) as tell:
            found = retrieve_pairs(
                pairs, encoder, settings=settings, part=split, min_caption=min_caption, device=device,
                precision=precision, batch=batch, progress=tell,
            )  # fmt: skip
        if out is not None:
            write_retrieval(found, out, encoder=encoder)
        if as_json:
            typer.echo(json.dumps(plain_rows(found), indent=2))
        else:
            from lexiseg.cli.tables import retrieval_table

            answer().print(retrieval_table(found))
        if out is not None and not quiet:
            talk().print(f"{out / 'retrieval.csv'} and retrieval.json hold the same", markup=False)
