from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.benchmark.report import score_table
from lexiseg.benchmark.run import BenchmarkSummary
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.report.writing import number

Bench = Callable[..., BenchmarkSummary]


def dice(out: Path, data: Path, name: str) -> float:
    first = np.asarray(Image.open(out / f"{name}_mask.png")) > 0
    second = np.asarray(Image.open(data / "busi" / "masks" / f"{name}.png")) > 0
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture
def summary(bench: Bench) -> BenchmarkSummary:
    return bench(command="lexiseg benchmark tiny.yaml --data DIR --out DIR", date="2026-01-02")


class TestNumbers:
    def test_are_those_of_evaluate(self, summary: BenchmarkSummary, data: Path, tmp_path: Path) -> None:
        entry = next(e for e in summary.leaderboard.entries if e.cell.name == "busi/demo/generic/seed-0")
        from lexiseg.evaluation.settings import EvaluationSettings
        from lexiseg.evaluation.statistics import Bootstrap

        found = evaluate(
            data / "busi" / "manifest.csv",
            [tmp_path / "out" / "cells" / "busi" / "demo" / "generic" / "seed-0"],
            EvaluationSettings(bootstrap=Bootstrap(resamples=50)),
        )
        expected = found.systems[0].summaries[found.strata[0]]
        assert {key: (each.mean, each.interval) for key, each in entry.everything.items()} == {
            key: (each.mean, each.interval) for key, each in expected.items()
        }
        presence = found.systems[0].presence[found.strata[0]]
        assert entry.presence is not None
        assert entry.presence.auroc == presence.auroc

    def test_the_score_is_over_scans_with_the_target(
        self, summary: BenchmarkSummary, data: Path, tmp_path: Path
    ) -> None:
        entry = next(e for e in summary.leaderboard.entries if e.cell.name == "busi/demo/generic/seed-0")
        out = tmp_path / "out/cells/busi/demo/generic/seed-0"
        values = [dice(out, data, f"busi_{k:03}") for k in range(5)]
        assert entry.score == pytest.approx(np.mean(values))
        assert entry.everything["dice"].mean == pytest.approx(np.mean([*values, 0]))
        assert (entry.with_target, entry.called_absent, entry.drawn_in_absent) == (5, 0, 1)

    def test_boxes_alone_are_scored_by_boxes(self, summary: BenchmarkSummary) -> None:
        entry = next(e for e in summary.leaderboard.entries if e.cell.set.name == "cheng")
        assert entry.metric == "box_iou"
        assert (entry.scans, entry.with_target) == (4, 3)

    def test_a_yardstick_has_no_presence_and_is_last(self, summary: BenchmarkSummary) -> None:
        generic = [e for e in summary.leaderboard.entries if e.cell.kind == "generic"]
        assert [(e.cell.set.name, e.cell.system.name) for e in generic] == [
            ("busi", "demo"),
            ("busi", "sam-box"),
            ("cheng", "demo"),
        ]
        assert generic[1].yardstick

    def test_sensitivity_tells_what_the_phrases_do(self, summary: BenchmarkSummary) -> None:
        found = {entry.kind: entry for entry in summary.leaderboard.wording}
        assert list(found) == ["right", "wrong organ", "gibberish"]
        # The fake pipeline's map is the scan, and it believes every phrase but "absent".
        assert found["wrong organ"].absent.mean == 1
        assert found["wrong organ"].presence_change.mean == pytest.approx(-0.8)
        assert found["gibberish"].absent.mean == 0
        assert {entry.pearson.mean for entry in found.values()} == {1.0}


class TestFiles:
    def test_two_runs_give_the_same_bytes(self, bench: Bench, tmp_path: Path) -> None:
        first, second = (bench(out=tmp_path / name, seconds=False, command="c").written for name in ("one", "two"))
        assert [path.name for path in first] == [
            "leaderboard.md",
            "leaderboard.csv",
            "leaderboard.json",
            "sensitivity.csv",
        ]
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

    def test_markdown_says_how_it_was_made(self, summary: BenchmarkSummary) -> None:
        text = summary.written[0].read_text()
        assert "    lexiseg benchmark tiny.yaml --data DIR --out DIR\n" in text
        assert "Date: 2026-01-02" in text
        assert "lexiseg 0" in text
        assert "torch " in text
        assert "WERE TRAINED" in text
        assert "sha256 000000000000" in text
        assert text.index("## Prompts: generic") < text.index("## Prompts: oracle-class")
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert tables and all(line.count("|") > 3 for line in tables)

    def test_no_date_unless_it_is_given(self, bench: Bench) -> None:
        assert "Date" not in bench().written[0].read_text()

    def test_no_place_of_this_machine(self, summary: BenchmarkSummary, tmp_path: Path) -> None:
        assert len(summary.written) == 4
        assert all(str(tmp_path) not in path.read_text() for path in summary.written)

    def test_csv_has_a_row_for_each_cell(self, summary: BenchmarkSummary) -> None:
        rows = list(csv.DictReader(summary.written[1].open()))
        assert [(row["set"], row["prompt"], row["preset"]) for row in rows] == [
            ("busi", "generic", "demo"),
            ("busi", "generic", "sam-box"),
            ("cheng", "generic", "demo"),
            ("busi", "oracle-class", "demo"),
        ]
        assert rows[1]["presence_auroc"] == ""
        assert float(rows[0]["score_low"]) <= float(rows[0]["score"]) <= float(rows[0]["score_high"])

    def test_json_holds_everything(self, summary: BenchmarkSummary) -> None:
        found = json.loads(summary.written[2].read_text())
        assert len(found["entries"]) == 4
        assert len(found["sensitivity"]) == 3
        assert found["sets"]["busi"]["scans"] == 6


class TestTables:
    def test_seconds_only_where_they_are_told(self, bench: Bench, summary: BenchmarkSummary) -> None:
        assert score_table(summary.leaderboard, "generic").header[-1] == "s / scan"
        without = bench(seconds=False).leaderboard
        assert score_table(without, "generic").header[-1] == "missing"

    def test_the_best_of_several_is_set_off(self, bench: Bench) -> None:
        from suite_data import suite_fields

        fields: dict[str, Any] = suite_fields()
        fields["presets"]["other"] = {"preset": "sam-unprompted", "prompts": "generic"}
        board = bench(fields).leaderboard
        table = score_table(board, "generic")
        best = [(row[0].text, row[1].text) for row in table.rows if any(cell.best for cell in row)]
        assert best == [("busi", "demo"), ("cheng", "demo")]

    @pytest.mark.parametrize(("value", "text"), [(float("nan"), "–"), (-0.0001, "0.000"), (0.12345, "0.123")])
    def test_numbers(self, value: float, text: str) -> None:
        assert number(value) == text
