from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg.errors import BadManifest, BadPhrase, UsageError
from lexiseg.runs.items import gather_items


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


class TestInputs:
    def test_a_folder_gives_its_scans_in_order(self, scans: Path) -> None:
        items = gather_items([scans], phrases=["breast  tumor "])
        assert [item.id for item in items] == ["a", "b", "c"]
        assert items[0].phrases == ("breast tumor",)
        assert items[0].shown == str(scans / "a.png")

    def test_one_missing_file_among_others_is_its_own_failure(self, scans: Path) -> None:
        items = gather_items([scans / "a.png", scans / "gone.png"], phrases=["tumor"])
        assert [item.id for item in items] == ["a", "gone"]

    def test_nothing_that_exists_is_a_wrong_call(self, scans: Path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            gather_items([scans / "gone.png"], phrases=["tumor"])

    @pytest.mark.parametrize("phrases", [[""], ["  "], ["123"], ["tumor", "Tumor"]])
    def test_bad_phrases(self, scans: Path, phrases: list[str]) -> None:
        with pytest.raises(BadPhrase):
            gather_items([scans], phrases=phrases)

    def test_no_input_and_no_phrase(self, scans: Path) -> None:
        with pytest.raises(UsageError, match="no scan"):
            gather_items([], phrases=["tumor"])
        with pytest.raises(UsageError, match="no phrase"):
            gather_items([scans])


class TestManifest:
    def test_ids_and_texts_are_the_manifests(self, scans: Path) -> None:
        items = gather_items(manifest=manifest(scans, "id,image,text", "p1,b.png,tumor", "p2,a.png,lung"))
        assert [(item.id, item.shown, item.phrases) for item in items] == [
            ("p1", "b.png", ("tumor",)),
            ("p2", "a.png", ("lung",)),
        ]

    def test_a_phrase_overrides_the_texts(self, scans: Path) -> None:
        path = manifest(scans, "id,image,text", "p1,b.png,A caption of it.")
        assert gather_items(manifest=path, phrases=["tumor"])[0].phrases == ("tumor",)

    def test_a_row_without_text_fails_alone(self, scans: Path) -> None:
        items = gather_items(manifest=manifest(scans, "id,image,text", "p1,b.png,tumor", "p2,a.png,"))
        assert items[0].error == ""
        assert items[1].error.startswith("p2: the phrase is empty")

    def test_no_text_at_all_is_a_wrong_call(self, scans: Path) -> None:
        with pytest.raises(UsageError, match="no row has a text"):
            gather_items(manifest=manifest(scans, "id,image", "p1,b.png"))

    @pytest.mark.parametrize("image", ["/etc/passwd", "../x.png", "C:\\x.png"])
    def test_paths_out_of_the_folder_are_failed_rows(self, scans: Path, image: str) -> None:
        items = gather_items(manifest=manifest(scans, "id,image", "p1,a.png", f"p2,{image}"), phrases=["tumor"])
        assert not items[0].error
        assert items[1].error.startswith("p2: the image")

    def test_a_missing_column(self, scans: Path) -> None:
        with pytest.raises(BadManifest, match="column image"):
            gather_items(manifest=manifest(scans, "id,path", "p1,a.png"), phrases=["tumor"])

    def test_listed_scans_and_their_masks_are_not_taken_again(self, scans: Path) -> None:
        path = manifest(scans, "id,image,mask", "p1,a.png,b.png")
        items = gather_items([scans], manifest=path, phrases=["tumor"])
        assert [item.id for item in items] == ["p1", "c"]

    def test_an_inputs_name_gives_way_to_a_manifests_id(self, scans: Path) -> None:
        items = gather_items([scans], manifest=manifest(scans, "id,image", "b,a.png"), phrases=["tumor"])
        assert [item.id for item in items] == ["b", "b_2", "c"]

    def test_a_root_is_what_paths_are_relative_to(self, scans: Path, tmp_path: Path) -> None:
        lists = tmp_path / "lists"
        lists.mkdir()
        (lists / "m.csv").write_text(f"id,image,text\nx,a.png,lungs\ny,{scans / 'b.png'},lungs\nz,/etc/passwd,lungs\n")
        first, second, third = gather_items(manifest=lists / "m.csv", root=scans)
        assert (first.path, first.error, first.shown) == (scans / "a.png", "", "a.png")
        assert (second.error, second.shown) == ("", "b.png")
        assert "root" in third.error
        with pytest.raises(UsageError, match="no such folder; expected the root"):
            gather_items(manifest=lists / "m.csv", root=tmp_path / "gone")
