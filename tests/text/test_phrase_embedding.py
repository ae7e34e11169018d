from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet

TABLE = {
    "x": (3.0, 0.0),
    "y": (0.0, 5.0),
    "n": (0.0, -2.0),
}


class Text:
    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        self.calls.append(tuple(phrases))
        return torch.tensor([TABLE[phrase] for phrase in phrases])


@pytest.fixture
def encoder() -> Any:
    return Text()


def test_ensemble_is_the_normalised_mean_of_unit_vectors(encoder: Any) -> None:
    (found,) = embed_phrases(encoder, [PhraseSet("p", ("x", "y"), ("n",))])
    # The lengths 3 and 5 must not matter: the mean of the axes points along the diagonal.
    torch.testing.assert_close(found.positive, torch.tensor([0.5**0.5, 0.5**0.5]))
    torch.testing.assert_close(found.negatives, torch.tensor([[0.0, -1.0]]))


def test_one_call_and_no_repeats(encoder: Any) -> None:
    embed_phrases(encoder, [PhraseSet("p", ("x", "y"), ("n",)), PhraseSet("q", ("y",), ("n", "x"))])
    assert encoder.calls == [("x", "y", "n")]


def test_no_negatives(encoder: Any) -> None:
    (found,) = embed_phrases(encoder, [PhraseSet("p", ("x",))])
    assert found.negatives.shape == (0, 2)


def test_no_phrases(encoder: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        embed_phrases(encoder, [])
