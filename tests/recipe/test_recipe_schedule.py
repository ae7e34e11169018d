"""The recipe's phases, learning rates and running averages."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from lexiseg.training.schedule import warm_cosine
from recipe.phases import Phases, Scheduled, shortened


class TestShortened:
    RECIPE: ClassVar[dict[str, Any]] = {
        "phases": [{"steps": 100, "lr": 1.0}, {"steps": 40, "lr": 0.5, "restart": True}],
        "mix": {100: 0.3, 140: 0.7},
        "clip": 1.0,
    }

    def test_phases_shrink_and_the_mean_moves_with_their_ends(self) -> None:
        found = shortened(self.RECIPE, 0.25)
        assert [phase["steps"] for phase in found["phases"]] == [25, 10]
        assert found["mix"] == {25: 0.3, 35: 0.7}
        assert found["phases"][1]["restart"] and found["clip"] == 1.0

    def test_at_full_length_it_is_the_recipe(self) -> None:
        assert shortened(self.RECIPE, 1.0) == self.RECIPE

    def test_a_mean_within_a_phase_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"mix: steps \[90\] are not the ends of phases, \[100, 140\]"):
            shortened({**self.RECIPE, "mix": {90: 1.0}}, 0.5)


class TestPhases:
    phases = Phases(
        [{"steps": 10, "lr": 1.0}, {"steps": 10, "lr": 0.5}, {"steps": 20, "lr": 2.0, "restart": True}],
        warmup=4,
    )

    def test_one_cosine_runs_to_the_phase_that_restarts_it(self) -> None:
        assert self.phases.steps == 40
        assert self.phases.rate(10) / 0.5 == pytest.approx(warm_cosine(10, 20, 4))
        assert self.phases.rate(19) < 0.02
        assert self.phases.rate(20) == pytest.approx(2.0 / 4)
        assert self.phases.rate(30) / 2 == pytest.approx(warm_cosine(10, 20, 4))

    def test_a_phase_may_have_a_running_average_of_its_own(self) -> None:
        task = Scheduled()
        task.c = {"ema": 0.9}
        task.phases = Phases([{"steps": 2, "lr": 1.0}, {"steps": 1, "lr": 1.0, "ema": 0.5}], 1)
        assert [task.decay(step) for step in range(4)] == [0.9, 0.9, 0.5, 0.5]

    def test_a_step_past_the_end_belongs_to_the_last_phase(self) -> None:
        assert self.phases.at(9)["lr"] == 1.0
        assert self.phases.at(10)["lr"] == 0.5
        assert self.phases.at(400)["lr"] == 2.0
