"""What decided numbers without being asked for is said, in one counted line."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from mask_files import nifti

from lexiseg.errors import UsageError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.remarks import remarks
from lexiseg.evaluation.results import EVERYTHING, Evaluation
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


class TestUnknownPhrases:
    """The disc was asked for by a word that the models do not know: f holds none, and nobody looked."""

    @pytest.fixture
    def asked(self, small: Any) -> Path:
        folder: Path = small.predict("p")
        table = (folder / "results.csv").read_text().splitlines()
        rows = [f"{row},{'unknown' if row[0] in 'ef' else ''}" for row in table[1:]]
        rows = [row.replace(",true,", ",false,") if row[0] == "e" else row for row in rows]
        (folder / "results.csv").write_text("\n".join([f"{table[0]},verdict", *rows]) + "\n")
        Image.new("L", (64, 48)).save(folder / "e_mask.png")
        return folder

    def test_are_no_right_answers(self, small: Any, asked: Path) -> None:
        system = run(small, asked).systems[0]
        found = {case.id: case for case in system.cases}
        assert all(math.isnan(value) for value in found["f"].values.values())
        assert found["e"].values["dice"] == 0
        presence = system.presence[EVERYTHING]
        assert math.isnan(presence.specificity.value)
        assert presence.sensitivity.value == 4 / 5
        assert (presence.no_finding, presence.unknown) == (2, 2)
        assert system.summaries[EVERYTHING]["dice"].left_out == 1
        counts = system.counts()
        assert (counts["unknown"], counts["both_empty"], counts["only_prediction_empty"]) == (2, 0, 0)

    def test_are_counted_in_one_line(self, small: Any, asked: Path) -> None:
        (line,) = remarks(run(small, asked))
        assert line.startswith("p: 2 of 6 scans were asked an unknown phrase; where nothing is there")

    def test_alone_leave_presence_undefined(self, small: Any, asked: Path) -> None:
        small.write_manifest([["f", "images/f.png", "masks/f.png", "g"]], ("id", "image", "mask", "group"))
        presence = run(small, asked).systems[0].presence[EVERYTHING]
        assert math.isnan(presence.specificity.value)
        assert math.isnan(presence.auroc.value)
        assert presence.thresholds == ()

    def test_of_a_volume(self, small: Any, tmp_path: Path) -> None:
        folder = tmp_path / "v"
        folder.mkdir()
        nifti(np.zeros((4, 48, 64), bool), folder / "v_mask")
        nifti(np.zeros((4, 48, 64), bool), small.folder / "v")
        (folder / "results.csv").write_text("id,present,status,verdict\nv,false,ok,unknown\n")
        small.write_manifest([["v", "v.nii.gz", "v.nii.gz", "g"]], ("id", "image", "mask", "group"))
        (case,) = run(small, folder).systems[0].cases
        assert all(math.isnan(value) for value in case.values.values())
        assert case.fractions["slice_specificity"] == (0, 0)


class TestAbsent:
    """Rows of the label "no" have no mask, and hold no target."""

    @pytest.fixture
    def asked(self, small: Any) -> Path:
        rows = small.rows()
        small.write_manifest([[*row[:2], "", row[3], "no"] if row[0] == "f" else [*row[:4], "yes"] for row in rows])
        folder: Path = small.predict("p")
        return folder

    def test_a_label_that_no_row_has_is_said(self, small: Any, asked: Path) -> None:
        (line,) = remarks(run(small, asked, absent=("No",)))
        assert line == "m.csv: no row has the label No of --absent, and letter case counts; its labels: no, yes"

    def test_one_that_is_there_is_not(self, small: Any, asked: Path) -> None:
        found = run(small, asked, absent=("no",))
        assert (remarks(found), found.unusable) == ([], ())

    def test_it_is_said_too_where_nothing_can_be_scored(self, small: Any, asked: Path) -> None:
        small.write_manifest([row for row in small.rows() if row[0] == "f"])
        with pytest.raises(UsageError, match="no row has the label No of --absent"):
            run(small, asked, absent=("No",))
