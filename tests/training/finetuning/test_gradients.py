"""The same gradient whatever the memory and however many processes."""

from __future__ import annotations

import multiprocessing
import os
import socket
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from one_step import VARIANTS, one_step
from torch import Tensor, nn
from torch.nn import functional
from towers import make_tower_folder

from lexiseg.training.finetuning.step import cached_backward
from lexiseg.training.losses import dhn_nce

ROUNDING = 1e-11
"""Sums of 1e5 float64 in another order differ by sqrt(1e5) eps = 7e-14 of their size; the loss's exponents at
temperature 0.1 and some ten layers make a hundred times that of it."""

pytest.importorskip("lightning", reason="fine-tuning needs lightning: pip install 'lexiseg[train]'")


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The norm of the difference of two gradients, relative to that of the gradient."""
    assert first.keys() == second.keys()
    assert len(first) > 20
    apart = sum(float((first[name] - second[name]).double().square().sum()) for name in first)
    return float((apart / sum(float(each.double().square().sum()) for each in second.values())) ** 0.5)


class Two(nn.Module):
    """Two small towers with dropout, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 5), nn.Linear(4, 5)
        self.drop, self.log_scale = nn.Dropout(0.5), nn.Parameter(torch.tensor(1.0))
        self.double()

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text = self.image(self.drop(pixels)), self.text(self.drop(tokens))
        return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1), self.log_scale.exp()


class TestCachedGradients:
    def setup_method(self) -> None:
        torch.manual_seed(0)
        self.towers = Two()
        self.pixels, self.tokens = torch.randn(12, 6).double(), torch.randn(12, 4).double()

    def gradients(self) -> dict[str, Tensor]:
        found = {name: each.grad.clone() for name, each in self.towers.named_parameters()}
        self.towers.zero_grad()
        return found

    def cached(self, size: int) -> tuple[Tensor, dict[str, Tensor]]:
        chunks = list(zip(self.pixels.split(size), self.tokens.split(size), strict=True))
        value = cached_backward(
            self.towers, chunks, lambda image, text, scale: dhn_nce(image, text, 1 / scale),
            backward=lambda each: each.backward(), reseed=torch.manual_seed,
            alone=lambda yes: nullcontext(),
        )  # fmt: skip
        return value, self.gradients()

    @pytest.mark.parametrize("size", [1, 4, 5, 12])
    def test_against_the_whole_batch(self, size: int) -> None:
        self.towers.eval()
        image, text, scale = self.towers(self.pixels, self.tokens)
        expected = dhn_nce(image, text, 1 / scale)
        expected.backward()
        whole = self.gradients()
        value, found = self.cached(size)
        assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
        for name, gradient in whole.items():
            assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-12), name

    def test_dropout_is_the_same_in_both_passes(self) -> None:
        """With the chunks' own masks, computed with one graph over all of them."""
        self.towers.train()
        parts = []
        for chunk, (pixels, tokens) in enumerate(zip(self.pixels.split(5), self.tokens.split(5), strict=True)):
            torch.manual_seed(chunk)
            parts.append(self.towers(pixels, tokens))
        dhn_nce(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), 1 / parts[0][2]).backward()
        whole = self.gradients()
        _, found = self.cached(5)
        for name, gradient in whole.items():
            assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-12), name


class TestRealTowers:
    def test_chunks_give_the_same_gradient(self, tower: Path, pairs_csv: Path) -> None:
        whole = one_step(tower, pairs_csv)
        chunked = one_step(tower, pairs_csv, chunk=3)
        assert float(chunked["loss"]) == pytest.approx(float(whole["loss"]), rel=ROUNDING)
        assert difference(chunked["gradients"], whole["gradients"]) < ROUNDING

    def test_with_batch_norms_too(self, pairs_csv: Path, tmp_path: Path) -> None:
        convolutional = make_tower_folder(tmp_path, "timm ResNet")
        whole = one_step(convolutional, pairs_csv)
        chunked = one_step(convolutional, pairs_csv, chunk=6)
        assert difference(chunked["gradients"], whole["gradients"]) < ROUNDING


def one_of_two(rank: int, port: int, tower: Path, pairs: Path, out: Path) -> None:
    """One of two processes that a launcher such as torchrun would start, on gloo."""
    launcher = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    os.environ |= {name: str(value) for name, value in launcher.items()}
    torch.save({n: one_step(tower, pairs, devices=0, **changes) for n, changes in VARIANTS.items()}, out)


class TestSeveralProcesses:
    def test_two_give_what_one_gives_with_the_joined_batch(self, tower: Path, pairs_csv: Path, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Forked: what is imported already need not be imported twice more.
        context = multiprocessing.get_context("fork")
        running = [
            context.Process(target=one_of_two, args=(rank, port, tower, pairs_csv, tmp_path / f"{rank}.pt"))
            for rank in range(2)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(timeout=200)
            assert process.exitcode == 0
        first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
        for name, changes in VARIANTS.items():
            alone = one_step(tower, pairs_csv, **changes)
            assert (alone["pairs"], first[name]["pairs"]) == (16, 8)
            for found in (first[name], second[name]):
                assert float(found["loss"]) == pytest.approx(float(alone["loss"]), rel=ROUNDING), name
                assert difference(found["gradients"], alone["gradients"]) < ROUNDING, name
