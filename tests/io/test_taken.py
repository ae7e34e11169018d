"""What lexiseg did not write is not overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.io.taken import refuse_taken

FILES = {"summary.csv": r"system,column,"}


def test_missing_and_empty_folders_and_own_files_pass(tmp_path: Path) -> None:
    refuse_taken(tmp_path / "new" / "deeper", FILES)
    refuse_taken(tmp_path, FILES)
    for own in ("system,column,value\n", "", "\n"):
        (tmp_path / "summary.csv").write_text(own)
        refuse_taken(tmp_path, FILES)
    assert [each.name for each in tmp_path.iterdir()] == ["summary.csv"]


@pytest.mark.parametrize("content", ["my,own,table\n", "id,image\n", "\x00\xff"])
def test_foreign_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.csv").write_text(content)
    with pytest.raises(UsageError, match=r"summary\.csv is there and lexiseg did not write it; choose another folder"):
        refuse_taken(tmp_path, FILES)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").mkdir()
    with pytest.raises(UsageError, match="lexiseg did not write it"):
        refuse_taken(tmp_path, FILES)


def test_an_input_is_refused_however_it_is_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("system,column,value\n")
    (tmp_path / "summary.csv").symlink_to(table)
    for named in (table, tmp_path / "." / "summary.csv"):
        with pytest.raises(UsageError, match=r"summary\.csv is there and is read by this call"):
            refuse_taken(tmp_path, FILES, inputs=[named])


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file: it is a file; expected a folder"):
        refuse_taken(tmp_path / "file", FILES)
    with pytest.raises(UnwritableResult, match="could not be written"):
        refuse_taken(tmp_path / "file" / "r", FILES)
