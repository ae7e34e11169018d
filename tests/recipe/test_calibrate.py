"""The line that makes a trained encoder's log-odds those of a probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lexiseg.models.loading import load_encoder
from recipe.calibrate import BOUNDS, Positions, calibrate, fit_line, some
from recipe.data import phantom_samples


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.6, -1.5), (1.5, 1.0)])
def test_a_line_is_found_again(slope: float, offset: float) -> None:
    """Truths are drawn with the probability of the line; of 40,000 the error is some hundredths."""
    draw = np.random.default_rng(0)
    found = draw.normal(0, 3, (10, 4000)).astype(np.float32)
    truth = draw.random(found.shape) < 1 / (1 + np.exp(-(slope * found + offset)))
    assert fit_line(Positions([*found], [*truth])) == pytest.approx((slope, offset), abs=0.1)


def test_scans_weigh_the_same_however_many_positions_they_have() -> None:
    draw = np.random.default_rng(0)
    few, many = (draw.normal(0, 3, n).astype(np.float32) for n in (4000, 40000))
    split = fit_line(Positions([few, many], [few > draw.normal(-2, 1, 4000), many > draw.normal(2, 1, 40000)]))
    assert -0.5 < -split[1] / split[0] < 0.5


def test_a_line_stays_in_its_bounds() -> None:
    sure = np.linspace(-4, 4, 100, dtype=np.float32)
    slope, offset = fit_line(Positions([sure], [sure > 0]))
    assert BOUNDS[0][0] <= slope <= BOUNDS[0][1] and BOUNDS[1][0] <= offset <= BOUNDS[1][1]


def test_what_few_scans_show_has_no_line() -> None:
    encoder: Any = load_encoder("bundled", device="cpu", precision="float32")
    samples = [*phantom_samples(24, encoder.input_size, 0)]
    lines = calibrate(encoder, samples)
    shown = [concept for sample in samples for concept, mask in sample.masks.items() if mask.any()]
    assert lines and {*lines} == {concept for concept in shown if shown.count(concept) >= 8}
    assert all(np.isfinite(line).all() for line in lines.values())
    name = next(iter(lines))
    shares = sorted((each.masks[name] == 1).mean() for each in samples if name in each.masks)
    assert shares[0] <= lines[name].smallest <= shares[1]


def test_so_many_at_most_of_each_concept_and_rare_ones_all() -> None:
    plain = [*phantom_samples(12, 64, 0)]
    mask = np.ones((64, 64), np.uint8)
    samples = [
        replace(each, masks={"lungs": mask} | ({"heart": mask} if k > 9 else {})) for k, each in enumerate(plain)
    ]
    kept = some(samples, 4, 0)
    assert sum("heart" in each.masks for each in kept) == 2
    assert 4 <= len(kept) <= 6
    assert [id(each) for each in some(samples, 4, 0)] == [id(each) for each in kept]
