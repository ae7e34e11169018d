from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.saliency.presence import presence_score, top_fraction_mean
from lexiseg.saliency.settings import PresenceSettings


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class TestScore:
    def test_geometric_mean(self) -> None:
        assert presence_score({"dense": 0.9, "global": 0.4}) == pytest.approx(math.sqrt(0.36))

    def test_weight(self) -> None:
        evidence = {"dense": 0.9, "global": 0.4}
        assert presence_score(evidence, settings=PresenceSettings(global_weight=0)) == pytest.approx(0.9)
        assert presence_score(evidence, settings=PresenceSettings(global_weight=1)) == pytest.approx(0.4)

    def test_both_must_speak_for_it(self) -> None:
        assert presence_score({"dense": 0.99, "global": 1e-6}) < 0.01

    @pytest.mark.parametrize("name", ["dense", "global"])
    def test_one_alone(self, name: str) -> None:
        assert presence_score({name: 0.3, "logit": 5.0}) == pytest.approx(0.3)

    def test_neither_is_undefined(self) -> None:
        assert math.isnan(presence_score({"logit": 3.0}))

    def test_calibration(self) -> None:
        settings = PresenceSettings(a=2.0, b=-1.0)
        expected = logistic(2 * math.log(0.8 / 0.2) - 1)
        assert presence_score({"dense": 0.8}, settings=settings) == pytest.approx(expected)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_certainty_stays_in_range(self, value: float) -> None:
        found = presence_score({"dense": value, "global": value}, settings=PresenceSettings(a=50, b=3))
        assert 0 <= found <= 1
        assert found == pytest.approx(value, abs=1e-6)

    def test_monotone(self) -> None:
        found = [presence_score({"dense": p, "global": 0.5}) for p in np.linspace(0, 1, 21)]
        assert found == sorted(found)


class TestTopFraction:
    def test_mean_of_the_largest(self) -> None:
        values = np.random.default_rng(0).permutation(np.arange(1000, dtype=np.float32)).reshape(25, 40)
        assert top_fraction_mean(values, 0.01) == pytest.approx(994.5)

    def test_at_least_one_pixel(self) -> None:
        assert top_fraction_mean(np.array([[0.2, 0.7]], np.float32), 0.01) == pytest.approx(0.7)

    def test_whole(self) -> None:
        assert top_fraction_mean(np.array([[0.2, 0.6]], np.float32), 1.0) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "settings",
    [
        {"global_weight": 1.5},
        {"a": math.nan},
        {"b": math.inf},
        {"threshold": 1.5},
        {"threshold": -0.1},
        {"threshold": math.nan},
        {"threshold": True},
        {"threshold": "high"},
        {"min_expected_dice": 1.5},
        {"min_expected_dice": "much"},
    ],
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"presence: .*{next(iter(settings))} is"):
        PresenceSettings(**settings)
