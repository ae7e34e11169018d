"""`lexiseg serve`: a page to ask, correct and take away, for one person or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.terminal import AtOnce, LogLevel, Products, Threads, answer, reporting, set_up_logging
from lexiseg.machine import use_threads


def serve(  # noqa: PLR0917  (typer takes options from the signature)
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="Scans for a worklist, doubtful ones first.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="PHRASE", help="Asked of every scan of the worklist.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", metavar="DIR", help="Where the worklist's masks and results.csv go, or a finished run."
        ),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="0.0.0.0 lets others in, who need the token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help='What visitors must bring; "new" makes one.')
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A host name that the server is reached by.")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="See `lexiseg presets`.")] = "demo",
    segmenter: Annotated[
        str, typer.Option(metavar="ID|DIR|FILE", help="In place of the preset's; draws clicks and boxes too.")
    ] = "",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the models run.")] = "auto",
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Keep uploads and edits here; else they go at shutdown."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    threads: Threads = None,
    batch: AtOnce = None,
    precision: Products = "auto",
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
) -> None:
    """Serve a page: type a phrase, see why, correct it with a click, take the mask away.

    Nothing leaves this machine, and nobody else gets in unless --host says so; then the printed address holds a token.

    Exit status: 0 stopped, 1 something failed, 2 bad usage (a port in use, an unknown preset).
    """
    set_up_logging(log_level)
    use_threads(threads)
    with reporting():
        from lexiseg.serve.run import serve as run
        from lexiseg.serve.settings import ServeSettings

        settings = ServeSettings(
            host=host,
            port=port,
            token="" if token == "new" else token,  # noqa: S105  (not a password: a word)
            preset=preset,
            segmenter=segmenter,
            device=device,
            precision=precision,
            batch=batch,
            folder=folder,
            results=results,
            phrases=tuple(text or ()),
            state=state,
            names=tuple(name or ()),
        )

        def told(address: str) -> None:
            answer().print(f"lexiseg serve: {address}", markup=False, soft_wrap=True)
            answer().print("Ctrl-C stops it", markup=False)
            if open_page:
                import webbrowser

                webbrowser.open(address)

        run(settings, told=told)
