"""The table of speeds, from numbers that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import speed
from lexiseg.models.lean import can_pack, lean
from speed_default import counted_operations
from speed_table import COLUMNS, Line, in_turn, kept, merge, page, table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "lab"
LINES = [
    Line("a folder", "ahead", 2.0, "in turn", 3.0, memory=1000.0, floor=1.5, their_memory=2000.0),
    Line("one scan", "the command", 5.0),
]


def told(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(speed.main)
    answer = CliRunner().invoke(app, list(arguments))
    return f"{answer.exit_code} {answer.output}"


def test_a_line_has_ratio_and_share_of_the_floor() -> None:
    assert LINES[0].cells() == ["a folder", "ahead", "2", "in turn", "3", "1.50", "1000", "2000", "1.5", "75 %"]
    assert LINES[1].cells() == ["one scan", "the command", "5", *[""] * 7]
    assert len(LINES[0].cells()) == len(COLUMNS)


def test_ways_take_turns_and_the_least_counts() -> None:
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0, 30.0, 35.0])
    done: list[str] = []
    assert in_turn(2, lambda: done.append("a"), lambda: done.append("b"), clock=lambda: next(clock)) == [2.0, 1.0]
    assert done == ["a", "b", "a", "b"]


def test_operations_of_packed_layers_are_counted() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(36, 5), nn.GELU(), nn.Linear(5, 2)).eval()
    packed = lean(plain, device=torch.device("cpu"), dtype=torch.float32)
    if not can_pack(torch.device("cpu"), torch.float32):
        pytest.skip("this torch packs no linear layers")
    assert not any(type(module) is nn.Linear for module in packed.modules())
    x, expected = torch.rand(2, 3, 8, 8), 2 * 2 * (36 * 8 * 27 + 8 * 36 * 5 + 8 * 5 * 2)
    with torch.inference_mode():
        assert counted_operations(lambda: plain(x)) == counted_operations(lambda: packed(x)) == expected


def test_parts_that_did_not_run_stay(tmp_path: Path) -> None:
    place = tmp_path / "kept.json"
    assert merge(place, {"b": 1}) == {"b": 1}
    place.write_text(json.dumps({"a": 0, "b": 0, "c": 0}))
    assert merge(place, {"b": 1}) == {"a": 0, "b": 1, "c": 0}


def test_a_page_is_made_of_kept_numbers(tmp_path: Path) -> None:
    record = {name: kept([line], command="a command", made="today") for name, line in zip("ab", LINES, strict=True)}
    (tmp_path / "kept.json").write_text(json.dumps(record))
    assert told("--read", str(tmp_path / "kept.json"), "--page", str(tmp_path / "page.md")).startswith("0 ")
    written = (tmp_path / "page.md").read_text()
    assert written == page(record)
    assert "| a folder | ahead | 2 |" in written and "| one scan |" in written
    assert written.count("    a command") == 1


def test_a_part_that_is_not_there_is_refused_before_anything_runs() -> None:
    assert "there is no part 'nonsense'" in told("--part", "start,nonsense").replace("\n", " ")


def test_the_page_in_docs_is_that_of_its_numbers() -> None:
    record = json.loads((DOCS / "speed.json").read_text())
    assert (DOCS / "speed.md").read_text() == page(record)
    assert set(record) <= set(speed.PARTS)
    assert table(record).count("\n| ") == sum(len(part["lines"]) for part in record.values())
