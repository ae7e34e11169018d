from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from suite_data import suite_fields

from lexiseg.benchmark.run import BenchmarkSummary
from lexiseg.errors import DownloadFailed, UsageError
from lexiseg.runs.segment import RunProgress
from lexiseg.runs.table import read_results

Bench = Callable[..., BenchmarkSummary]
ALL = 6 + 6 + 4 + 3 + 6  # busi/demo generic and oracle, cheng/demo, its sensitivity, busi/sam-box


def table(out: Path, cell: str) -> list[tuple[str, str]]:
    rows = read_results(out / "cells" / cell / "seed-0" / "results.csv")
    return [(row.id, row.text) for row in rows]


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


class TestCells:
    def test_every_scan_of_every_cell_is_asked(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        summary = bench()
        assert len(machine.look()) == ALL
        assert (summary.cells, summary.ran, summary.failed) == (5, 5, 0)
        assert {text for _, text in table(tmp_path / "out", "busi/demo/generic")} == {"breast tumor"}

    def test_the_oracle_names_each_scans_class(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        assert dict(table(tmp_path / "out", "busi/demo/oracle-class")) == {
            "busi_000": "benign tumor",
            "busi_001": "malignant tumor",
            "busi_002": "benign tumor",
            "busi_003": "malignant tumor",
            "busi_004": "benign tumor",
            "busi_005": "tumor",
        }

    def test_a_yardstick_without_masks_is_noted(self, bench: Bench) -> None:
        summary = bench()
        assert [note for note in summary.leaderboard.notes if note.startswith("cheng/sam-box")]
        assert summary.complete

    def test_sensitivity_asks_only_scans_with_the_target(self, bench: Bench, machine: Any) -> None:
        bench()
        asked = [scan for _, scan, phrases in machine.look() if len(phrases) == 3]
        assert asked == ["busi_000", "busi_002", "busi_004"]

    def test_only(self, bench: Bench, machine: Any) -> None:
        assert bench(only=["cheng"]).cells == 1
        assert bench(only=["busi/sam-*"]).cells == 1
        assert {name for name, _, _ in machine.look()} == {"demo", "sam-box"}
        with pytest.raises(UsageError, match="--only lgg fits nothing"):
            bench(only=["lgg"])

    def test_a_seed_is_a_cell(self, bench: Bench) -> None:
        summary = bench(suite_fields(seeds=[0, 7]))
        assert summary.cells == 9
        assert {entry.cell.seed for entry in summary.leaderboard.entries} == {0, 7}

    def test_a_label_without_a_phrase(self, bench: Bench) -> None:
        fields = suite_fields()
        del fields["sets"]["busi"]["prompts"]["oracle-class"]["normal"]
        with pytest.raises(UsageError, match="no phrase for the label 'normal'"):
            bench(fields)


class TestMissingCellsAlone:
    def test_nothing_is_done_twice(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        before = written(tmp_path / "out")
        machine.look()
        summary = bench()
        assert machine.look() == []
        assert summary.ran == 0
        assert written(tmp_path / "out") == before

    def test_a_killed_run_goes_on(self, bench: Bench, machine: Any) -> None:
        for stop in (3, 8, 2):
            machine.stop_after = stop
            with pytest.raises(KeyboardInterrupt):
                bench()
            assert len(machine.look()) == stop
        machine.stop_after = -1
        summary = bench()
        assert len(machine.look()) == ALL - 13
        assert summary.complete

    def test_a_kill_changes_nothing_of_the_outcome(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench(seconds=False)
        whole = written(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        machine.look()
        machine.stop_after = 9
        with pytest.raises(KeyboardInterrupt):
            bench(seconds=False)
        machine.stop_after = -1
        bench(seconds=False)
        assert written(tmp_path / "out") == whole

    def test_a_lost_folder(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        shutil.rmtree(tmp_path / "out" / "cells" / "cheng")
        machine.look()
        bench()
        assert {scan.split("_")[0] for _, scan, _ in machine.look()} == {"cheng"}

    def test_a_lost_mask(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        (tmp_path / "out/cells/busi/demo/generic/seed-0/busi_003_mask.png").unlink()
        machine.look()
        bench()
        assert machine.look() == [("demo", "busi_003", ("breast tumor",))]

    def test_a_torn_mask(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        machine.look()
        mask = next((tmp_path / "out").rglob("cheng_0000_mask.png"))
        whole = mask.read_bytes()
        mask.write_bytes(whole[: len(whole) // 2])
        bench()
        assert len(machine.look()) == 1
        assert mask.read_bytes() == whole

    def test_a_mask_that_somebody_drew(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        machine.look()
        mask = next((tmp_path / "out").rglob("cheng_0000_mask.png"))
        with Image.open(mask) as image:
            Image.new("L", image.size, 255).save(mask)
        with pytest.raises(UsageError, match=r"cheng_0000_mask\.png was changed after its run wrote it; move it away"):
            bench()
        assert machine.look() == []
        mask.unlink()
        bench()
        assert len(machine.look()) == 1

    def test_a_mask_that_somebody_drew_is_done_again_without_resume(self, bench: Bench, tmp_path: Path) -> None:
        bench()
        mask = next((tmp_path / "out").rglob("cheng_0000_mask.png"))
        whole = mask.read_bytes()
        with Image.open(mask) as image:
            Image.new("L", image.size, 255).save(mask)
        bench(resume=False)
        assert mask.read_bytes() == whole

    def test_a_damaged_reaction(self, bench: Bench, machine: Any, tmp_path: Path) -> None:
        bench()
        place = tmp_path / "out/cells/busi/demo/sensitivity/seed-0/busi_002_reactions.json"
        place.write_text(place.read_text()[:40])
        machine.look()
        bench()
        assert [scan for _, scan, _ in machine.look()] == ["busi_002"]

    def test_a_larger_limit_adds_and_a_smaller_one_keeps(self, bench: Bench, machine: Any) -> None:
        fields = suite_fields(sensitivity={"presets": ["demo"], "limit": 1})
        bench(fields, limit=2, only=["busi/sam-box"])
        assert [scan for _, scan, _ in machine.look()] == ["busi_000", "busi_005"]
        bench(fields, only=["busi/sam-box"])
        assert [scan for _, scan, _ in machine.look()] == ["busi_001", "busi_002", "busi_003", "busi_004"]
        summary = bench(fields, limit=2, only=["busi/sam-box"])
        assert machine.look() == []
        assert summary.leaderboard.entries[0].scans == 2
        bench(fields, only=["busi/sam-box"])
        assert machine.look() == []

    def test_no_resume_does_all_again(self, bench: Bench, machine: Any) -> None:
        bench()
        machine.look()
        bench(resume=False)
        assert len(machine.look()) == ALL


class TestWhatMakesACellVoid:
    def test_other_weights(self, bench: Bench, machine: Any) -> None:
        bench()
        machine.look()
        machine.weights = "1" * 64
        bench()
        assert len(machine.look()) == ALL

    def test_other_settings_of_one_preset(self, bench: Bench, machine: Any) -> None:
        bench()
        machine.look()
        fields = suite_fields()
        fields["presets"]["sam-box"]["settings"] = {"mask": {"fill_holes": False}}
        bench(fields)
        assert {name for name, _, _ in machine.look()} == {"sam-box"}

    def test_another_phrase(self, bench: Bench, machine: Any) -> None:
        bench()
        machine.look()
        fields = suite_fields()
        fields["sets"]["cheng"]["prompts"]["generic"] = "glioma"
        bench(fields)
        assert {phrases for _, _, phrases in machine.look()} == {("glioma",)}

    def test_another_contrast(self, bench: Bench, machine: Any) -> None:
        bench()
        machine.look()
        fields = suite_fields()
        fields["sets"]["busi"]["contrasts"]["gibberish"] = "frim"
        bench(fields)
        assert {phrases for _, _, phrases in machine.look()} == {("breast tumor", "unseen lungs", "frim")}

    def test_another_scan_of_the_same_name(self, bench: Bench, machine: Any, data: Path) -> None:
        bench(only=["cheng"])
        machine.look()
        place = data / "cheng" / "images" / "cheng_0040.png"
        Image.open(place).rotate(90).save(place)
        bench(only=["cheng"])
        assert len(machine.look()) == 4

    def test_files_that_no_benchmark_wrote_are_left_alone(self, bench: Bench, tmp_path: Path) -> None:
        place = tmp_path / "out/cells/busi/demo/generic/seed-0/thesis.txt"
        place.parent.mkdir(parents=True)
        place.write_text("three years")
        with pytest.raises(UsageError, match="no benchmark wrote"):
            bench()
        assert place.read_text() == "three years"


class TestFailures:
    def test_a_bad_scan_scores_0_and_is_tried_again(self, bench: Bench, machine: Any, data: Path) -> None:
        place = data / "busi" / "images" / "busi_003.png"
        content = place.read_bytes()
        place.write_bytes(b"no picture")
        summary = bench(only=["busi/demo"])
        entry = summary.leaderboard.entries[0]
        assert (entry.missing, entry.scans, summary.failed) == (1, 6, 2)
        assert not summary.complete
        place.write_bytes(content)
        machine.look()
        assert bench(only=["busi/demo"]).complete

    def test_a_scan_that_was_never_there(self, bench: Bench, data: Path) -> None:
        (data / "cheng" / "images" / "cheng_0080.png").unlink()
        summary = bench(only=["cheng"])
        assert not summary.complete
        # Of a set with boxes the scan itself gives the truth's size.
        assert [note for note in summary.leaderboard.unusable if "cheng_0080" in note]

    def test_a_row_that_leaves_the_data_is_not_opened(self, bench: Bench, machine: Any, data: Path) -> None:
        manifest = data / "cheng" / "manifest.csv"
        manifest.write_text(manifest.read_text().replace("images/cheng_0040.png", "../../secret.png"))
        summary = bench(only=["cheng"])
        assert "cheng_0040" not in [scan for _, scan, _ in machine.look()]
        assert summary.failed == 1

    def test_models_that_cannot_be_had(self, bench: Bench, machine: Any) -> None:
        machine.fails = DownloadFailed("the hub is down")
        summary = bench()
        assert not summary.complete
        assert summary.unavailable == ("demo: the hub is down", "sam-box: the hub is down")

    def test_a_wrong_setting_is_told_before_the_first_scan(self, bench: Bench, machine: Any) -> None:
        machine.fails = UsageError("mask has no setting 'x'")
        with pytest.raises(UsageError, match=r"presets\.demo: mask has no setting"):
            bench()

    def test_a_data_folder_that_is_not_there(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            bench(data=tmp_path / "nowhere")


class TestProgress:
    def test_goes_over_all_missing_scans(self, bench: Bench, machine: Any, data: Path, tmp_path: Path) -> None:
        from suite_data import write_suite

        from lexiseg.benchmark.run import BenchmarkRequest, run_benchmark

        told: list[RunProgress] = []
        scored: list[tuple[int, int]] = []
        request = BenchmarkRequest(suite=write_suite(tmp_path / "s.yaml"), data=data, out=tmp_path / "out")
        run_benchmark(request, progress=told.append, scoring=lambda *each: scored.append(each))
        assert {each.total for each in told} == {ALL}
        assert [each.done for each in told] == sorted(each.done for each in told)
        assert scored[-1] == (10, 10)


class TestRecord:
    def test_says_what_the_cell_was_made_of(self, bench: Bench, tmp_path: Path) -> None:
        bench()
        place = tmp_path / "out/cells/busi/demo/generic/seed-0/cell.json"
        record = json.loads(place.read_text())
        assert record["settings"]["models"]["encoder"]["sha256"] == "0" * 64
        assert len(record["scans"]) == 6
        assert str(tmp_path) not in place.read_text()
