from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from lexiseg.benchmark.cells import select_scans, spread
from lexiseg.benchmark.suite import SuiteSet
from lexiseg.benchmark.training_split import held_out_groups
from lexiseg.errors import UsageError
from recipe.data import TRAINING_SETS, split_rows
from recipe.export_split import training_split
from recipe.sets import load_sets

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"


def chosen(**changes: object) -> SuiteSet:
    return SuiteSet(**{"name": "busi", "manifest": "busi/manifest.csv", "generic": "tumor", **changes})


def ids(scans: object) -> list[str]:
    return [row.id for row in scans.rows]


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up sets with enough groups that both parts have some, and their split as the recipe exports it."""
    for name in TRAINING_SETS:
        (tmp_path / name).mkdir()
        with (tmp_path / name / "manifest.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["id", "image", "group", "label"])
            # A group of two scans lies in one block of cheng, whose blocks are numbers and no groups.
            table.writerows([f"{name}_{25 * k}", f"{k}.png", f"{name}_g{k // 2:03}", "benign"] for k in range(60))
    split = training_split(tmp_path, fold=0)
    groups = {name: frozenset(held) for name, held in split["held_out"].items()}
    monkeypatch.setattr("lexiseg.benchmark.training_split.held_out_groups", lambda: groups)
    return tmp_path


class TestParts:
    @pytest.mark.parametrize("name", TRAINING_SETS)
    def test_the_validation_part_is_the_recipes(self, many: Path, name: str) -> None:
        scans = select_scans(chosen(name=name, manifest=f"{name}/manifest.csv", part="bundled-validation"), many)
        assert ids(scans) == [row["id"] for row in split_rows(many / name, validation=True, fold=0)]
        assert 0 < len(scans.rows) < 60
        assert scans.training.startswith(f"the bundled models were trained on {60 - len(scans.rows)} other")

    def test_scans_of_the_training_are_told_as_such(self, many: Path) -> None:
        trained = len(split_rows(many / "busi", validation=False, fold=0))
        assert f"WERE TRAINED on {trained} of these 60" in select_scans(chosen(), many).training

    def test_a_set_that_was_never_trained_on(self, many: Path) -> None:
        (many / "busi").rename(many / "own")
        scans = select_scans(chosen(manifest="own/manifest.csv"), many)
        assert "not trained on any" in scans.training
        with pytest.raises(UsageError, match="none of the bundled models' training sets"):
            select_scans(chosen(manifest="own/manifest.csv", part="bundled-validation"), many)

    def test_what_ships_names_held_out_groups_of_every_training_set(self) -> None:
        counts = {name: len(groups) for name, groups in held_out_groups().items()}
        assert set(counts) == set(load_sets()[1])
        # The one patient of the last was trained on.
        assert min(count for name, count in counts.items() if name != "kidney_tumor_ct") > 0
        assert {name: counts[name] for name in TRAINING_SETS} == {"busi": 57, "cxr": 71, "hc18": 89, "cheng": 209}

    @pytest.mark.shared
    @pytest.mark.parametrize("name", TRAINING_SETS)
    def test_what_ships_is_what_the_recipe_held_out(self, name: str) -> None:
        if not (SHARED / name).is_dir():
            pytest.skip(f"{SHARED / name} is not there")
        scans = select_scans(chosen(name=name, manifest=f"{name}/manifest.csv", part="bundled-validation"), SHARED)
        assert ids(scans) == [row["id"] for row in split_rows(SHARED / name, validation=True, fold=0)]


class TestFilter:
    def test_by_a_columns_values(self, data: Path) -> None:
        scans = select_scans(chosen(where={"label": ("benign", "normal")}), data)
        assert {row.label for row in scans.rows} == {"benign", "normal"}

    def test_an_unknown_column(self, data: Path) -> None:
        with pytest.raises(UsageError, match="no column colour"):
            select_scans(chosen(where={"colour": ("red",)}), data)

    def test_nothing_left(self, data: Path) -> None:
        with pytest.raises(UsageError, match=r"no row of busi/manifest\.csv fits label: purple"):
            select_scans(chosen(where={"label": ("purple",)}), data)

    def test_the_smaller_limit_counts_and_is_spread(self, data: Path) -> None:
        scans = select_scans(chosen(limit=3), data, limit=5)
        assert ids(scans) == ["busi_000", "busi_002", "busi_005"]
        assert scans.available == 6

    @pytest.mark.parametrize("limit", [1, 2, 5, 6, 9, None])
    def test_no_row_is_taken_twice(self, data: Path, limit: int | None) -> None:
        rows = select_scans(chosen(), data).rows
        kept = [row.id for row in spread(rows, limit)]
        assert len(set(kept)) == len(kept) == min(limit or 6, 6)


class TestPlace:
    @pytest.mark.parametrize("manifest", ["../x/manifest.csv", "/etc/passwd", "C:\\m.csv", "busi/../../m.csv"])
    def test_a_manifest_outside_the_data_folder(self, data: Path, manifest: str) -> None:
        with pytest.raises(UsageError, match="does not lie in the data folder"):
            select_scans(chosen(manifest=manifest), data)

    def test_a_link_that_leads_out(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (data / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="does not lie in the data folder"):
            select_scans(chosen(manifest="link/manifest.csv"), data)

    def test_a_missing_manifest(self, data: Path) -> None:
        with pytest.raises(UsageError, match=r"sets\.busi: .*no such file"):
            select_scans(chosen(manifest="busi/other.csv"), data)
