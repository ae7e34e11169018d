from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.io.names import safe_id, unique_ids


class TestSafeId:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            (Path("folder/scan.png"), "scan"),
            (Path("scan.NII.GZ"), "scan"),
            (Path("1.2.840.113"), "1.2.840.113"),
            (Path("benign (1).png"), "benign (1)"),
            (Path("Röntgen Thorax.jpeg"), "Röntgen Thorax"),
            (Path("胸部.dcm"), "胸部"),
            ("patient/7", "patient_7"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("a\\b:c*?", "a_b_c__"),
            ("line\nbreak\0", "line_break_"),
            (".hidden", "hidden"),
            ("dots...", "dots"),
            ("con", "_con"),
            ("", "scan"),
            ("..", "scan"),
            (".png", "png"),
        ],
    )
    def test_examples(self, name: str | Path, expected: str) -> None:
        assert safe_id(name) == expected

    @settings(max_examples=50, deadline=None)
    @given(st.text(max_size=400))
    def test_is_always_a_file_name(self, text: str) -> None:
        safe = safe_id(text)
        assert 0 < len(safe.encode()) <= 180
        assert not set(safe) & set('/\\<>:"|?*\0\n\r\t')
        assert not safe.startswith(".")
        assert Path(safe).name == safe

    def test_long_names_stay_apart(self) -> None:
        assert safe_id("x" * 300 + "a") != safe_id("x" * 300 + "b")

    def test_an_undecodable_name(self) -> None:
        safe_id(Path("a\udcff.png")).encode()


class TestUniqueIds:
    def ids(self, *names: str, root: str | None = "/r") -> list[str]:
        return unique_ids([Path("/r", name) for name in names], Path(root) if root else None)

    def test_plain_where_unique(self) -> None:
        assert self.ids("sub/a.png", "b.nii.gz") == ["a", "b"]

    def test_folders(self) -> None:
        assert self.ids("s1/a.png", "s2/a.png", "c.png") == ["s1_a", "s2_a", "c"]

    def test_extensions(self) -> None:
        assert self.ids("scan.png", "scan.dcm", "scan.nii.gz") == ["scan_png", "scan_dcm", "scan_nii_gz"]

    def test_folders_and_extensions(self) -> None:
        assert self.ids("s/a.png", "s/a.dcm", "t/a.png") == ["s_a_png", "s_a_dcm", "t_a"]

    def test_letter_case(self) -> None:
        assert len({name.casefold() for name in self.ids("A.png", "a.png")}) == 2

    def test_without_a_root(self) -> None:
        assert self.ids("s1/a.png", "s2/a.png", root=None) == ["s1_a", "s2_a"]

    def test_outside_the_root(self) -> None:
        assert len(set(unique_ids([Path("/x/a.png"), Path("/y/a.png")], Path("/r")))) == 2

    def test_none(self) -> None:
        assert unique_ids([]) == []

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.from_regex(r"([ab_]/){0,2}[ab_]{1,3}(_png)?\.(png|dcm|nii\.gz)", fullmatch=True), unique=True))
    def test_never_collide(self, names: list[str]) -> None:
        ids = self.ids(*names)
        assert len({name.casefold() for name in ids}) == len(names)
