"""`lexiseg demo`: see it work, on scans that need nobody's consent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.terminal import FAILED, AtOnce, LogLevel, Products, Threads, answer, reporting, run_bar, set_up_logging
from lexiseg.machine import use_threads


def demo(  # noqa: PLR0917  (typer takes options from the signature)
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where scans, results and figures go.")] = Path(
        "lexiseg-demo"
    ),
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed, other scans.")] = 0,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Scans of each modality.")] = 2,
    preset: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="See `lexiseg presets`.")] = "demo",
    encoder: Annotated[str | None, typer.Option(metavar="ID|DIR", help="Another vision-language model.")] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="ID|DIR|PTH", help="Another SAM.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar.")] = False,
) -> None:
    """Segment phantom scans of each modality by text, and draw what came of it.

    The phantoms are procedural: they show that everything works, not how well it does on patients.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting():
        from lexiseg.runs.demo import DemoOptions, run_demo

        named = {"encoder": encoder, "segmenter": segmenter}
        options = DemoOptions(
            seed=seed,
            count=count,
            preset=preset,
            changes={key: value for key, value in named.items() if value},
            device=device,
            precision=precision,
            batch=batch,
        )
        with run_bar(quiet=quiet) as (tell, fetched):
            report = run_demo(out, options, progress=tell, fetched=fetched)
        from lexiseg.cli.tables import demo_table

        answer().print(demo_table(report))
        answer().print(f"{report.overview} shows them; a figure for each is in {out / 'figures'}", markup=False)
        if report.summary.failed:
            raise typer.Exit(FAILED)
