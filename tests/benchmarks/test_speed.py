"""The table of speeds, from numbers that are kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from typer.testing import CliRunner

import speed
from speed import COLUMNS, Line, in_turn, page

LINES = [
    Line("a folder", "ahead", 2.0, "in turn", 3.0, memory=1000.0, floor=1.5),
    Line("one scan", "the command", 5.0),
]


def test_a_line_has_ratio_and_share_of_the_floor() -> None:
    assert LINES[0].cells() == ["a folder", "ahead", "2", "in turn", "3", "1.50", "1e+03", "1.5", "75 %"]
    assert LINES[1].cells() == ["one scan", "the command", "5", "", "", "", "", "", ""]
    assert len(LINES[0].cells()) == len(COLUMNS)


def test_ways_take_turns_and_the_least_counts() -> None:
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0, 30.0, 35.0])
    done: list[str] = []
    assert in_turn(2, lambda: done.append("a"), lambda: done.append("b"), clock=lambda: next(clock)) == [2.0, 1.0]
    assert done == ["a", "b", "a", "b"]


def test_a_page_is_made_of_kept_numbers(tmp_path: Path) -> None:
    record = {"command": "python benchmarks/speed.py", "made": ["today"], "lines": [asdict(each) for each in LINES]}
    (tmp_path / "kept.json").write_text(json.dumps(record))
    arguments = ["--read", str(tmp_path / "kept.json"), "--page", str(tmp_path / "page.md")]
    app = speed.typer.Typer()
    app.command()(speed.main)
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0
    written = (tmp_path / "page.md").read_text()
    assert written == page(record)
    assert "| a folder | ahead | 2 |" in written and "    python benchmarks/speed.py" in written
