"""The recipe's loop: checkpoints, resume, the running average and the mean of several."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.errors import TrainingDiverged, UsageError

lightning = pytest.importorskip("lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'")


class Line:
    """A task whose answer is known: fit y = 2 x."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.steps = steps
        self.begun = 0
        self.made: list[int] = []

    def begin(self) -> None:
        self.begun += 1
        self.model.bias.data.fill_(0.3)

    def rate(self, step: int) -> float:
        return 0.05 * (1 + math.cos(math.pi * step / 40)) / 2 + 0.01

    def decay(self, step: int) -> float:
        return 0.9

    def batch(self, step: int) -> Tensor:
        self.made.append(step)
        return torch.from_numpy(np.random.default_rng(step).standard_normal((16, 1)).astype(np.float32))

    def loss(self, batch: Tensor, device: torch.device) -> dict[str, Tensor]:
        return {"error": ((self.model(batch) - 2 * batch) ** 2).mean()}


class Broken(Line):
    def batch(self, step: int) -> Tensor:
        return super().batch(step) * (math.nan if step == 7 else 1)


class Last(Line):
    def decay(self, step: int) -> float:
        return 0.9 if step < 29 else 0.0


class TestLoop:
    def loop(self, task: Any, folder: Path) -> Any:
        from recipe.loop import Loop

        return Loop(task, folder, weight_decay=0.0, clip=1.0, device="cpu")

    def test_a_resumed_run_ends_where_an_unbroken_one_does(self, tmp_path: Path) -> None:
        whole = self.loop(Line(40), tmp_path / "whole").run(every=10)
        first, second = Line(20), Line(40)
        self.loop(first, tmp_path / "halves").run(every=10)
        resumed = self.loop(second, tmp_path / "halves").run(every=10)
        assert torch.equal(whole.weight, resumed.weight)
        assert (first.begun, second.begun) == (1, 0)
        assert float(whole.weight) == pytest.approx(2.0, abs=0.7)

    def test_another_recipe_is_another_run(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        def loop(rate: float) -> Any:
            identity = {"settings": {"phases": [{"lr": rate}], "clip": 1.0}}
            return Loop(Line(4), tmp_path, weight_decay=0.0, clip=1.0, device="cpu", identity=identity)

        loop(0.1).run()
        with pytest.raises(UsageError, match=r"begun with phases=\[\{'lr': 0\.1\}\] \(now \[\{'lr': 0\.2\}\]\)"):
            loop(0.2).run()

    def test_batches_made_ahead_by_other_processes_are_the_same(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        alone, helped = Line(20), Line(20)
        ends = [
            Loop(task, tmp_path / str(n), weight_decay=0.0, clip=1.0, device="cpu", workers=n).run(every=10)
            for n, task in ((0, alone), (2, helped))
        ]
        assert torch.equal(ends[0].weight, ends[1].weight)
        assert (len(alone.made), len(helped.made)) == (20, 0)

    def test_what_comes_before_the_first_step_is_kept_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingDiverged, match=r"nan at step 8: .*last\.pt"):
            self.loop(Broken(40), tmp_path).run(every=100)
        state = torch.load(tmp_path / "last.pt", weights_only=True)
        assert state["state"]["step"] == 0
        assert float(state["model"]["bias"]) == float(state["average"]["bias"]) == pytest.approx(0.3)

    def test_what_is_returned_is_the_mean_of_the_averages_that_were_asked_for(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        seen = {}
        for steps in (10, 30):
            seen[steps] = float(self.loop(Line(steps), tmp_path / str(steps)).run(every=5).weight)
        mixed = Loop(Line(30), tmp_path / "mix", weight_decay=0.0, clip=1.0, mix={10: 1, 30: 3}, device="cpu")
        exported = []
        weight = float(mixed.run(every=50, after=lambda m, step: exported.append(float(m.weight))).weight)
        assert weight == pytest.approx((seen[10] + 3 * seen[30]) / 4, abs=1e-6)
        assert exported[-1] == weight

    def test_a_run_that_is_killed_where_an_average_is_kept_still_has_it(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        def mixed(folder: str) -> Any:
            return Loop(
                Line(20),
                tmp_path / folder,
                weight_decay=0.0,
                clip=1.0,
                mix={10: 1, 20: 1},
                device="cpu",
            )

        def killed(model: nn.Module, step: int) -> None:
            raise KeyboardInterrupt

        whole = mixed("whole").run(every=10)
        with pytest.raises(KeyboardInterrupt):
            mixed("halves").run(every=10, after=killed)
        assert torch.equal(mixed("halves").run(every=10).weight, whole.weight)

    def test_the_running_average_may_follow_faster_from_a_step_on(self, tmp_path: Path) -> None:
        task = Last(30)
        found = self.loop(task, tmp_path).run(every=30)
        assert torch.equal(found.weight, task.model.weight)

    def test_what_knows_something_already_learns_slower(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        moved = {}
        for start in ("other", "weig"):
            task = Line(1)
            before = float(task.model.weight.detach())
            loop = Loop(task, tmp_path / start, weight_decay=0.0, clip=9.0, slow={start: 0.1}, device="cpu")
            loop.run()
            moved[start] = abs(float(task.model.weight.detach()) - before)
        assert moved["weig"] == pytest.approx(0.1 * moved["other"], rel=0.01)

    def test_what_is_at_a_rate_of_nothing_stays_and_takes_no_gradient(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        task = Line(3)
        before = task.model.weight.detach().clone()
        Loop(task, tmp_path, weight_decay=0.1, clip=9.0, slow={"weight": 0, "": 0.5}, device="cpu").run()
        assert torch.equal(task.model.weight, before)
        assert task.model.weight.grad is None
        assert float(task.model.bias.detach()) != pytest.approx(0.3)

    def test_in_bfloat16_the_weights_stay_float32(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        task = Line(40)
        found = Loop(task, tmp_path, weight_decay=0.0, clip=1.0, precision="bfloat16", device="cpu").run()
        assert found.weight.dtype == torch.float32
        assert float(found.weight) == pytest.approx(2.0, abs=0.7)

    def test_batches_are_made_in_float32_whatever_the_models_precision(self, tmp_path: Path) -> None:
        from recipe.loop import Loop

        class Seen(Line):
            def batch(self, step: int) -> Tensor:
                # an affine grid is a product of matrices: under autocast its places lie up to a pixel off
                theta = torch.tensor([[[0.93, 0.1, 0.05], [-0.1, 0.93, 0.02]]])
                grid = nn.functional.affine_grid(theta, [1, 1, 4, 4], align_corners=False)
                assert grid.dtype == torch.float32
                return super().batch(step)

            def loss(self, batch: Tensor, device: torch.device) -> dict[str, Tensor]:
                assert self.model(batch).dtype == torch.bfloat16
                return super().loss(batch, device)

        Loop(Seen(2), tmp_path, weight_decay=0.0, clip=1.0, precision="bfloat16", device="cpu").run()

    def test_a_loss_that_is_not_finite_stops_and_says_where(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingDiverged, match=r"nan at step 8: .*last\.pt"):
            self.loop(Broken(40), tmp_path).run(every=5)
        assert torch.load(tmp_path / "last.pt", weights_only=True)["state"]["step"] == 5
