"""Captions put together from attributes, hard negatives, and pairs on disk."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from lexiseg.datasets.pairs.captions import compose, hard_negatives
from lexiseg.datasets.pairs.phantoms import phantom_pair, siblings, write_phantom_pairs
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.datasets.phantoms.registry import MODALITIES, generate
from lexiseg.errors import UsageError

SIZE = 40


def words_of(text: str) -> list[str]:
    return text.lower().replace(",", " ").replace(".", " ").split()


class TestCaptions:
    @pytest.mark.parametrize("modality", MODALITIES)
    def test_every_phantom_has_one_and_it_says_what_was_drawn(self, modality: str) -> None:
        for seed in range(6):
            phantom = generate(modality, seed, size=SIZE)
            text = compose(modality, phantom.attributes, wording=seed)
            assert text[0].isupper() and text.endswith(".") and "  " not in text
            if phantom.attributes["finding"] != "none":
                for name in ("finding", "size"):
                    assert phantom.attributes[name] in text

    def test_thousands_are_distinct(self) -> None:
        attributes = dict(phantom_pair("breast-ultrasound", 0, size=SIZE).phantom.attributes)
        values = {
            "finding": ("benign tumor", "malignant tumor"), "size": ("small", "medium", "large"),
            "place": ("left", "right", "upper left", "upper right", "lower left", "lower right"),
            "margin": ("circumscribed", "lobulated", "spiculated", "angular"),
            "echo": ("hypoechoic", "complex", "heterogeneous"),
            "posterior": ("shadow", "enhancement", "none"),
            "shape": ("round", "taller than wide", "wider than tall"),
        }  # fmt: skip
        texts = {
            compose("breast-ultrasound", attributes | dict(zip(values, chosen, strict=True)))
            for chosen in itertools.product(*values.values())
        }
        assert len(texts) == 2 * 3 * 6 * 4 * 3 * 3 * 3

    def test_unknown_modality(self) -> None:
        with pytest.raises(UsageError, match="brain-mri"):
            compose("endoscopy", {})


class TestHardNegatives:
    @pytest.mark.parametrize("modality", MODALITIES)
    def test_each_differs_in_one_attribute(self, modality: str) -> None:
        for seed in range(5):
            pair = phantom_pair(modality, seed, size=SIZE)
            known = pair.phantom.attributes
            assert len({each.attribute for each in pair.negatives}) == len(pair.negatives)
            for each in pair.negatives:
                assert each.text != pair.text
                assert each.value != known[each.attribute]
                changed = {**known, each.attribute: each.value}
                assert each.text == compose(modality, changed, wording=seed)

    def test_most_of_the_words_stay(self) -> None:
        pair = phantom_pair("breast-ultrasound", 0, size=SIZE)
        assert len(pair.negatives) == 7
        for each in pair.negatives:
            changed = set(words_of(each.text)) ^ set(words_of(pair.text))
            assert len(changed) <= 6

    def test_words_that_may_both_be_true_never_contradict(self) -> None:
        attributes = dict(phantom_pair("breast-ultrasound", 0, size=SIZE).phantom.attributes)
        attributes |= {"echo": "markedly hypoechoic", "shape": "round"}
        found = [hard_negatives("breast-ultrasound", attributes, seed=seed) for seed in range(20)]
        echoes = {each.value for negatives in found for each in negatives if each.attribute == "echo"}
        assert echoes == {"complex"}
        assert not any(each.attribute == "shape" for negatives in found for each in negatives)

    def test_nothing_is_said_of_a_finding_that_is_not_there(self) -> None:
        phantom = generate("brain-mri", 1, size=SIZE, target=False)
        names = {each.attribute for each in hard_negatives("brain-mri", phantom.attributes)}
        assert names == {"plane", "contrast"}


class TestWriting:
    def test_pairs_can_be_read_and_families_stay_together(self, tmp_path: Path) -> None:
        path = write_phantom_pairs(tmp_path, count=10, size=SIZE, relatives=2)
        found = read_pairs(path)
        assert len(found.pairs) == 10 and not found.skipped
        assert len({pair.group for pair in found.pairs}) == 4
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert all(row["negative"] != row["text"] for row in rows)

    def test_the_same_arguments_give_the_same_bytes(self, tmp_path: Path) -> None:
        for name, workers in (("a", 1), ("b", 2)):
            write_phantom_pairs(tmp_path / name, count=4, size=SIZE, seed=3, workers=workers)
        names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
        assert len(names) == 5
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_relatives_fix_one_attribute_each(self) -> None:
        fixed = siblings("brain-mri", 5, 4)
        assert [len(each) for each in fixed] == [1] * 4
        assert len({tuple(each.items()) for each in fixed}) == 4

    def test_too_few(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="2 or more"):
            write_phantom_pairs(tmp_path, count=1)
