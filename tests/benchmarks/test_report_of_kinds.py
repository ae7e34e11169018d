"""The report over every set and kind of scan: which images, which wordings, and what the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kinds import NAMES, NONSENSE, cases, held_out_wordings, print_beside, print_tables, write_scores
from lexiseg.models.weights.described import PhraseScore
from recipe.wordings import load_targets
from tests.recipe.test_recipe_data import write_set
from tests.recipe.test_sets import write_rows


def answer(**changes: Any) -> dict[str, Any]:
    quiet = dict.fromkeys((*NAMES, *NONSENSE), 0.1)
    plain = {
        "group": "a", "there": ["liver"], "known_absent": [], "scores": {"liver": 0.8},
        "wordings": {"liver": {"my liver": 0.6, "hepar": 0.2}}, "presence": {**quiet, "liver": 0.9},
        "found": ["liver", "polyp"],
    }  # fmt: skip
    return {**plain, **changes}


class TestCases:
    def test_rows_of_an_image_are_one_case(self, tmp_path: Path) -> None:
        rows = [{"label": "liver", "bbox": "0 30 10 40"}, {"label": "left_kidney", "bbox": "40 10 50 20"}]
        write_rows(tmp_path, "organs_ct", rows, np.full((64, 64), 90, np.uint8))
        found = [case for fold in range(5) for case in cases(tmp_path / "organs_ct", fold=fold, limit=0)]
        assert [set(case.there) for case in found] == [{"liver", "left kidney", "kidneys"}]
        assert found[0].masks["liver"].dtype == bool

    def test_an_older_set_has_its_own_target_alone(self, tmp_path: Path) -> None:
        row = {"mask": "yes", "group": "a", "label": "benign", "bbox": "10 10 30 20", "text": ""}
        normal = {"mask": "", "group": "b", "label": "normal", "bbox": "", "text": ""}
        write_set(tmp_path, "busi", [{"id": "busi_benign_1", **row}, {"id": "busi_normal_1", **normal}])
        found = [case for fold in range(5) for case in cases(tmp_path / "busi", fold=fold, limit=0)]
        assert sorted(case.there for case in found) == [(), ("breast tumor",)]

    def test_boxes_alone_keep_their_row(self, tmp_path: Path) -> None:
        row = {"id": "cheng_glioma_1", "mask": "", "group": "a", "label": "glioma", "bbox": "1 1 9 9", "text": ""}
        write_set(tmp_path, "cheng", [row])
        (case,) = [case for fold in range(5) for case in cases(tmp_path / "cheng", fold=fold, limit=0)]
        assert case.there == ("brain tumor",) and not case.masks and case.row["bbox"] == "1 1 9 9"


class TestWordings:
    @pytest.mark.parametrize("concept", ["liver", "breast tumor", "polyp"])
    def test_they_are_held_out_of_training(self, concept: str) -> None:
        target = next(t for t in load_targets() if t.name == concept)
        held_out = {w.text for w in target.wordings if w.held_out and w.kind == "target"}
        found = held_out_wordings(concept, 6)
        assert found and set(found) <= held_out and len(found) <= 6
        assert found == held_out_wordings(concept, 6)

    def test_nobody_words_what_has_no_file(self) -> None:
        assert held_out_wordings("pectoral muscle", 4) == []


class TestTables:
    def test_the_numbers_are_the_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        missing = answer(group="b", scores={}, wordings={}, there=[], known_absent=["liver"], found=[])
        missing["presence"] = {**missing["presence"], "liver": 0.2}
        report = {"organs_ct": {"kind": "abdominal CT", "answers": [answer(), answer(group="c"), missing]}}
        print_tables(report)
        printed = capsys.readouterr().out
        assert "| organs_ct | liver | 2 | **0.800** |" in printed
        assert "| 100% | 1.000 (2 / 1) |" in printed
        assert "| organs_ct | liver | 0.800 | 2 | 0.400 | 0.200 (hepar) |" in printed
        assert "polyp 33%" in printed


def test_scores_are_written_as_the_command_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "scores.yaml"
    file.write_text(yaml.safe_dump({"kinds": [{"scan": "abdominal CT", "scores": [], "known": ["aorta"]}]}))
    answers = [answer(), answer(group="b", scores={"liver": 0.6})]
    write_scores({"organs_ct": {"kind": "abdominal CT", "answers": answers}}, file, "a command")
    (kind,) = yaml.safe_load(file.read_text())["kinds"]
    assert kind["scan"] == "abdominal CT" and kind["known"] == ["aorta"]
    (score,) = (PhraseScore(**each) for each in kind["scores"])
    assert (score.phrase, score.mean, score.scans) == ("liver", 0.7, 2) and score.low is not None
    assert score.low <= 0.7


def test_what_the_map_draws_better_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def report(liver: float, spleen: float) -> dict[str, Any]:
        own = {"scores": {"liver": liver, "spleen": spleen}, "there": ["liver", "spleen"]}
        return {"organs_ct": {"kind": "abdominal CT", "answers": [answer(group=g, **own) for g in "abc"]}}

    print_beside(report(0.5, 0.8), report(0.55, 0.82) | {"drive": report(0, 0)["organs_ct"]})
    told = capsys.readouterr().out
    assert "| organs_ct | liver | 3 | 0.500 | 0.550 | +5.0 (+5.0 to +5.0) |" in told
    assert "| organs_ct | spleen | 3 | 0.800 | 0.820 | +2.0 (+2.0 to +2.0) |" in told
    assert told.rstrip().endswith("recipe.calibrate --map-only 'liver'") and "drive" not in told
