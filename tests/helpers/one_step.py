"""One step's loss and gradient, in this process alone or as one of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

VARIANTS: dict[str, dict[str, Any]] = {
    "at once": {},
    "in chunks": {"chunk": 3},
    "learnt temperature": {"temperature": 0.0},
    "learnt temperature, in chunks": {"temperature": 0.0, "chunk": 2},
}


def one_step(tower: Path, pairs: Path, *, devices: int = 1, **changes: Any) -> dict[str, Any]:
    """The loss, and the gradient of every weight that is trained, in float64.

    What is cut or spread otherwise is added up in another order: of that nothing may show but rounding, and
    of how a CPU rounds nothing either.
    """
    from lexiseg.datasets.pairs.read import read_pairs
    from lexiseg.models.loading import load_encoder
    from lexiseg.training.fabric import make_fabric
    from lexiseg.training.finetuning.batches import Batches
    from lexiseg.training.finetuning.data import readable
    from lexiseg.training.finetuning.embedding import tokenize
    from lexiseg.training.finetuning.parameters import choose_trainable
    from lexiseg.training.finetuning.settings import FinetuneSettings
    from lexiseg.training.finetuning.step import Towers, accumulate_gradient

    torch.set_num_threads(1)
    settings = FinetuneSettings(batch=16, augment=True, **{"temperature": 0.1, "loss": "hn-nce", **changes})
    encoder = load_encoder(str(tower), device="cpu", precision="float32")
    choose_trainable(encoder.model, settings)
    kept, store = readable(read_pairs(pairs), encoder.input_size)
    fabric = make_fabric("cpu", "float64", devices=devices)
    tokens = tokenize(encoder, [pair.text for pair in kept.pairs])
    batches = Batches(
        kept.pairs, store, tokens, encoder.mean, settings, rank=fabric.global_rank, world=fabric.world_size
    )
    bare = Towers(encoder).double()
    towers = fabric.setup(bare)
    bare.train()
    batch = batches.load(0, 0, batches.plan(0)[0])
    batch = replace(batch, pixels=batch.pixels.double())
    loss = accumulate_gradient(fabric, towers, batch, settings)
    gradients = {name: each.grad for name, each in bare.named_parameters() if each.grad is not None}
    return {"loss": loss, "pairs": len(batch.pixels), "gradients": gradients}
