"""What every training shares: checkpoints, courses of the rate, averages, groups of weights, tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lexiseg.errors import TrainingDiverged, UnwritableResult, UsageError
from lexiseg.training.average import follow, put_mean, ramped
from lexiseg.training.checkpoint import load_checkpoint, save_checkpoint
from lexiseg.training.logs import Curve, Panel, StepTable, draw_panels, write_table
from lexiseg.training.optimizing import adamw, parameter_groups, refuse_infinite, set_rate
from lexiseg.training.schedule import cosine, cycle_of, cycle_rate, halving, warm_cosine, warm_up


@dataclass
class Far:
    """How far a training is."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class TestCheckpoint:
    IDENTITY: ClassVar[dict[str, Any]] = {"settings": {"rate": 0.1, "batch": 8}, "scans": "0" * 64}

    def saved(self, path: Path) -> Path:
        state = Far(step=7, history=[{"loss": 0.5}])
        save_checkpoint(path / "last.pt", state, {"weights": torch.arange(3)}, self.IDENTITY)
        return path / "last.pt"

    def test_what_was_saved_comes_back(self, tmp_path: Path) -> None:
        state, kept = load_checkpoint(self.saved(tmp_path), Far, self.IDENTITY)
        assert state == Far(step=7, history=[{"loss": 0.5}])
        assert kept.keys() == {"weights"} and torch.equal(kept["weights"], torch.arange(3))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"settings": {"rate": 0.2, "batch": 8}}, r"begun with rate=0\.1 \(now 0\.2\); resume with the same"),
            ({"settings": {"rate": 0.2}, "scans": "1"}, r"other scans and batch=8 \(now None\) and rate=.*; resume"),
            ({"a": 1, "b": 1, "c": 1, "d": 1}, r"c=None \(now 1\) and 1 other differences; resume"),
        ],
    )
    def test_one_line_says_what_differs(self, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            load_checkpoint(self.saved(tmp_path), Far, self.IDENTITY | changes)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"PK torn"])
    def test_what_is_damaged(self, content: bytes, tmp_path: Path) -> None:
        self.saved(tmp_path).write_bytes(content)
        with pytest.raises(UsageError, match="no checkpoint that can be read"):
            load_checkpoint(tmp_path / "last.pt", Far, self.IDENTITY)

    def test_the_state_of_something_else(self, tmp_path: Path) -> None:
        torch.save({"model": {}, "step": 3}, tmp_path / "last.pt")
        with pytest.raises(UsageError, match="no checkpoint that can be read"):
            load_checkpoint(tmp_path / "last.pt", Far, self.IDENTITY)

    def test_nothing_in_it_is_run(self, tmp_path: Path) -> None:
        torch.save({"state": {"step": 0}, "identity": {}, "bad": Path("/")}, tmp_path / "last.pt")
        with pytest.raises(UsageError, match="UnpicklingError"):
            load_checkpoint(tmp_path / "last.pt", Far, {})

    def test_what_the_disk_said_reaches_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = self.saved(tmp_path).read_bytes()

        class Full:
            def __init__(self, file: Any) -> None:
                self.error = OSError(28, "No space left on device")

            def write(self, data: bytes) -> int:
                raise self.error

            def flush(self) -> None:
                pass

        monkeypatch.setattr("lexiseg.training.checkpoint._Watched", Full)
        with pytest.raises(UnwritableResult, match="No space left"):
            self.saved(tmp_path)
        assert (tmp_path / "last.pt").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


class TestSchedule:
    def test_a_rise_then_a_fall(self) -> None:
        assert [warm_up(step, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
        assert (cosine(0, 10), cosine(10, 10)) == (1.0, 0.0)
        assert cosine(5, 10, floor=0.2) == pytest.approx(0.6)
        assert warm_cosine(1, 10, 4) == pytest.approx(0.5 * cosine(1, 10, floor=0.02))

    def test_nothing_is_divided_by_no_steps(self) -> None:
        assert warm_up(0, 0) == cosine(0, 0) == 1.0

    def test_halving(self) -> None:
        assert [halving(epoch, every=2) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]

    def test_a_cycle_falls_and_restarts(self) -> None:
        rates = [cycle_rate(step, 100, 4, warmup=1) for step in range(100)]
        assert rates[0] == rates[25] == rates[75] == 1
        assert rates[24] < 0.02
        assert all(a > b for a, b in pairwise(rates[:25]))
        assert [cycle_of(step, 10, 3) for step in (0, 3, 4, 8, 9)] == [0, 0, 1, 2, 2]


class TestAverage:
    def test_follows_weights_and_copies_counters(self) -> None:
        average, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
        network.weight.data.fill_(2.0)
        assert network.num_batches_tracked is not None and average.num_batches_tracked is not None
        network.num_batches_tracked.fill_(7)
        follow(average, network, 0.75)
        assert average.weight.item() == pytest.approx(1.25)
        assert average.num_batches_tracked.item() == 7

    def test_random_weights_are_soon_forgotten(self) -> None:
        assert [ramped(0.9, step, lag=10) for step in (0, 9, 10**4)] == [0.1, 10 / 19, 0.9]

    def test_a_weighted_mean(self) -> None:
        network = nn.Linear(1, 1)
        states = [{"weight": torch.full((1, 1), value), "bias": torch.zeros(1)} for value in (1.0, 5.0)]
        put_mean(network, states, [1, 3])
        assert network.weight.item() == 4.0


class TestOptimizing:
    def test_groups_are_alike_in_decay_and_factor(self) -> None:
        model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
        model["b"].bias.requires_grad_(False)
        groups = parameter_groups(model, weight_decay=0.1, factor=lambda name: 0.5 if name.startswith("b") else 1.0)
        found = [(group["names"], group["weight_decay"], group["factor"]) for group in groups]
        assert found == [(["a.bias"], 0.0, 1.0), (["b.weight"], 0.1, 0.5), (["a.weight"], 0.1, 1.0)]
        optimizer = torch.optim.SGD(groups, lr=1.0)
        set_rate(optimizer, 0.2)
        assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1, 0.2]

    def test_adamw_in_one_pass_is_torchs_also_for_channels_last(self) -> None:
        steps = []
        for one_pass in (True, False):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 3)).double()
            model.to(memory_format=torch.channels_last)
            groups = parameter_groups(model, weight_decay=0.1)
            settings = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-6}
            made = adamw(groups, device=torch.device("cpu"), **settings)
            optimizer = made if one_pass else torch.optim.AdamW(groups, **settings)
            for _ in range(5):
                optimizer.zero_grad()
                model(torch.rand(2, 4, 4, 4, dtype=torch.float64)).square().sum().backward()
                optimizer.step()
            assert made.defaults["fused"] is True
            steps.append([each.detach().clone() for each in model.parameters()])
        for ours, theirs in zip(*steps, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_finite_ends_it(self, value: float) -> None:
        refuse_infinite("loss", 0.5, step=0, advice="")
        with pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) at step 1: training stops; rest"):
            refuse_infinite("loss", value, step=0, advice="rest")


class TestLogs:
    def test_a_table_goes_on_where_the_training_does(self, tmp_path: Path) -> None:
        path = tmp_path / "steps.csv"
        table = StepTable(path, ("step", "loss"))
        for step in range(4):
            table.add({"step": step, "loss": step / 3})
        table.close()
        with path.open("a") as file:
            file.write("4,")  # a kill
        again = StepTable(path, ("step", "loss"), below=2)
        again.add({"step": 2, "loss": 9.0})
        again.close()
        assert path.read_text() == "step,loss\n0,0\n1,0.333333333\n2,9\n"

    def test_a_column_that_a_row_lacks_is_empty(self, tmp_path: Path) -> None:
        write_table(tmp_path / "t.csv", ["a", "b"], [{"a": 1}, {"a": "x, y", "b": 1 / 3}], digits=2)
        assert (tmp_path / "t.csv").read_text() == 'a,b\n1,\n"x, y",0.33\n'

    def test_a_picture(self, tmp_path: Path) -> None:
        panel = Panel(
            curves=[Curve(x=[0, 1], y=[1, math.nan], style={"label": "it"})], axes={"title": "t"}, marks=[0.5]
        )
        assert draw_panels(tmp_path / "c.png", [panel, panel]).read_bytes().startswith(b"\x89PNG")
