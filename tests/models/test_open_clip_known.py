"""Which wordings a sentence encoder was taught, as a file of its folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import make_biomedclip_folder
from safetensors.torch import save_file
from torch.nn import functional

from lexiseg.errors import BrokenWeights, UnsupportedByModel
from lexiseg.models.encoders.open_clip_known import (
    CALIBRATION,
    FILE,
    KnownWordings,
    pack_known,
    read_known,
    sentences_of,
)
from lexiseg.models.loading import load_encoder
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.values.calibration import AS_IT_IS, Calibration

WORDINGS = {"breast tumor": "breast tumor", "the lungs": "lungs", "left heart": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder whose text tower is transformers', with three known wordings."""
    made = tmp_path_factory.mktemp("encoder")
    make_biomedclip_folder(made, size="tiny")
    plain: Any = load_encoder(str(made), device="cpu", precision="float32")
    sentences = torch.cat([sentences_of(plain.model.text, plain.tokenizer([text])) for text in WORDINGS])
    tensors, about = pack_known(sentences, list(WORDINGS.values()), least=0.999)
    save_file(tensors, made / FILE, metadata=about)
    return made


def test_a_tower_without_its_projection_is_what_goes_into_it(folder: Path) -> None:
    encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
    text = encoder.model.text
    tokens = encoder.tokenizer(["left lung", "a breast mass"])
    with torch.inference_mode():
        torch.testing.assert_close(text.proj(sentences_of(text, tokens)), encoder.model.encode_text(tokens))


def test_an_encoder_names_what_it_was_taught(folder: Path) -> None:
    encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
    assert encoder.judges_words
    assert [encoder.names(text) for text in WORDINGS] == list(WORDINGS.values())
    assert encoder.names("mass of the left brain") is None


def test_one_without_the_file_is_not_asked(folder: Path, tmp_path: Path) -> None:
    make_biomedclip_folder(tmp_path, size="tiny")
    encoder: Any = load_encoder(str(tmp_path), device="cpu", precision="float32")
    assert not encoder.judges_words
    with pytest.raises(UnsupportedByModel, match="does not say which wordings it was taught"):
        encoder.names("lungs")


@pytest.mark.parametrize("damage", ["truncated", "another file", "a number without a name"])
def test_what_cannot_be_read_is_said(folder: Path, tmp_path: Path, damage: str) -> None:
    if damage == "truncated":
        (tmp_path / FILE).write_bytes((folder / FILE).read_bytes()[:100])
    elif damage == "another file":
        save_file({"weights": torch.zeros(3)}, tmp_path / FILE)
    else:
        tensors, about = pack_known(torch.eye(2), ["a", "b"], least=0.5)
        save_file({**tensors, "concepts": torch.tensor([0, 7], dtype=torch.int16)}, tmp_path / FILE, metadata=about)
    with pytest.raises(BrokenWeights, match="holds no known wordings"):
        read_known(tmp_path)


def test_sizes_have_to_fit() -> None:
    with pytest.raises(ValueError, match="2 concepts do not fit"):
        KnownWordings(torch.eye(3), ("a", "b"), least=0.5)


class TestConcept:
    KNOWN = KnownWordings(
        functional.normalize(torch.eye(4) + 0.2, dim=1),
        ("left lung", "lungs", "", "left ventricle"),
        least=0.5,
        sides={"left lung": "lungs", "right lung": "lungs"},
    )

    @pytest.mark.parametrize(
        ("row", "phrase", "named"),
        [
            (0, "lung tissue", "lungs"), (0, "pulmo sinister", "left lung"), (1, "lung, right", "right lung"),
            (1, "left_lung", "left lung"), (1, "the left and the right lung", "lungs"), (2, "left ureter", ""),
            (3, "left ventricle", "left ventricle"), (3, "right ventricle", "left ventricle"),
        ],
    )  # fmt: skip
    def test_sides_are_read_from_the_words(self, row: int, phrase: str, named: str) -> None:
        assert self.KNOWN.concept(self.KNOWN.sentences[row], phrase) == named

    def test_a_counterpart_that_is_known_is_taken(self) -> None:
        both = replace(self.KNOWN, concepts=("left ventricle", "right ventricle", "", ""))
        assert both.concept(both.sentences[0], "the right ventricle, please") == "right ventricle"

    def test_several_neighbours_outvote_the_nearest(self) -> None:
        sentences = torch.tensor([[1.0, 0.0], [1.0, 0.4], [1.0, 0.45]])
        known = KnownWordings(functional.normalize(sentences, dim=1), ("liver", "spleen", "spleen"), least=0.5)
        assert known.concept(torch.tensor([1.0, 0.18])) == "spleen"
        assert known.concept(torch.tensor([1.0, 0.0])) == "liver"  # the wording itself


def test_a_phrase_that_names_a_concept_lies_at_its_place(folder: Path, tmp_path: Path) -> None:
    make_biomedclip_folder(tmp_path, size="tiny")
    encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
    before = encoder.encode_text(["the lungs", "left heart", "mass of the left brain"])
    width = before.shape[1]
    sentences = torch.cat([sentences_of(encoder.model.text, encoder.tokenizer([text])) for text in WORDINGS])
    places = {"lungs": torch.eye(width)[0], "": torch.eye(width)[1]}
    tensors, about = pack_known(sentences, list(WORDINGS.values()), least=0.98, places=places)
    save_file(tensors, tmp_path / FILE, metadata=about)
    placed: Any = load_encoder(str(tmp_path), device="cpu", precision="float32")
    after = placed.encode_text(["the lungs", "left heart", "mass of the left brain"])
    assert torch.equal(after[:2], torch.eye(width)[:2])
    assert placed.names("mass of the left brain") is None
    torch.testing.assert_close(after[2], placed.encode_text(["mass of the left brain"])[0])


class TestCalibration:
    def test_a_phrase_has_the_line_of_what_it_names(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        (tmp_path / CALIBRATION).write_text("lines: {lungs: [0.5, -2]}\nsmallest: {lungs: 0.03}\nmap_only: [lungs]")
        encoder: Any = load_encoder(str(tmp_path), device="cpu", precision="float32")
        lines = [encoder.calibration(text) for text in ("lungs", "the lungs", "mass of the left brain")]
        assert lines == [Calibration(0.5, -2.0, 0.03, True), Calibration(0.5, -2.0, 0.03, True), AS_IT_IS]
        (embedded,) = embed_phrases(encoder, [phrase_set("the lungs")])
        assert embedded.calibration == Calibration(0.5, -2.0, 0.03, True)

    def test_without_the_file_log_odds_stay(self, folder: Path) -> None:
        encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
        assert encoder.calibration("the lungs") == AS_IT_IS

    @pytest.mark.parametrize(
        "text",
        [
            "lines: [1, 2]",
            "lines: {lungs: [0, 1]}",
            "lines: {lungs: [1, .nan]}",
            "[",
            "a: 1",
            "lines: {}\nsmallest: {lungs: 0}",
            "lines: {}\nsmallest: {lungs: 2}",
        ],
    )
    def test_what_says_no_lines_is_refused(self, folder: Path, tmp_path: Path, text: str) -> None:
        (tmp_path / FILE).write_bytes((folder / FILE).read_bytes())
        (tmp_path / CALIBRATION).write_text(text)
        with pytest.raises(BrokenWeights, match="does not say how maps are calibrated"):
            read_known(tmp_path)
