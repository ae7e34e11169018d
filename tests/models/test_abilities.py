"""What only some encoders can do, and how callers find out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_biomedclip_folder
from fake_saliency_encoder import NamedColours
from torch import Tensor

from lexiseg.models.loading import load_encoder
from lexiseg.models.protocols import CalibratedEncoder, SelectiveEncoder, WordJudge, word_judge
from lexiseg.saliency.dense import DenseSimilarity
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.values.calibration import AS_IT_IS, Calibration


class Taught(NamedColours):
    """Hears "ticker" as the heart."""

    judges_words = True
    words: frozenset[str] = frozenset()

    def names(self, phrase: str) -> str | None:
        return {"ticker": "heart"}.get(phrase)


class Measured(NamedColours):
    """Its maps of red were held against true masks."""

    def calibration(self, phrase: str) -> Calibration:
        return Calibration(0.5, -2.0) if phrase == "red" else AS_IT_IS


@pytest.mark.parametrize("ability", [WordJudge, CalibratedEncoder, SelectiveEncoder])
def test_an_encoder_of_open_clip_has_each_and_a_plain_one_none(ability: type, tmp_path: Path) -> None:
    make_biomedclip_folder(tmp_path, size="tiny")
    assert isinstance(load_encoder(str(tmp_path), device="cpu", precision="float32"), ability)
    assert not isinstance(NamedColours(), ability)


def test_words_are_judged_by_those_that_came_with_wordings(tmp_path: Path) -> None:
    make_biomedclip_folder(tmp_path, size="tiny")
    assert word_judge(load_encoder(str(tmp_path), device="cpu", precision="float32")) is None
    assert word_judge(NamedColours()) is None
    judge = word_judge(Taught())
    assert judge is not None and judge.names("ticker") == "heart"


def test_one_ability_does_not_ask_for_another() -> None:
    lines = [
        [each.calibration for each in embed_phrases(encoder, [phrase_set("red"), phrase_set("green")])]
        for encoder in (Measured(), Taught())
    ]
    assert lines == [[Calibration(0.5, -2.0), AS_IT_IS], [AS_IT_IS, AS_IT_IS]]


def test_what_is_held_against_is_told_to_those_that_leave_towers_out() -> None:
    class Selective(NamedColours):
        told: Tensor | None = None

        def held_against(self, texts: Tensor) -> nullcontext[None]:
            self.told = texts
            return nullcontext()

    encoder = Selective()
    (phrase,) = embed_phrases(encoder, [phrase_set("red")])
    DenseSimilarity().explain(encoder, np.zeros((64, 64, 3), np.float32), [phrase])
    assert encoder.told is not None
    torch.testing.assert_close(encoder.told[0], phrase.positive)
