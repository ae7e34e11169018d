"""What decided numbers without being asked for is said, in one counted line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.remarks import remarks
from lexiseg.evaluation.results import Evaluation
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap


def run(small: Any, *folders: Path, **options: Any) -> Evaluation:
    return evaluate(small.manifest, folders, EvaluationSettings(bootstrap=Bootstrap(resamples=20), **options))


def about(found: Evaluation, words: str) -> list[str]:
    return [line for line in remarks(found) if words in line]


def with_results(folder: Path, change: dict[str, str]) -> Path:
    path = folder / "results.csv"
    text = path.read_text()
    for before, after in change.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return folder


class TestImages:
    def test_another_image_of_the_same_id_is_said(self, small: Any) -> None:
        folder = with_results(
            small.predict("p"), {"images/a.png": "images/?", "images/b.png": "images/a.png", "images/?": "images/b.png"}
        )
        found = run(small, folder)
        noted = {case.id: case.notes for case in found.systems[0].cases if case.notes}
        assert noted == {
            "a": ("run: its image is b.png, the manifest's is a.png",),
            "b": ("run: its image is a.png, the manifest's is b.png",),
        }
        (line,) = about(found, "another name")
        assert line.startswith("p: 2 of 6 predictions are of an image of another name")

    @pytest.mark.parametrize("image", ["/elsewhere/a.png", "scans\\\\a.png", "images", ""])
    def test_the_same_image_in_another_folder_is_not(self, small: Any, image: str) -> None:
        found = run(small, with_results(small.predict("p"), {"images/a.png": image.replace("\\\\", "\\")}))
        assert about(found, "another name") == []


class TestGroups:
    def scans(self, small: Any, column: str, values: str) -> Evaluation:
        rows = [[*row[:3], value] for row, value in zip(small.rows(), values.split(), strict=True)]
        small.write_manifest(rows, ("id", "image", "mask", column))
        return run(small, small.predict("p"))

    @pytest.mark.parametrize("nothing", ["nan", "NA", "None", "-", "n/a"])
    def test_what_says_nothing_is_no_patient(self, small: Any, nothing: str) -> None:
        found = self.scans(small, "group", f"p1 p1 {nothing} {nothing} {nothing} {nothing}")
        assert found.systems[0].counts()["groups"] == 5
        assert remarks(found) == ["m.csv: 4 of 6 scans name no group; each of them counts for itself"]

    @pytest.mark.parametrize("column", ["patient", "Group", "Patient ID", "case_id", "study"])
    def test_other_names_of_the_column(self, small: Any, column: str) -> None:
        found = self.scans(small, column, "p1 p1 p2 p2 p3 p3")
        assert found.systems[0].counts()["groups"] == 3
        assert remarks(found) == [f"m.csv: the column {column} is taken as the group that intervals keep together"]

    def test_our_own_name_comes_first(self, small: Any) -> None:
        rows = [[*row[:4], "one"] for row in small.rows()]
        small.write_manifest(rows, ("id", "image", "mask", "group", "patient"))
        found = run(small, small.predict("p"))
        assert found.systems[0].counts()["groups"] == 3
        assert remarks(found) == []

    @pytest.mark.parametrize(("column", "value"), [("operator", "x"), ("group", "nan")])
    def test_none_at_all_is_said_once(self, small: Any, column: str, value: str) -> None:
        found = self.scans(small, column, " ".join([value] * 6))
        assert found.systems[0].counts()["groups"] == 6
        assert len(remarks(found)) == 1
        assert remarks(found)[0].startswith("m.csv: no column says which scans are of one patient")
