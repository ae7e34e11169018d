"""How far an image tower has come: presence, the gate of kinds, and the printed lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipe.check_concepts import answer, area, gates, kind_lines, load_concepts, presence_of, score_lines
from recipe.concept_encoder import ConceptEncoder
from recipe.export import export_concepts
from recipe.sets import KIND, concepts, load_sets
from tests.recipe.test_concept_encoder import SMALL, lesion

KINDS, _ = load_sets()


def told(**changes: Any) -> dict[str, Any]:
    names = [c for c in concepts() if not c.startswith(KIND)]
    quiet = dict.fromkeys(names, 0.0)
    plain = {"kind": "skin", "source": "isic", "group": "g", "seen as": "skin", "dice": {"skin lesion": 0.5}}
    presence = {**quiet, "skin lesion": 0.9, "breast tumor": 0.8}
    return {**plain, "presence": presence, "gated": {**presence, "breast tumor": 0.1}, "absent": ["polyp"], **changes}


class TestPresence:
    def test_both_must_speak(self) -> None:
        maps = torch.zeros(2, 100)
        maps[:, 0] = 1.0
        found = presence_of(maps, torch.tensor([0.0, 1.0]))
        assert found.tolist() == [0.0, 1.0]

    def test_it_is_the_weighted_geometric_mean(self) -> None:
        found = presence_of(torch.full((1, 200), 0.5), torch.tensor([0.8]))
        assert float(found) == pytest.approx(0.5**0.4 * 0.8**0.6)


class TestGate:
    def test_a_concept_has_the_share_of_the_kinds_that_may_hold_it(self) -> None:
        found = gates({"chest": 0.25, "chest CT": 0.5, "skin": 0.25})
        assert found["lungs"] == 0.75 and found["skin lesion"] == 0.25 and found["polyp"] == 0

    def test_a_sure_kind_shuts_all_others_out(self) -> None:
        found = gates({name: float(name == "spine") for name in KINDS})
        assert found["vertebrae"] == 1 and found["brain tumor"] == 0


class TestLines:
    def test_scores(self) -> None:
        other = told(kind="colon", source="kvasirseg", dice={"polyp": 1.0}, absent=["skin lesion"])
        lines = [*score_lines([told(), told(dice={"skin lesion": 0.7}), other])]
        assert lines[1].startswith("isic | skin lesion | 2 | 0.600 | 100% |")
        assert lines[2].startswith("kvasirseg | polyp | 1 | 1.000 | 0% |")

    def test_kinds(self) -> None:
        lines = [*kind_lines([told(), told(**{"seen as": "colon"})])]
        elsewhere = len([c for c in told()["presence"] if c not in KINDS["skin"].may])
        assert lines[1] == (f"skin | 2 | 50% | {1 - 1 / elsewhere:.1%} | 100.0% | breast tumor 100%")

    def test_an_area_needs_both(self) -> None:
        assert area([0.9, 0.1], [True, False]) == 1 and np.isnan(area([0.9], [True]))


class TestAnswer:
    def test_a_scan_is_asked_for_every_concept(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = ConceptEncoder(SMALL, concepts()).eval()
        export_concepts(model, SMALL, tmp_path)
        found = answer(load_concepts(tmp_path, SMALL), lesion(), SMALL, 64)
        assert set(found["presence"]) == {c for c in concepts() if not c.startswith(KIND)}
        assert set(found["dice"]) == {"skin lesion"}
        assert "lungs" in found["absent"] and "tumor" not in found["absent"] and "skin lesion" not in found["absent"]
        assert all(found["gated"][n] <= found["presence"][n] + 1e-6 for n in found["presence"])

    def test_other_concepts_are_refused(self, tmp_path: Path) -> None:
        export_concepts(ConceptEncoder(SMALL, concepts()[1:]), SMALL, tmp_path)
        with pytest.raises(ValueError, match="trained for other concepts"):
            load_concepts(tmp_path, SMALL)
