"""What `lexiseg models describe` says, against the model card and what the encoder knows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lexiseg.cli.models import app
from lexiseg.models.weights.described import PhraseScore, bundled_description
from lexiseg.text.known import bundled_vocabulary

TOLD = bundled_description()
CARD = (Path(__file__).parents[2] / "src" / "lexiseg" / "bundled" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", TOLD.kinds, ids=lambda kind: kind.scan)
def test_every_phrase_is_known_and_said_once(kind: object) -> None:
    scores, known = kind.scores, kind.known  # type: ignore[attr-defined]
    phrases = [*(score.phrase for score in scores), *known]
    assert all(bundled_vocabulary().knows(phrase) for phrase in phrases)
    assert len(set(phrases)) == len(phrases) > 0


def sure(score: PhraseScore) -> str:
    return "one patient" if score.low is None else f"{score.low:.3f} to {score.high:.3f}"


def test_the_scores_are_the_model_cards() -> None:
    rows = re.findall(
        r"^\| ([a-zA-Z -]+(?:, [\w-]+)?), (\d+) \| ([\w -]+) \| (Dice|box IoU) "
        r"\| ([\d.]+) \| (one patient|[\d. to]+) \|",
        CARD,
        re.M,
    )
    card = {(scan.strip(), phrase): (measure, mean, both, scans) for scan, scans, phrase, measure, mean, both in rows}
    ours = {
        (kind.scan, s.phrase): (s.measure, f"{s.mean:.3f}", sure(s), str(s.scans))
        for kind in TOLD.kinds
        for s in kind.scores
    }
    assert ours == card


def test_the_command_prints_them() -> None:
    printed = CliRunner().invoke(app, ["describe"], env={"COLUMNS": "160"}).output
    assert "breast tumor" in printed and str(TOLD.kinds[0].scores[0]) in printed
    assert "never trained on" in printed and TOLD.date in printed


def test_programs_get_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["describe", "--json"]).output)
    assert [kind["scan"] for kind in found["kinds"]] == [kind.scan for kind in TOLD.kinds]
    assert all((s["low"] or 0) <= s["mean"] <= (s["high"] or 1) for kind in found["kinds"] for s in kind["scores"])
