from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.errors import BadManifest, UsageError


@pytest.fixture
def manifest(tmp_path: Path):
    def make(text: str | bytes, name: str = "m.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


class TestRows:
    def test_every_column(self, manifest, tmp_path: Path) -> None:
        (row,) = read_manifest(
            manifest(
                "id,image,mask,text,group,label,bbox,organ\n"
                'a,images/a.png,masks/a.png,"a tumour, small",p1,benign,1 2 3.5 4; 5 6 7 8,breast\n'
            )
        )
        assert row == ManifestRow(
            id="a",
            image=tmp_path / "images/a.png",
            mask=tmp_path / "masks/a.png",
            text="a tumour, small",
            group="p1",
            label="benign",
            boxes=((1, 2, 3.5, 4), (5, 6, 7, 8)),
            extra={"organ": "breast"},
        )

    def test_the_least(self, manifest, tmp_path: Path) -> None:
        rows = read_manifest(manifest("image,id\na.png,a\n\nb.png,b\n"))
        assert [(row.id, row.image, row.mask, row.text, row.error) for row in rows] == [
            ("a", tmp_path / "a.png", None, "", ""),
            ("b", tmp_path / "b.png", None, "", ""),
        ]

    @pytest.mark.parametrize(
        "text", ["\ufeffid,image\r\na,a.png\r\n", " id , image \n a , a.png ", "id,image\ra,a.png"]
    )
    def test_what_spreadsheets_write(self, manifest, text: str) -> None:
        assert [row.id for row in read_manifest(manifest(text))] == ["a"]

    def test_dots_inside_a_name(self, manifest) -> None:
        (row,) = read_manifest(manifest("id,image\na,images/a..b.png\n"))
        assert row.error == ""


class TestRowErrors:
    @pytest.mark.parametrize(
        ("image", "why"),
        [
            ("/etc/passwd", "is an absolute path"),
            ("C:\\scans\\a.png", "is an absolute path"),
            ("\\\\server\\a.png", "is an absolute path"),
            ("../a.png", "leads out"),
            ("images/../../a.png", "leads out"),
            ("images\\..\\..\\a.png", "leads out"),
            ("link/a.png", "is a link out"),
            ("link.png", "is a link out"),
            ("loop.png", "is a link out"),
        ],
    )
    @pytest.mark.parametrize("column", ["image", "mask"])
    def test_a_path_that_leads_out(
        self,
        manifest,
        tmp_path: Path,
        tmp_path_factory: pytest.TempPathFactory,
        image: str,
        why: str,
        column: str,
    ) -> None:
        outside = tmp_path_factory.mktemp("outside")
        (outside / "a.png").touch()
        (tmp_path / "link").symlink_to(outside)
        (tmp_path / "link.png").symlink_to(outside / "a.png")
        (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
        cells = f"{image}," if column == "image" else f"x.png,{image}"
        good, bad, last = read_manifest(manifest(f"id,image,mask\na,a.png,\nb,{cells}\nc,c.png,\n"))
        assert why in bad.error
        assert bad.error.isprintable()
        assert (good.error, last.error) == ("", "")
        assert str(getattr(bad, column) or "").startswith(str(tmp_path)) is False

    @pytest.mark.parametrize("box", ["1 2 3", "a b c d", "5 2 3 4", "1 2 nan 4", "-1 0 2 2", "1,2,3,4"])
    def test_a_bad_box(self, manifest, box: str) -> None:
        (row,) = read_manifest(manifest(f'id,image,bbox\na,a.png,"{box}"\n'))
        assert "bbox" in row.error
        assert row.boxes == ()

    def test_a_row_that_lacks_or_exceeds(self, manifest) -> None:
        rows = read_manifest(manifest("id,image\n,a.png\nb,b.png,a tumour, small\nc,\n"))
        assert (rows[2].id, rows[2].error) == ("c", "line 4 has no image")
        assert rows[0].error == "line 2 has no id"
        assert rows[1].error.startswith("line 3 has 4 fields, expected 2")


class TestRoot:
    """A manifest that lies elsewhere, and scans below a root."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "scans" / "deep").mkdir(parents=True)
        (tmp_path / "scans" / "a.png").touch()
        return tmp_path / "scans"

    def test_relative_paths_are_relative_to_it(self, manifest, root: Path) -> None:
        (row,) = read_manifest(manifest("id,image,mask\na,deep/a.png,m.png\n"), root=root)
        assert (row.image, row.mask, row.error) == (root / "deep/a.png", root / "m.png", "")

    def test_absolute_paths_inside_it_are_fine(self, manifest, root: Path) -> None:
        (row,) = read_manifest(manifest(f"id,image\na,{root}/deep/a.png\n"), root=root)
        assert (row.image, row.error) == (root / "deep" / "a.png", "")

    def test_of_a_relative_root_too(self, manifest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root.parent)
        (row,) = read_manifest(manifest(f"id,image\na,{root}/a.png\n"), root="scans")
        assert (row.image, row.error) == (Path("scans/a.png"), "")

    def test_of_a_root_that_is_a_link_too(self, manifest, root: Path) -> None:
        (root.parent / "link").symlink_to(root)
        (row,) = read_manifest(manifest(f"id,image\na,{root}/a.png\n"), root=root.parent / "link")
        assert (row.image, row.error) == (root / "a.png", "")

    @pytest.mark.parametrize(
        ("image", "why"),
        [
            ("/etc/passwd", "the image /etc/passwd lies outside the root"),
            ("{root}x/a.png", "lies outside the root"),
            ("../m.csv", "leads out of the root"),
            ("{root}/../m.csv", "leads out of the root"),
            ("C:\\scans\\a.png", "an absolute path of another system"),
            ("link/m.csv", "is a link out of the root"),
            ("{root}/link/m.csv", "lies outside the root"),
            ("loop.png", "is a link out of the root"),
        ],
    )
    def test_what_leads_out_costs_its_row_alone(self, manifest, root: Path, image: str, why: str) -> None:
        (root / "link").symlink_to(root.parent)
        (root / "loop.png").symlink_to(root / "loop.png")
        bad, good = read_manifest(manifest(f"id,image\na,{image.format(root=root)}\nb,a.png\n"), root=root)
        assert why in bad.error
        assert good.error == ""

    def test_the_manifests_own_folder_counts_no_more(self, manifest, root: Path, tmp_path: Path) -> None:
        (row,) = read_manifest(manifest(f"id,image\na,{tmp_path}/a.png\n"), root=root)
        assert "outside the root" in row.error

    def test_that_is_not_there(self, manifest, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="nowhere: no such folder; expected the root"):
            read_manifest(manifest("id,image\na,a.png\n"), root=tmp_path / "nowhere")


class TestBadManifest:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "the file is empty"),
            ("\n \n", "the file is empty"),
            ("id,image\n", "no rows"),
            ("image\na.png\n", "the column id is missing"),
            ("name,text\na,b\n", "the column id and image is missing"),
            ("id;image\na;a.png\n", "separated by commas"),
            ("id,image,id\na,a.png,b\n", "the column id is there more than once"),
            ("id,image\na,a.png\na,b.png\n", "the id a is there more than once"),
            ("id,image\na/b,a.png\na_b,b.png\n", "the id a_b names the same file as a/b"),
            ("id,image\nA,a.png\na,b.png\n", "the id a names the same file as A"),
            ('id,image\na,"a.png\n', "is not CSV"),
            ("id,image\na," + "x" * 200_000, "is not CSV"),
            ("id,image\na,ä.png\n".encode("latin-1"), "not UTF-8"),
            ("id,image\na,a.png\n".encode("utf-16"), "not UTF-8"),
        ],
    )
    def test_one_line_says_why(self, manifest, text: str | bytes, why: str) -> None:
        path = manifest(text)
        with pytest.raises(BadManifest) as caught:
            read_manifest(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert why in str(caught.value)
        assert str(caught.value).isprintable()

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="no such file"):
            read_manifest(tmp_path / "m.csv")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="a folder"):
            read_manifest(tmp_path)


class TestWriteManifest:
    def test_is_read_back(self, tmp_path: Path) -> None:
        rows = [
            ManifestRow(id="a", image=tmp_path / "i" / "a.png", text='say "so", twice\nor more', extra={"organ": "ä"}),
            ManifestRow(id="b", image=tmp_path / "b.png", mask=tmp_path / "m.png", boxes=((0, 1, 2.5, 3),), group="g"),
        ]
        path = write_manifest(rows, tmp_path / "m.csv")
        again = read_manifest(path)
        assert again[0].text == rows[0].text
        assert again[1].boxes == rows[1].boxes
        assert [row.image for row in again] == [row.image for row in rows]
        assert [dict(row.extra) for row in again] == [{"organ": "ä"}, {"organ": ""}]

    def test_only_needed_columns(self, tmp_path: Path) -> None:
        path = write_manifest([ManifestRow(id="a", image=tmp_path / "a.png")], tmp_path / "m.csv")
        assert path.read_bytes() == b"id,image\na,a.png\n"

    def test_refuses(self, tmp_path: Path) -> None:
        row = ManifestRow(id="a", image=tmp_path / "a.png")
        with pytest.raises(BadManifest, match="without rows"):
            write_manifest([], tmp_path / "m.csv")
        with pytest.raises(BadManifest, match="more than once"):
            write_manifest([row, row], tmp_path / "m.csv")
        with pytest.raises(BadManifest, match="outside"):
            write_manifest([row], tmp_path / "sub" / "m.csv")
