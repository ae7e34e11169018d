"""Cross-validation's models at once: ``python -m recipe.side_by_side --data DIR --out runs``.

For a GPU that one training leaves idle: the encoder's three parts for each fold, and one segmenter for every
two folds, each a process of its own.  Batches cost more than what the GPU does with them, so the first two
parts of a fold learn from the same: the first goes the second's course.  Their folders are those of
`recipe.train`; a killed run goes on where it was.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Annotated, Any

import lightning.fabric  # noqa: F401  (which every process needs: imported once)
import torch
import typer
import yaml
from torch import multiprocessing
from torch.multiprocessing import Queue

from recipe.data import folds_of, phantom_samples, real_samples
from recipe.encoder import EncoderBatches
from recipe.loop import Batches, batches_of
from recipe.phases import shortened
from recipe.segmenter import SegmenterBatches
from recipe.train import CONFIG, Which, loop_of, task_and_export

FOLDS = (1, 2, 3, 4)
"""All but that of the bundled models."""
AHEAD = 6
"""Batches that wait for each model."""


@dataclass(frozen=True)
class Run:
    """A model to train: what it is called, which, and the settings of its section of the recipe."""

    name: str
    which: Which
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Models that learn from the same batches, of all samples but those of the folds `without`."""

    runs: tuple[Run, ...]
    without: tuple[int, ...]


def groups_of(recipe: Mapping[str, Any], folds: Sequence[int], length: float) -> list[Group]:
    """The encoder's parts for each fold, and a segmenter for every two."""
    second, third = (shortened(recipe[part], length) for part in ("second", "third"))
    first = {**recipe["encoder"], **{part: second[part] for part in ("phases", "mix", "shares")}}
    segmenter = shortened(recipe["segmenter"], length)
    small = [
        Group((Run(f"encoder-{k}", Which.encoder, first), Run(f"second-{k}", Which.second, second)), (k,))
        for k in folds
    ]
    large = [Group((Run(f"third-{k}", Which.third, third),), (k,)) for k in folds]
    pairs = [tuple(folds[i : i + 2]) for i in range(0, len(folds), 2)]
    return [*small, *large] + [
        Group((Run(f"segmenter-{'-'.join(map(str, pair))}", Which.segmenter, segmenter),), pair) for pair in pairs
    ]


def _end_with_parent() -> None:
    """End this process soon after the one that started it, however that ended: nobody else would."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _give(batches: Batches, queues: Sequence[Queue[Any]], start: int, workers: int) -> None:
    """A group's batches, each to all of its models."""
    _end_with_parent()
    torch.set_num_threads(1)
    for step, batch in enumerate(batches_of(batches, start, workers=workers), start):
        for queue in queues:
            queue.put((step, batch))
    signal.pause()  # until it is stopped: what was handed over is in its memory


def _train(run: Run, folder: Path, seed: int, queue: Queue[Any], device: str) -> None:
    """One model to its end, and its folder."""
    _end_with_parent()
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s {run.name} %(message)s", datefmt="%H:%M:%S", force=True
    )
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    task_class, export = task_and_export(run.which)
    task = task_class(run.settings, [], seed)

    def taken(start: int) -> Iterator[Any]:
        for step in range(start, task.steps):
            at, batch = queue.get()
            while at < step:
                at, batch = queue.get()
            yield batch

    loop = loop_of(task, run.settings, folder, device=device, source=taken)
    export(loop.run(every=500, log=100), run.settings, folder / "model")


def _step_of(folder: Path) -> int:
    """The step that a run goes on from."""
    checkpoint = folder / "last.pt"
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)["state"]["step"])


def main(
    *,
    out: Annotated[Path, typer.Option(help="folder for the models' folders")],
    data: Annotated[Path | None, typer.Option(help="folder with busi, cxr, hc18 and cheng")] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(min=0, max=4, help="held out; once for each [default: 1, 2, 3 and 4]"),
    ] = None,
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
    length: Annotated[float, typer.Option(min=0.001, help="how long the phases are; 1: as the recipe says")] = 1.0,
    workers: Annotated[int, typer.Option(min=0, help="processes that make a fold's batches")] = 2,
    device: str = "auto",
) -> None:
    """Train the encoder's parts for each fold, and segmenters, at once."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    torch.set_num_threads(1)
    recipe = yaml.safe_load(config.read_text())
    size, seed = recipe["store_size"], recipe["seed"]
    groups = groups_of(recipe, sorted(set(fold or FOLDS)), length)
    here = multiprocessing.get_context("fork")  # the samples are shared, not copied
    for run in (run for group in groups for run in group.runs):
        task_and_export(run.which)  # imported here once, and not by every process
    queues = {run.name: here.Queue(AHEAD) for group in groups for run in group.runs}
    trainings = [
        here.Process(target=_train, args=(run, out / run.name, seed, queues[run.name], device), name=run.name)
        for group in groups
        for run in group.runs
    ]
    starts = [min(_step_of(out / run.name) for run in group.runs) for group in groups]
    try:
        for training in trainings:
            training.start()  # they begin with words, which takes as long as reading the scans
        real = [] if data is None else list(real_samples(data, size, validation=False, fold=()))
        folds = [] if data is None else folds_of(data)
        phantoms = list(phantom_samples(recipe["phantoms"], size, seed))
        for group, start in zip(groups, starts, strict=True):
            samples = [sample for sample, k in zip(real, folds, strict=True) if k not in group.without]
            make = SegmenterBatches if group.runs[0].which is Which.segmenter else EncoderBatches
            batches = make(group.runs[0].settings, samples + phantoms, seed)
            mine = [queues[run.name] for run in group.runs]
            here.Process(target=_give, args=(batches, mine, start, workers)).start()
        _wait_for(trainings)
    finally:
        for process in multiprocessing.active_children():
            process.terminate()


def _wait_for(trainings: Sequence[Any]) -> None:
    """Until all have ended; one that fails ends the others, whose batches it would hold up."""
    while alive := [training for training in trainings if training.is_alive()]:
        connection.wait([training.sentinel for training in alive])
        if failed := [training.name for training in trainings if training.exitcode]:
            raise SystemExit(f"not trained: {', '.join(failed)}; run the command again to go on")


if __name__ == "__main__":
    typer.run(main)
