"""Make the bundled models again: ``python -m recipe.train encoder --data DIR --out DIR``.

`--data` is a folder that holds busi/, cxr/, hc18/ and cheng/, each with manifest.csv, images and masks; `next` takes
every set of sets.yaml that lies there.  Without it the models are trained on phantoms alone.  A killed run goes on
where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
import yaml

from recipe.data import Sample, phantom_samples, real_samples
from recipe.phases import shortened
from recipe.sets import all_samples

if TYPE_CHECKING:
    from recipe.loop import Loop


logger = logging.getLogger(__name__)
CONFIG = Path(__file__).with_name("recipe.yaml")


class Which(StrEnum):
    """The bundled pair (of the encoder three parts, which `recipe.join` puts together), what
    students begin from, and the next generation's image tower and segmenter."""

    encoder = "encoder"
    second = "second"
    third = "third"
    segmenter = "segmenter"
    unet = "unet"
    next = "next"
    next_more = "next_more"
    next_second = "next_second"
    next_segmenter = "next_segmenter"


class Precision(StrEnum):
    """Of the forward pass, as Lightning names it."""

    float32 = "32-true"
    bfloat16 = "bf16-mixed"


def training_samples(config: dict[str, Any], data: Path | None, which: Which = Which.encoder) -> list[Sample]:
    """Real training samples (where a folder is given) and phantoms."""
    size, phantoms = config["store_size"], config["phantoms"]
    read = real_samples
    if which.value.startswith("next"):
        read, phantoms = all_samples, round(phantoms * config[which.value]["phantom_share"])
    samples = [] if data is None else list(read(data, size, validation=False, fold=config["fold"]))
    logger.info("%d real training samples", len(samples))
    samples += phantom_samples(phantoms, size, config["seed"])
    logger.info("%d samples with phantoms", len(samples))
    return samples


def task_and_export(which: Which) -> tuple[Any, Any]:
    """The class of a model's task, and what writes the model."""
    # Imported here: each needs libraries that the others do without.
    if which in (Which.encoder, Which.second, Which.third):
        from recipe.encoder import EncoderTask
        from recipe.export import export_encoder

        return EncoderTask, export_encoder
    if which in (Which.next, Which.next_more, Which.next_second):
        from recipe.concept_encoder import ConceptTask
        from recipe.export import export_concepts

        return ConceptTask, export_concepts
    if which in (Which.segmenter, Which.next_segmenter):
        from recipe.export import export_segmenter
        from recipe.segmenter import SegmenterTask

        return SegmenterTask, export_segmenter
    from recipe.export import export_unet
    from recipe.unet import UnetTask

    return UnetTask, export_unet


def loop_of(task: Any, settings: Mapping[str, Any], folder: Path, precision: str | None = None, **how: Any) -> Loop:
    """The training of a task as its section of the recipe says; `how` is what `Loop` takes besides."""
    from recipe.loop import Loop

    return Loop(
        task,
        folder,
        weight_decay=settings["weight_decay"],
        clip=settings["clip"],
        mix=settings.get("mix"),
        slow=settings.get("slow"),
        precision=Precision(precision or settings.get("precision", "32-true")).name,
        identity={"settings": settings},
        **how,
    )


def main(
    which: Which,
    *,
    out: Annotated[Path, typer.Option(help="folder for checkpoints, log and the finished model")],
    data: Annotated[Path | None, typer.Option(help="folder with busi, cxr, hc18 and cheng")] = None,
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
    length: Annotated[float, typer.Option(min=0.001, help="how long the phases are; 1: as the recipe says")] = 1.0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    precision: Annotated[
        Precision | None,
        typer.Option(help="32-true or bf16-mixed; left out: as the recipe says (bf16 is slow on old CPUs)"),
    ] = None,
    older: Annotated[
        Path | None, typer.Option(help="clip/ of the bundled models that `next` begins from; left out: of today's")
    ] = None,
    device: str = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="processes that make batches ahead: for a GPU with idle cores")
    ] = 0,
) -> None:
    """Train one of the bundled models and export it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    recipe = yaml.safe_load(config.read_text())
    if threads:
        torch.set_num_threads(threads)
    seed = recipe["seed"]
    torch.manual_seed(seed)
    samples = training_samples(recipe, data, which)
    settings = shortened(recipe[which.value], length)
    if older is not None:
        settings["older"] = str(older)
    task, export = task_and_export(which)
    loop = loop_of(task(settings, samples, seed), settings, out, precision, device=device, workers=workers)
    every = settings.get("checkpoint_every", 100)
    loop.run(every=every, after=lambda model, step: export(model, settings, out / "model"))


if __name__ == "__main__":
    typer.run(main)
