from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.report.page import write_report
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap

FILES = {"report.html", "report.md", "report.json", "cases.csv", "summary.csv", "comparisons.csv"}


@pytest.fixture
def systems(small: Any) -> list[Path]:
    good, bad = small.predict("good", 1), small.predict("bad", 4, table=False)
    (bad / "b_mask.png").unlink()
    return [good, bad]


def write(small: Any, systems: list[Path], name: str, **settings: Any) -> Path:
    chosen = EvaluationSettings(bootstrap=Bootstrap(resamples=100), by=("label",), **settings)
    return write_report(evaluate(small.manifest, systems, chosen), small.folder.parent / name).parent


class Page(HTMLParser):
    """Checks that elements are closed, and collects what a browser would fetch."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr", "use", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.fetched.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class TestFiles:
    def test_two_runs_give_the_same_bytes(self, small: Any, systems: list[Path], report: Path) -> None:
        first, second = report, write(small, systems, "again")
        assert {path.name for path in first.iterdir()} == FILES
        for name in FILES:
            assert (first / name).read_bytes() == (second / name).read_bytes(), name

    def test_no_path_of_this_machine(self, small: Any, systems: list[Path]) -> None:
        (systems[0] / "c_mask.png").write_bytes(b"junk")
        (small.folder / "masks" / "d.png").unlink()
        out = write(small, systems, "out")
        for name in FILES:
            assert str(small.folder.parent) not in (out / name).read_text(encoding="utf-8"), name

    def test_csv_agree_with_json(self, report: Path) -> None:
        record = json.loads((report / "report.json").read_text())
        with (report / "summary.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        (mean,) = (row for row in rows if (row["system"], row["metric"], row["column"]) == ("bad", "dice", ""))
        stratum = record["systems"][1]["strata"][0]
        assert float(mean["mean"]) == stratum["metrics"]["dice"]["mean"]
        assert record["systems"][1]["failed"] == [
            {"id": "b", "status": "missing", "reason": "no b_mask.png or the like"}
        ]
        with (report / "cases.csv").open(newline="") as file:
            scored = list(csv.DictReader(file))
        assert len(scored) == 12
        mean_of_cases = sum(float(row["dice"]) for row in scored if row["system"] == "bad") / 6
        assert mean_of_cases == pytest.approx(float(mean["mean"]), abs=1e-8)

    def test_markdown_has_tables_and_names_what_is_missing(self, report: Path) -> None:
        text = (report / "report.md").read_text()
        widths = [line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")]
        assert len(widths) > 20
        assert "| b | missing | no b\\_mask.png or the like |" in text

    def test_thresholds_of_who_gives_a_presence(self, report: Path) -> None:
        markdown = (report / "report.md").read_text()
        # Presences are 0.9 to 0.7 for the five with the target, and 0.2 for the one without.
        assert "| good | 0.3 | 1.000 | 5 of 5 | 1.000 | 1 of 1 |" in markdown
        assert "| good | 0.8 | 0.600 | 3 of 5 | 1.000 | 1 of 1 |" in markdown
        assert "| bad | 0.3 |" not in markdown
        assert "Sensitivity and specificity by threshold" in (report / "report.html").read_text(encoding="utf-8")
        record = json.loads((report / "report.json").read_text())
        good, bad = (system["strata"][0]["presence"]["thresholds"] for system in record["systems"])
        assert [each["threshold"] for each in good] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        assert (good[7]["found"], good[7]["sensitivity"]) == (3, 0.6)
        assert bad == []

    def test_no_thresholds_where_nobody_gives_a_presence(self, small: Any, systems: list[Path]) -> None:
        out = write(small, systems[1:], "out")
        assert "by threshold" not in (out / "report.html").read_text(encoding="utf-8")
        assert "by threshold" not in (out / "report.md").read_text()


class TestPage:
    def test_is_closed_and_fetches_nothing(self, report: Path) -> None:
        text = (report / "report.html").read_text(encoding="utf-8")
        page = Page(text)
        assert page.open == []
        assert page.fetched
        assert all(each.startswith("data:image/") for each in page.fetched)
        assert not re.search(r"@import|url\((?!#)", text)
        assert "<script" not in text

    def test_names_do_not_become_markup(self, small: Any) -> None:
        folder = small.predict("<b>&amp;<script>alert(1)<")
        rows = small.rows()
        rows[0][4] = "<i>x|y</i>"
        small.write_manifest(rows)
        text = (write(small, [folder], "out") / "report.html").read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<i>" not in text
        Page(text)

    def test_shows_best_and_worst_but_no_scan_where_none_is_wanted(self, small: Any, systems: list[Path]) -> None:
        chosen = EvaluationSettings(bootstrap=Bootstrap(resamples=20))
        found = evaluate(small.manifest, systems, chosen)
        shown = write_report(found, small.folder.parent / "shown", cases=1).read_text(encoding="utf-8")
        assert shown.count("data:image/jpeg") == 6
        bare = write_report(found, small.folder.parent / "bare", cases=0).read_text(encoding="utf-8")
        assert "data:image" not in bare

    def test_of_boxes_alone(self, small: Any) -> None:
        rows = [[r[0], r[1], "13 15 28 31"] for r in small.rows()]
        small.write_manifest(rows, ("id", "image", "bbox"))
        found = evaluate(small.manifest, [small.predict("p")], EvaluationSettings())
        text = write_report(found, small.folder.parent / "out").read_text(encoding="utf-8")
        assert "Box IoU" in "".join(Page(text).words)
