"""Which kind of scan is in view, and what it can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_saliency_encoder import NamedColours
from safetensors.torch import save_file

from lexiseg.errors import BrokenWeights
from lexiseg.files import sha256_of
from lexiseg.models.weights.records import bundled_folder
from lexiseg.saliency.dense import DenseSimilarity
from lexiseg.saliency.kinds import HOLDS as HOLDS_FILE
from lexiseg.saliency.kinds import WEIGHTS, KindGate, read_gate
from lexiseg.saliency.presence import presence_score
from lexiseg.saliency.settings import PresenceSettings
from lexiseg.text.known import Vocabulary, bundled_vocabulary
from lexiseg.text.phrases import PhraseLibrary, PhraseSet, Target, default_library

LIBRARY = PhraseLibrary(targets=(Target(name="polyp", synonyms=("bowel growth",)), Target(name="knee")))
WORDS = Vocabulary(LIBRARY, ("adenoma", "scale"), frozenset({"small"}), {"adenoma": "polyp", "scale": "scale"})
HOLDS = {"polyp": frozenset({"colon"}), "knee": frozenset({"bone", "other"})}


def gate(**changes: object) -> KindGate:
    plain = {
        "names": ("colon", "bone", "other"), "weights": torch.eye(3) * 10, "biases": torch.zeros(3),
        "holds": HOLDS, "concept": WORDS.concept,
    }  # fmt: skip
    return KindGate(**{**plain, **changes})  # type: ignore[arg-type]


class TestShares:
    def test_they_are_a_softmax(self) -> None:
        shares = gate().shares(torch.tensor([[1.0, 0.0, 0.0]]))
        assert shares["colon"] == pytest.approx(1 / (1 + 2 * torch.tensor(-10.0).exp().item()))
        assert sum(shares.values()) == pytest.approx(1)

    def test_views_of_a_scan_are_averaged(self) -> None:
        shares = gate().shares(torch.eye(3)[:2])
        assert shares["colon"] == pytest.approx(shares["bone"]) and shares["other"] < 0.001

    @pytest.mark.parametrize("phrase", ["polyp", "bowel growth", "small polyp", "adenoma", "Small Adenoma"])
    def test_a_phrase_has_the_share_of_what_it_names(self, phrase: str) -> None:
        assert gate().share(torch.tensor([[1.0, 0, 0]]), phrase) > 0.99
        assert gate().share(torch.tensor([[0, 1.0, 0]]), phrase) < 0.01

    def test_several_kinds_add_up(self) -> None:
        view = torch.tensor([[0, 0.5, 0.5]])
        assert gate(least=1.1).share(view, "knee") == pytest.approx(1, abs=0.02)

    def test_beyond_the_least_share_nothing_speaks_against_it(self) -> None:
        view = torch.tensor([[0.5, 0.55, 0.5]])
        share = gate(least=1.1).share(view, "polyp")
        assert 0.1 < share < 0.4
        assert (
            gate(least=share - 0.01).share(view, "polyp") == 1
            and gate(least=share + 0.01).share(view, "polyp") == share
        )

    @pytest.mark.parametrize("phrase", ["scale", "zorblax", "no polyp"])
    def test_nothing_is_held_against_what_is_not_listed(self, phrase: str) -> None:
        assert gate().share(torch.tensor([[0, 0, 1.0]]), phrase) == 1

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="are not of 3 kinds"):
            gate(weights=torch.eye(2))
        with pytest.raises(ValueError, match=r"\['moon'\] are no kinds of scan"):
            gate(holds={"polyp": frozenset({"moon"})})


class TestPresence:
    def test_a_target_is_no_more_present_than_its_kinds(self) -> None:
        evidence = {"dense": 0.9, "global": 0.9}
        free = presence_score(evidence, settings=PresenceSettings())
        assert free == pytest.approx(0.9)
        assert presence_score({**evidence, "kind": 0.02}) == 0.02
        assert presence_score({**evidence, "kind": 0.95}) == free

    def test_the_evidence_has_the_share(self) -> None:
        encoder, pixels = NamedColours(), torch.zeros(32, 32, 3).numpy()
        pixels[..., 0] = 1
        told = KindGate(
            names=("red", "blue"), weights=torch.tensor([[9.0, 0, 0], [0, 0, 9.0]]), biases=torch.zeros(2),
            holds={"polyp": frozenset({"red"}), "knee": frozenset({"blue"})}, concept=WORDS.concept,
        )  # fmt: skip
        phrases = [PhraseSet("polyp", ("red",)), PhraseSet("knee", ("red",))]
        polyp, knee = DenseSimilarity().explain(encoder, pixels, phrases, kinds=told)
        assert polyp.evidence["kind"] > 0.9 > 0.1 > knee.evidence["kind"]
        assert "kind" not in DenseSimilarity().explain(encoder, pixels, phrases)[0].evidence


def bundled() -> KindGate:
    found = read_gate(bundled_folder("encoder"))
    assert found is not None
    return found


class TestFolder:
    def folder(self, path: Path, **about: str) -> Path:
        tensors = {"weights": torch.eye(2).half(), "biases": torch.zeros(2).half()}
        save_file(tensors, path / WEIGHTS, metadata={"kinds": "colon;bone", "encoder": "abc", **about})
        (path / HOLDS_FILE).write_text("holds: {polyp: [colon]}")
        return path

    def test_it_is_read(self, tmp_path: Path) -> None:
        found = read_gate(self.folder(tmp_path))
        assert found is not None
        assert (found.names, found.holds, found.encoder) == (("colon", "bone"), {"polyp": frozenset({"colon"})}, "abc")

    def test_a_folder_without_has_none(self, tmp_path: Path) -> None:
        assert read_gate(tmp_path) is None

    @pytest.mark.parametrize("damage", ["truncated", "no holds", "another kind", "no list"])
    def test_what_cannot_be_read_is_said(self, tmp_path: Path, damage: str) -> None:
        folder = self.folder(tmp_path)
        if damage == "truncated":
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:40])
        elif damage == "no holds":
            (folder / HOLDS_FILE).unlink()
        else:
            held = "holds: {polyp: [moon]}" if damage == "another kind" else "holds: polyp"
            (folder / HOLDS_FILE).write_text(held)
        with pytest.raises(BrokenWeights, match="do not say which kinds of scan there are"):
            read_gate(folder)


class TestBundled:
    def test_it_was_fitted_to_the_encoder_that_ships(self) -> None:
        found = bundled()
        assert found.encoder == sha256_of(bundled_folder("encoder") / "open_clip_model.safetensors")
        assert found.weights.shape == (len(found.names), 576)

    def test_every_target_is_held_by_some_kind(self) -> None:
        holds, words = bundled().holds, bundled_vocabulary()
        assert {target.name for target in default_library().targets} <= set(holds)
        assert {words.concept(phrase) for phrase in words.phrases} <= set(holds)
        assert all(holds.values())

    @pytest.mark.parametrize(
        ("phrase", "concept"),
        [
            ("breast tumor", "breast tumor"), ("spiculated breast mass", "breast tumor"), ("left lung", "left lung"),
            ("the left lung on a chest X-ray", "left lung"), ("fibroadenoma", "breast tumor"),
            ("glioma", "brain tumor"),
            ("a large lesion", "tumor"), ("rib cage", "ribs"),
            ("lung, left", "left lung"),
        ],
    )  # fmt: skip
    def test_known_phrases_name_something(self, phrase: str, concept: str) -> None:
        assert bundled_vocabulary().concept(phrase) == concept

    @pytest.mark.parametrize("phrase", ["prostate", "no tumor", "breast implant", "left heart"])
    def test_others_name_nothing(self, phrase: str) -> None:
        assert bundled_vocabulary().concept(phrase) is None
