"""The segmenter between two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recipe.between import between


def net(value: float, width: int = 3) -> nn.Module:
    made = nn.Sequential(nn.Linear(width, 2), nn.BatchNorm1d(2))
    for number in made.parameters():
        nn.init.constant_(number, value)
    return made


def test_weights_lie_between_and_whole_numbers_are_the_seconds() -> None:
    start, end = net(0.0), net(2.0)
    end[1].num_batches_tracked.fill_(7)  # type: ignore[index, union-attr, operator]
    found = between(start, end, 0.25)
    assert all(bool((found[name] == 0.5).all()) for name, _ in end.named_parameters())
    assert int(found["1.num_batches_tracked"]) == 7
    assert set(found) == set(end.state_dict())
    assert all(torch.equal(between(start, end, 1.0)[name], value) for name, value in end.state_dict().items())


def test_other_architectures_are_refused() -> None:
    with pytest.raises(ValueError, match="different architectures"):
        between(net(0.0), net(0.0, width=4), 0.5)
