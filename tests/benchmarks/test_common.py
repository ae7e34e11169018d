"""What the benchmarks share."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from common import auroc, boxes_of, interval, score, scored_rows, table_head, table_row
from recipe.data import read_rows, split_rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """busi/ and lgg/ of forty patients each, every other one with a target."""
    for name in ("busi", "lgg"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "manifest.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["id", "image", "mask", "group", "label", "bbox"])
            table.writerows([f"{k}", f"{k}.png", "", f"g{k}", "x", "1 2 3 4" if k % 2 else ""] for k in range(40))
    return tmp_path


def test_scored_are_rows_that_a_fold_never_saw(data: Path) -> None:
    assert scored_rows(data / "busi", fold=2) == split_rows(data / "busi", validation=True, fold=2)
    assert scored_rows(data / "lgg") == read_rows(data / "lgg")


def test_a_limit_is_of_what_is_wanted_and_by_chance_but_always_the_same(data: Path) -> None:
    rows = scored_rows(data / "lgg", limit=5, wanted=lambda row: row["bbox"])
    assert len(rows) == 5
    assert all(row["bbox"] for row in rows)
    assert rows == scored_rows(data / "lgg", limit=5, wanted=lambda row: row["bbox"])
    assert [int(row["id"]) for row in rows] != [1, 3, 5, 7, 9]


def test_a_mask_is_scored_by_dice_and_boxes_alone_by_their_iou() -> None:
    row = {"bbox": "1 0 3 2;5 5 6 6"}
    mask = np.zeros((8, 8), bool)
    mask[0:2, 1:3] = True
    assert boxes_of(row) == ((1, 0, 3, 2), (5, 5, 6, 6))
    assert score(mask, row, None) == 0.5  # of two true boxes one is found
    truth = mask.copy()
    truth[5, 5:7] = True
    assert score(mask, row, truth) == pytest.approx(2 * 4 / (4 + 6))


def test_auroc_and_interval_are_those_of_evaluation() -> None:
    assert auroc([(0.9, True), (0.4, True), (0.4, False), (0.1, False)]) == 0.875
    assert np.isnan(auroc([(0.9, True)]))
    low, high = interval([0.2, 0.2, 0.8, 0.8], ["a", "a", "b", "b"])
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.8))


def test_tables_are_markdown() -> None:
    assert table_head(["a", "b"]) + "\n" + table_row([1, "x"]) == "| a | b |\n|---|---|\n| 1 | x |"
