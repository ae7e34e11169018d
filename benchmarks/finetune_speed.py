"""Pairs a second and peak memory of fine-tuning: ours, and open_clip's own training loop.

    python benchmarks/finetune_speed.py table [PAIRS.csv] [--batch 16] [--times 16] [--limit 320]

Each trainer runs in a process of its own, on the same tower, batch and images: in the same number format, and in the
one that ours chooses by itself.  The first epoch is not timed (reading images, growing memory); memory is what the
process has gained since the model and the images were loaded.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import lexiseg
from common import peak_mib
from lexiseg.datasets.pairs.pairs import Pair, PairSet
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.models.loading import load_encoder
from lexiseg.training.fabric import make_fabric
from lexiseg.training.finetuning.batches import Batches
from lexiseg.training.finetuning.data import readable
from lexiseg.training.finetuning.embedding import padding_of, tokenize
from lexiseg.training.finetuning.parameters import choose_trainable
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.finetuning.step import Towers, accumulate_gradient
from lexiseg.training.optimizing import adamw, parameter_groups

app = typer.Typer(add_completion=False)
LR = 1e-5


def timed(epoch: Callable[[int], int], epochs: int) -> dict[str, float]:
    """Run epochs; time all but the first."""
    before = peak_mib()
    epoch(0)
    began, pairs = time.perf_counter(), 0
    for number in range(1, epochs + 1):
        pairs += epoch(number)
    return {
        "pairs_per_second": pairs / (time.perf_counter() - began),
        "gained_mib": peak_mib() - before,
        "peak_mib": peak_mib(),
    }


def ours(found: PairSet, encoder_name: str, batch: int, chunk: int, epochs: int, precision: str) -> dict[str, float]:
    """lexiseg's step, fed as `lexiseg finetune` feeds it."""
    settings = FinetuneSettings(
        loss="infonce", temperature=0.07, batch=batch, chunk=chunk, augment=False, mask_duplicates=False,
        precision=precision, learning_rate=LR,
    )  # fmt: skip
    encoder = load_encoder(encoder_name, device="cpu", precision="float32")
    choose_trainable(encoder.model, settings)
    kept, store = readable(found, encoder.input_size)
    fabric = make_fabric("cpu", settings.precision)
    tokens = tokenize(encoder, [pair.text for pair in kept.pairs])
    batches = Batches(kept.pairs, store, tokens, encoder.mean, settings, padding=padding_of(encoder))
    bare = Towers(encoder).to(memory_format=torch.channels_last)
    groups = parameter_groups(encoder.model, weight_decay=settings.weight_decay)
    optimizer = adamw(groups, device=fabric.device, lr=LR)
    towers, optimizer = fabric.setup(bare, optimizer)

    def epoch(number: int) -> int:
        bare.train()
        for each in batches.epoch(number):
            optimizer.zero_grad(set_to_none=True)
            accumulate_gradient(fabric, towers, each, settings)
            fabric.clip_gradients(towers, optimizer, max_norm=1.0)
            optimizer.step()
        return batches.per_epoch * batches.size

    return timed(epoch, epochs)


class Files(Dataset[Any]):
    """What open_clip's CSV data set does: open, transform and tokenize each time."""

    def __init__(self, pairs: tuple[Pair, ...], transform: Any, tokenizer: Any) -> None:
        self.pairs, self.transform, self.tokenizer = pairs, transform, tokenizer

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        pair = self.pairs[index]
        with Image.open(pair.image) as image:
            return self.transform(image), self.tokenizer([pair.text])[0]


def theirs(found: PairSet, encoder_name: str, batch: int, epochs: int, workers: int) -> dict[str, float]:
    """open_clip_train's train_one_epoch, with open_clip's own transforms for validation (no augmentation)."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from open_clip_train.train import train_one_epoch

    encoder = load_encoder(encoder_name, device="cpu", precision="float32")
    model: Any = encoder.model.requires_grad_(True)
    model.output_dict = True
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    loader: Any = DataLoader(
        Files(found.pairs, transform, encoder.tokenizer),
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
    )
    loader.num_samples, loader.num_batches = len(found.pairs), len(loader)
    args = argparse.Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, horovod=False,
        grad_clip_norm=1.0, rank=0, local_rank=0, world_size=1, log_every_n_steps=10**9, batch_size=batch,
        wandb=False, save_logs=False, log_local=False, tensorboard=False,
    )  # fmt: skip

    class Train:
        dataloader = loader

        def set_epoch(self, number: int) -> None:
            pass

    data = {"train": Train()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    loss = open_clip.ClipLoss()

    def epoch(number: int) -> int:
        train_one_epoch(model, data, loss, number, optimizer, None, None, None, args)
        return len(loader) * batch

    return timed(epoch, epochs)


@app.command("one", hidden=True)
def one(
    who: str, pairs: Path, encoder: str, batch: int, chunk: int, epochs: int, limit: int, workers: int, precision: str
) -> None:
    """One trainer in this process."""
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    found = read_pairs(pairs)
    found = PairSet(found.pairs[:limit])
    result = (
        ours(found, encoder, batch, chunk, epochs, precision)
        if who == "lexiseg"
        else theirs(found, encoder, batch, epochs, workers)
    )
    print(json.dumps(result))


def measured(*arguments: Any) -> dict[str, float]:
    """`one` in a process of its own."""
    command = [sys.executable, __file__, "one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speed_table(
    pairs: Path,
    *,
    encoder: str = "bundled",
    batch: int = 16,
    times: int = 16,
    epochs: int = 1,
    limit: int = 320,
) -> list[dict[str, Any]]:
    """Print pairs a second and memory, and return the rows."""
    large, workers = batch * times, 1
    plan = [
        ("open_clip", f"open_clip_train, {workers} worker, float32", batch, 0, "float32"),
        ("lexiseg", "lexiseg, float32", batch, 0, "float32"),
        ("lexiseg", "lexiseg, precision auto", batch, 0, "auto"),
        ("lexiseg", f"lexiseg, precision auto, cached gradients, chunks of {batch}", large, batch, "auto"),
    ]
    print("| trainer | batch | pairs a second | memory gained, MiB | peak, MiB |\n|---|---|---|---|---|")
    rows = []
    for who, name, size, chunk, precision in plan:
        found = measured(who, pairs, encoder, size, chunk, epochs, max(limit, size), workers, precision)
        rows.append({"trainer": name, "batch": size, **found})
        numbers = f"{found['pairs_per_second']:.1f} | {found['gained_mib']:.0f} | {found['peak_mib']:.0f}"
        print(f"| {name} | {size} | {numbers} |", flush=True)
    return rows


@app.command("table")
def table(
    pairs: Annotated[Path | None, typer.Argument(help="image,text; phantoms when none is named")] = None,
    encoder: str = "bundled",
    batch: int = 16,
    times: Annotated[int, typer.Option(help="how much larger the batch of cached gradients is")] = 16,
    epochs: int = 1,
    limit: Annotated[int, typer.Option(help="pairs in an epoch")] = 320,
) -> None:
    """Print the table of speed and memory."""
    from lexiseg.datasets.pairs.phantoms import write_phantom_pairs

    print(f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads\n")
    with tempfile.TemporaryDirectory() as temporary:
        count = max(limit, batch * times)
        place = pairs or write_phantom_pairs(temporary, count=count, size=128, workers=2)
        speed_table(place, encoder=encoder, batch=batch, times=times, epochs=epochs, limit=limit)


if __name__ == "__main__":
    app()
