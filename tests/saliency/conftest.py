from __future__ import annotations

import numpy as np
import pytest
from fake_saliency_encoder import FakeEncoder

from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def scan() -> FloatArray:
    """Noise, 45 x 61, grey."""
    return np.random.default_rng(3).random((45, 61), dtype=np.float32)


@pytest.fixture
def phrases() -> list[PhraseSet]:
    return [
        PhraseSet("tumor", ("tumor", "a mass"), ("background", "normal tissue")),
        PhraseSet("heart", ("heart",), ("background",)),
        PhraseSet("lungs", ("lungs",), ("normal tissue", "ribs")),
    ]
