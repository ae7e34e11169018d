"""`lexiseg benchmark`: a suite of sets, prompts and presets to a leaderboard."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.tables import rich_table
from lexiseg.cli.terminal import (
    FAILED,
    AtOnce,
    LogLevel,
    Products,
    Threads,
    answer,
    reporting,
    run_bar,
    set_up_logging,
    talk,
)
from lexiseg.machine import use_threads


def benchmark(  # noqa: PLR0917  (typer takes options from the signature)
    suite: Annotated[
        Path,
        typer.Argument(metavar="SUITE.yaml", help="Sets, prompts, presets and seeds; see benchmarks/suites."),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="What the sets' manifests are relative to.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where cells and the leaderboard go.")],
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many scans of each set.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="SET/PRESET", help="Only these cells, * for any; more than once."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Keep what DIR has and still counts; or do all of it again."),
    ] = True,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    date: Annotated[str, typer.Option(metavar="TEXT", help="A date line for the leaderboard.")] = "",
    seconds: Annotated[
        bool,
        typer.Option("--seconds/--no-seconds", help="Times too; without, equal runs give equal bytes."),
    ] = True,
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no tables; errors alone.")] = False,
) -> None:
    """Run the cells of a suite that are missing, and write the leaderboard.

    A cell is a set, a preset, a kind of prompt and a seed. What DIR holds already of the same settings,
    weights and scans is kept, so a run that was stopped goes on where it was. Writes leaderboard.md,
    leaderboard.csv, leaderboard.json and sensitivity.csv beside the cells.

    Exit status: 0 all done, 1 some scans failed or a preset's models cannot be had, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command continues"):
        from lexiseg.benchmark.report import leaderboard_tables
        from lexiseg.benchmark.run import BenchmarkRequest, run_benchmark
        from lexiseg.runs.segment import RunProgress

        request = BenchmarkRequest(
            suite=suite,
            data=data,
            out=out,
            limit=limit,
            only=tuple(only or ()),
            resume=resume,
            device=device,
            precision=precision,
            batch=batch,
            command=_command(suite, limit, only=only or (), device=device, precision=precision, batch=batch),
            date=date,
            seconds=seconds,
        )
        with run_bar(quiet=quiet) as (tell, fetched):
            summary = run_benchmark(
                request,
                progress=tell,
                fetched=fetched,
                scoring=lambda done, total: tell(RunProgress(done, total, "scoring", 0)),
            )
        if not quiet:
            for table in leaderboard_tables(summary.leaderboard):
                answer().print(rich_table(table))
            for note in (*summary.leaderboard.notes, *summary.leaderboard.unusable):
                talk().print(note, markup=False)
            talk().print(
                f"{summary.cells} cells, {summary.ran} of them run now, {summary.failed} scans failed: "
                f"{summary.written[0]}",
                markup=False,
            )
        if not summary.complete:
            raise typer.Exit(FAILED)


def _command(
    suite: Path, limit: int | None, *, only: Sequence[str], device: str, precision: str, batch: int | None
) -> str:
    """What to type to get the same numbers; folders are the reader's own."""
    parts = ["lexiseg", "benchmark", suite.name if suite.is_absolute() else suite.as_posix()]
    parts += ["--data", "DIR", "--out", "DIR"]
    parts += ["--limit", str(limit)] if limit is not None else []
    parts += [part for each in only for part in ("--only", each)]
    parts += ["--device", device] if device != "auto" else []
    parts += ["--precision", precision] if precision != "auto" else []
    parts += ["--batch", str(batch)] if batch is not None else []
    return shlex.join(parts)
