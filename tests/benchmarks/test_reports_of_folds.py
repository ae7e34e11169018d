"""What is made of the reports of benchmarks/quality.py: folds pooled, and copies whose truths disagree."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from compare import difference
from compare import main as compare
from contradictions import contradicted
from folds import main as folds
from folds import pooled
from recipe.data import read_rows

Report = dict[str, dict[str, object]]
LEFT, RIGHT, NOWHERE = (4, 20), (60, 80), None


def report(name: str, scores: list[float], groups: list[str], fold: int = 0) -> Report:
    """The parts of a report that pooling reads."""
    return {name: {"fold": fold, "groups": groups, "each": {"mask": scores}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six scans: one grain twice (truths left, right), another thrice (left, none, left), one alone."""
    scans = {
        "a1": (1, LEFT),
        "a2": (1, RIGHT),
        "b1": (2, LEFT),
        "b2": (2, NOWHERE),
        "c": (3, RIGHT),
        "b3": (2, LEFT),
    }
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["id", "image", "mask", "group", "label", "bbox", "text"])
        table.writeheader()
        for name, (seed, columns) in scans.items():
            grain = np.random.default_rng(seed).integers(0, 256, (96, 96), np.uint8)
            Image.fromarray(grain).save(tmp_path / f"{name}.png")
            row = {"id": name, "image": f"{name}.png", "group": name, "label": "benign", "text": name}
            if columns:
                mask = np.zeros((96, 96), np.uint8)
                mask[10:30, slice(*columns)] = 255
                Image.fromarray(mask).save(tmp_path / f"{name}-mask.png")
                row |= {"mask": f"{name}-mask.png", "bbox": f"{columns[0]} 10 {columns[1]} 30"}
            table.writerow(row)
    return tmp_path


def test_a_scan_is_contradicted_by_a_copy_with_another_truth_or_with_none(folder: Path) -> None:
    found = contradicted(read_rows(folder), folder, alike=0.9, agree=0.3)
    assert sorted(found) == ["a1", "a2", "b1", "b3"]  # b1 and b3 agree with each other, not with b2
    assert all(value > 0.99 for value in found.values())


def test_copies_whose_truths_agree_are_no_contradiction(folder: Path) -> None:
    rows = [row for row in read_rows(folder) if row["id"] in ("b1", "b3", "c")]
    assert contradicted(rows, folder, alike=0.9, agree=0.3) == {}


def test_every_scan_of_a_set_counts_once_over_the_folds() -> None:
    found = [report("busi", [0.5, 0.7], ["p", "q"]), report("busi", [0.9], ["r"], 1)]
    assert pooled(found, "busi", "mask") == ([0.5, 0.7, 0.9], ["p", "q", "r"], pytest.approx([0.6, 0.9]))


def test_a_set_that_no_fold_trained_on_is_scored_by_all_and_averaged() -> None:
    found = [report("lgg", [0.5, 0.7], ["p", "q"]), report("lgg", [0.7, 0.9], ["p", "q"], 1)]
    scores, groups, means = pooled(found, "lgg", "mask")
    assert scores == pytest.approx([0.6, 0.8])
    assert groups == ["p", "q"]
    assert means == pytest.approx([0.6, 0.8])


def test_a_difference_is_paired_and_in_points() -> None:
    before, after = report("busi", [0.5, 0.7], ["p", "q"]), report("busi", [0.51, 0.73], ["p", "q"])
    assert difference([before], [after], "busi", "mask").startswith("+2.0 (+1.0 to +3.0)")
    with pytest.raises(typer.BadParameter, match="not of the same scans"):
        difference([before], [report("busi", [0.5], ["p"])], "busi", "mask")


@pytest.mark.parametrize(
    "command, options",
    [(folds, []), (compare, ["--before", "gone.json", "--after"])],
    ids=["folds", "compare"],
)
def test_a_report_that_is_not_there_is_named_in_one_line(command: Callable[..., None], options: list[str]) -> None:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [*options, "gone.json"])
    assert result.exit_code == 2
    assert "gone.json" in result.output
    assert "does not exist" in result.output


def test_two_reports_of_one_fold_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path in paths:
        path.write_text(json.dumps(report("busi", [0.5], ["p"])))
    with pytest.raises(typer.BadParameter, match="each fold once"):
        folds(paths)
