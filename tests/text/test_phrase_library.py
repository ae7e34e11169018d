from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg.errors import UsageError
from lexiseg.text.phrases import default_library, load_library, phrase_key, phrase_set

NAMES = ("breast tumor", "brain tumor", "lungs", "left lung", "right lung", "heart", "fetal head")


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


class TestDefault:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_target_is_complete(self, name: str) -> None:
        found = default_library().find(name)
        assert found is not None
        target = found[0]
        assert target.name == name
        assert len(target.synonyms) >= 2
        assert len(target.templates) >= 3
        assert len(target.negatives) >= 2

    @pytest.mark.parametrize(("name", "kind"), [("breast tumor", "breast cancer"), ("brain tumor", "meningioma")])
    def test_a_kind_of_tumor_does_not_speak_for_all(self, name: str, kind: str) -> None:
        assert kind in phrase_set(kind, ensemble=True).wordings
        assert kind not in phrase_set(name, ensemble=True).wordings

    def test_left_is_weighed_against_right(self) -> None:
        assert "right lung" in phrase_set("left lung").negatives
        assert "left lung" in phrase_set("Right lung").negatives

    def test_left_lung_is_not_lungs(self) -> None:
        found = default_library().find("left lung")
        assert found is not None and found[0].name == "left lung"

    def test_what_salip_is_asked_for_ships(self) -> None:
        for name in ("brain", "lungs", "fetal head", "breast tumor", "brain tumor"):
            found = default_library().find(name)
            assert found is not None and found[0].name == name and len(found[0].negatives) >= 3
            assert found[0].regions == (2 if name == "lungs" else 1)

    def test_foetal_head(self) -> None:
        assert phrase_set("Foetal head").wordings == ("fetal head",)

    @pytest.mark.parametrize("name", NAMES)
    def test_no_target_is_its_own_negative(self, name: str) -> None:
        found = phrase_set(name, ensemble=True)
        assert not {phrase_key(p) for p in found.wordings} & {phrase_key(n) for n in found.negatives}
        assert len(found.wordings) > 4


class TestKey:
    def test_article_alone_stays(self) -> None:
        assert phrase_key("a") == "a"

    def test_apostrophes(self) -> None:
        assert phrase_key("Baby’s  HEAD") == phrase_key("baby's head")

    def test_whole_words_only(self) -> None:
        assert phrase_key("humour") == "humour"


class TestBadFiles:
    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no \.yaml"):
            load_library(tmp_path)

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("[", "YAML"),
            ("- a", "named fields"),
            ("synonyms: [a]", "no name"),
            ("name: a\nsynonyms: b", "list"),
            ("name: a\nnegatives: ['']", "non-empty"),
            ("name: a\ntemplates: ['scan']", "{}"),
            ("name: a\nother: 1", "unknown fields other"),
            ("name: a\nnulls: [b]", "a field nulls: it is called negatives now"),
            ("name: a\nregions: 0", "regions is 0; expected a number"),
            ("name: a\nregions: two", "regions is 'two'"),
            ("name: a\nregions: true", "regions is True"),
        ],
    )
    def test_one_line_that_names_the_file(self, tmp_path: Path, text: str, match: str) -> None:
        with pytest.raises(UsageError, match=match) as caught:
            load_library(write(tmp_path, text))
        assert "x.yaml" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("text", "match"), [("nulls: [air]", "called negatives now"), ("name: a", "fields name")])
    def test_generic_fields_that_nobody_would_read(self, tmp_path: Path, text: str, match: str) -> None:
        write(tmp_path, "name: spleen")
        write(tmp_path, text, "generic.yaml")
        with pytest.raises(UsageError, match=match):
            load_library(tmp_path)

    def test_two_owners(self, tmp_path: Path) -> None:
        write(tmp_path, "name: a lung", "a.yaml")
        write(tmp_path, "name: chest\nsynonyms: [LUNG]", "b.yaml")
        with pytest.raises(UsageError, match="belongs to both"):
            load_library(tmp_path)

    def test_two_owners_of_a_variant(self, tmp_path: Path) -> None:
        write(tmp_path, "name: spleen\nvariants: [accessory spleen]", "a.yaml")
        write(tmp_path, "name: accessory spleen", "b.yaml")
        with pytest.raises(UsageError, match="belongs to both"):
            load_library(tmp_path)

    def test_own_folder(self, tmp_path: Path) -> None:
        write(tmp_path, "name: spleen\nnegatives: [liver]")
        write(tmp_path, "templates: ['see {}']\nnegatives: [air]", "generic.yaml")
        library = load_library(tmp_path)
        assert phrase_set("SPLEEN", library=library).negatives == ("liver", "air")
        assert phrase_set("kidney", ensemble=True, library=library).wordings == ("kidney", "see kidney")
