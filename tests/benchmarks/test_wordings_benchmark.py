"""The benchmark of wordings reads phrases as it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import typer
from torch import Tensor

import wordings
from lexiseg.text.known import bundled_vocabulary
from recipe.wordings import Wording

VECTORS = {
    "lungs": (1.0, 0.0, 0.0),
    "both lungs": (0.8, 0.3, 0.0),
    "kidney": (0.0, 1.0, 0.0),
    "kidney stone": (0.3, 0.8, 0.0),
    "pulmonary fields": (0.9, -0.2, 0.0),
    "a kidney": (0.0, 2.0, 0.0),
    "teapot": (0.0, 0.0, 1.0),
}
KNOWN = [
    Wording(text="lungs", kind="target", target="lungs", family="names"),
    Wording(text="both lungs", kind="target", target="lungs", family="pairs"),
    Wording(text="kidney", kind="elsewhere", family="organs"),
    Wording(text="kidney stone", kind="finding", family="stones"),
]
HELD_OUT = [
    Wording(text="pulmonary fields", kind="target", target="lungs", family="fields", held_out="family"),
    Wording(text="a kidney", kind="elsewhere", family="organs", held_out="wording"),
    Wording(text="teapot", kind="nonsense", family="things", held_out="wording"),
]


def embed(texts: list[str]) -> Tensor:
    return torch.tensor([VECTORS[text] for text in texts])


def test_phrases_are_read_as_their_nearest_known_wordings() -> None:
    read_as, line = wordings.vote(embed, KNOWN, HELD_OUT)
    assert read_as == ["lungs", "", None]
    # Every known wording's nearest of another family is at one cosine, that of (8, 3) and (1, 0).
    assert line == "unknown below 0.936; one wording decides alone (from 0.995) 33.3% of phrases"


def test_words_alone_name_what_they_list_and_nothing_else() -> None:
    concepts = frozenset({"lungs"})
    said = [wordings.by_words(bundled_vocabulary(), text, concepts) for text in ("the lungs", "skin", "ticker")]
    assert said == ["lungs", "", None]


def test_an_encoder_that_votes_itself_is_no_older_one() -> None:
    with pytest.raises(typer.BadParameter, match="knows wordings of its own"):
        wordings.by_text_tower(SimpleNamespace(judges_words=True, name="new"))


def test_a_text_tower_reads_in_batches_in_order() -> None:
    encoder = SimpleNamespace(judges_words=False, encode_text=lambda texts: torch.tensor([[float(t)] for t in texts]))
    read = wordings.by_text_tower(encoder)([str(k) for k in range(600)])
    assert read[:, 0].tolist() == list(range(600))


def test_the_table_has_a_row_for_each_kind_and_a_column_for_each_way() -> None:
    found = dict.fromkeys(wordings.ROWS, (0.5, 0.25, 4))
    lines = wordings.table({"this": found, "that": found}).splitlines()
    assert lines[0] == "| held out | of | this: right, unknown | that: right, unknown |"
    assert len(lines) == 2 + len(wordings.ROWS)
    assert lines[-1] == "| other languages that words miss | 4 | 50.0 %, 25.0 % | 50.0 %, 25.0 % |"
