"""A demonstration overwrites what a demonstration wrote, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lexiseg.errors import UsageError
from lexiseg.runs.demo_files import RECORD_NAME, begin_demo, end_demo

NAMES = ["demo.png", "scans/manifest.csv"]


def written(out: Path, *, finished: bool = True) -> None:
    begin_demo(out, NAMES)
    for name in NAMES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    if finished:
        end_demo(out)


@pytest.mark.parametrize("made", [False, True])
def test_a_missing_and_an_empty_folder(tmp_path: Path, made: bool) -> None:
    out = tmp_path / "demo"
    if made:
        out.mkdir()
    written(out)
    assert set(json.loads((out / RECORD_NAME).read_text())["lexiseg demo"]) == set(NAMES)


@pytest.mark.parametrize("finished", [False, True])
def test_an_earlier_demo_also_one_that_was_killed(tmp_path: Path, finished: bool) -> None:
    written(tmp_path, finished=finished)
    written(tmp_path)


@pytest.mark.parametrize("name", ["scans/manifest.csv", "demo.png", "notes.txt", RECORD_NAME])
def test_files_of_somebody_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="it holds files that no demo wrote; choose another folder"):
        begin_demo(tmp_path, NAMES)
    assert (tmp_path / name).read_text() == "{}"


def test_a_file_that_was_changed_since(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "scans" / "manifest.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"scans/manifest\.csv was changed after its demo wrote it"):
        begin_demo(tmp_path, NAMES)
    (tmp_path / "scans" / "manifest.csv").unlink()
    begin_demo(tmp_path, NAMES)


def test_a_file_beside_an_earlier_demo(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_text("mine")
    begin_demo(tmp_path, NAMES)
    with pytest.raises(UsageError, match=r"figures/mine\.png is there and no demo wrote it"):
        begin_demo(tmp_path, [*NAMES, "figures/mine.png"])


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="it is a file; expected a folder"):
        begin_demo(tmp_path / "file", NAMES)
