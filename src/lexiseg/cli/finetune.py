"""`lexiseg finetune`: teach an encoder what images and captions belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.cli.terminal import LogLevel, Threads, answer, finetune_bar, reporting, set_up_logging, talk
from lexiseg.machine import use_threads


def finetune(  # noqa: PLR0917  (typer takes options from the signature)
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS.csv", help="image,text[,group][,split]; or a MedPix or ROCO folder."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the encoder and the log go.")],
    encoder: Annotated[str, typer.Option(metavar="ID|DIR", help="The encoder to begin with.")] = "bundled",
    loss: Annotated[
        str | None, typer.Option(metavar="dhn-nce|hn-nce|dcl|infonce|as-released", help="The loss.")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="default|paper|FILE.yaml", help="Settings to begin with.")] = "default",
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Passes over the pairs.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", min=2, help="Pairs compared at once.")] = None,
    chunk: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Pairs in memory at once: cached gradients for large batches."),
    ] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate.")] = None,
    freeze: Annotated[str | None, typer.Option(metavar="none|image|text", help="Tower to leave.")] = None,
    lora: Annotated[
        int | None, typer.Option(metavar="RANK", min=0, help="Train low-rank adapters instead of weights.")
    ] = None,
    precision: Annotated[str | None, typer.Option(metavar="auto|float32|bfloat16|float16", help="Of products.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, such as temperature=0.1."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the model runs.")] = "auto",
    devices: Annotated[
        int, typer.Option(metavar="N", min=0, help="Processes, one device each; 0 asks the launcher.")
    ] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of every random number.")] = None,
    threads: Threads = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no table; errors alone.")] = False,
) -> None:
    """Fine-tune a vision-language encoder on image-caption pairs.

    DIR becomes an open_clip folder with the best epoch's weights, as `lexiseg segment --encoder DIR` takes;
    DIR/training holds the log (CSV, TensorBoard, curves.png) and the checkpoint that --resume goes on from.

    Exit status: 0 done, 1 the loss is not finite or the disk is full, 2 bad usage.
    """
    set_up_logging(log_level, quiet=quiet)
    use_threads(threads)
    with reporting(interrupted="stopped; the same command with --resume continues"):
        from lexiseg.training.finetuning.settings import load_settings
        from lexiseg.training.settings import parse_change

        named: dict[str, Any] = {
            "loss": loss, "epochs": epochs, "batch": batch, "chunk": chunk, "learning_rate": lr,
            "freeze": freeze, "lora_rank": lora, "precision": precision, "seed": seed,
        }  # fmt: skip
        changes = dict(parse_change(text) for text in setting or ())
        settings = load_settings(preset, **{**named, **changes})

        from lexiseg.cli.tables import history_table
        from lexiseg.training.finetuning.finetune import finetune as run

        with finetune_bar(quiet=quiet) as tell:
            report = run(
                pairs, out, encoder=encoder, settings=settings, device=device, devices=devices,
                resume=resume, progress=tell,
            )  # fmt: skip
        if not quiet:
            answer().print(history_table(report.history, report.best_epoch))
            early = ", stopped early" if report.stopped_early else ""
            talk().print(
                f"{report.train} pairs trained, {report.validation} validated, {report.skipped} left out"
                f"{early}; epoch {report.best_epoch} is in {report.folder}",
                markup=False,
            )
