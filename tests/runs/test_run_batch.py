from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline
from fake_saliency_encoder import NamedColours
from PIL import Image
from scans_of import dense_preset
from seeing_segmenter import SeeingSegmenter

from lexiseg.errors import LexisegError, UnreadableScan, UnwritableResult, UsageError
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions, RunProgress, RunSummary
from lexiseg.runs.table import read_results

RESUME = RunOptions(resume=True)


def run(
    scans: Path,
    out: Path,
    pipeline: FakePipeline | None = None,
    *,
    phrases: Sequence[str] = ("tumor",),
    options: RunOptions | None = None,
) -> RunSummary:
    items = gather_items([scans], phrases=phrases)
    return run_batch(pipeline or FakePipeline(), items, out, phrases=phrases, options=options)


def results(out: Path) -> list[tuple[str, str, str]]:
    return [(row.id, row.text, row.status) for row in read_results(out / "results.csv")]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".png", ".json")}


class TestRun:
    def test_masks_are_the_scans_size_in_0_and_255(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
        scan = np.asarray(Image.open(scans / "a.png")) / 255
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.where(scan > scan.mean(), 255, 0))

    def test_a_row_for_each_scan_and_phrase_in_input_order(self, scans: Path, tmp_path: Path) -> None:
        summary = run(scans, tmp_path / "out", phrases=("tumor", "unseen organ"))
        assert results(tmp_path / "out") == [(name, text, "ok") for name in "abc" for text in ("tumor", "unseen organ")]
        assert (summary.done, summary.absent, summary.failed, summary.skipped) == (3, 0, 0, 0)

    def test_an_absent_phrase_is_an_empty_mask_and_counted(self, scans: Path, tmp_path: Path) -> None:
        summary = run(scans, tmp_path / "out", phrases=("unseen organ",))
        row = read_results(tmp_path / "out" / "results.csv")[0]
        assert summary.absent == 3
        assert (row.present, row.presence, row.boxes) == ("false", "0.1000", "")
        assert not np.asarray(Image.open(tmp_path / "out" / "a_mask.png")).any()

    def test_what_nothing_tells_of_says_so(self, scans: Path, tmp_path: Path) -> None:
        class Blind(FakePipeline):
            """Was proposed nothing that it could look at."""

            def __call__(self, scan: Any, phrases: Any, **more: Any) -> Any:
                found = super().__call__(scan, phrases, **more)
                return replace(found, targets=tuple(replace(each, presence=math.nan) for each in found.targets))

        run(scans, tmp_path / "out", Blind(), phrases=("tumor", "unseen organ"))
        drawn, absent = read_results(tmp_path / "out" / "results.csv")[:2]
        assert "no region was proposed" in absent.notes and absent.presence == ""
        assert "no region was proposed" not in drawn.notes

    def test_progress_ends_at_the_number_of_scans(self, scans: Path, tmp_path: Path) -> None:
        told: list[RunProgress] = []
        run_batch(FakePipeline(), gather_items([scans], phrases=["tumor"]), tmp_path, progress=told.append)
        shares = [each.done for each in told]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1], told[-1].total) == (0, 3, 3)

    def test_the_callers_random_numbers_are_left_alone(self, scans: Path, tmp_path: Path) -> None:
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        run(scans, tmp_path / "one")
        after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        assert before == after


class TestFailures:
    def test_one_failing_scan_costs_its_rows(self, scans: Path, tmp_path: Path) -> None:
        (scans / "b.png").rename(scans / "bad.png")
        pipeline = FakePipeline(fails=UnreadableScan("bad.png: no good"))
        summary = run(scans, tmp_path / "out", pipeline, phrases=("tumor", "lung"))
        rows = read_results(tmp_path / "out" / "results.csv")
        assert [row.error for row in rows if not row.ok] == ["bad.png: no good"] * 2
        assert (summary.done, summary.failed) == (2, 1)
        assert not (tmp_path / "out" / "bad_mask.png").exists()

    def test_a_fault_of_ours_is_one_line_without_the_librarys_words(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (scans / "b.png").rename(scans / "bad.png")
        with caplog.at_level(logging.INFO, "lexiseg"):
            run(scans, tmp_path / "out", FakePipeline(fails=ValueError("Doe^Jane\nborn 1950")))
        error = next(row.error for row in read_results(tmp_path / "out" / "results.csv") if not row.ok)
        assert "internal error: ValueError at fake_pipeline.py:" in error
        assert "Doe" not in error + caplog.text
        assert "Traceback" not in caplog.text

    def test_a_failed_scans_earlier_files_go(self, scans: Path, tmp_path: Path) -> None:
        (scans / "b.png").rename(scans / "bad.png")
        run(scans, tmp_path / "out", options=RunOptions(save_stages=True, overlay=True))
        assert len(list((tmp_path / "out").glob("bad_*"))) == 5
        run(scans, tmp_path / "out", FakePipeline(fails=LexisegError("no")))
        assert not list((tmp_path / "out").glob("bad_*"))

    def test_a_full_disk_ends_the_run(self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise UnwritableResult("the disk is full")

        monkeypatch.setattr("lexiseg.runs.outputs._write", full)
        with pytest.raises(UnwritableResult):
            run(scans, tmp_path / "out")
        assert results(tmp_path / "out") == []

    def test_a_data_sets_own_masks_are_not_written_over(self, scans: Path) -> None:
        (scans / "a_mask.png").write_bytes((scans / "a.png").read_bytes())
        with pytest.raises(UsageError, match=r"a_mask\.png is there and no run"):
            check_folder(scans, gather_items([scans], phrases=["tumor"]))


class TestTwoRuns:
    def test_a_second_run_of_the_same_folder_is_refused_and_the_first_loses_nothing(
        self, scans: Path, tmp_path: Path
    ) -> None:
        items, refused = gather_items([scans], phrases=["tumor"]), []
        torn = tmp_path / ".0123456789abcdef.tmp"

        def meanwhile(told: RunProgress) -> None:
            torn.touch()  # what the first is writing just now
            for second in (lambda: check_folder(tmp_path, items), lambda: run(scans, tmp_path)):
                with pytest.raises(UsageError, match="another run is writing there; wait") as error:
                    second()
                refused.append(error)
            assert torn.exists()

        run_batch(FakePipeline(), items, tmp_path, phrases=["tumor"], progress=meanwhile)
        assert refused
        assert results(tmp_path) == [(name, "tumor", "ok") for name in "abc"]
        check_folder(tmp_path, items)
        assert not torn.exists()
        assert not list(tmp_path.glob(".*"))


class TestResume:
    def test_finished_scans_are_skipped_and_the_outcome_is_that_of_an_unbroken_run(
        self, scans: Path, tmp_path: Path
    ) -> None:
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        run(scans, whole)
        run(scans / "b.png", broken)
        again = FakePipeline()
        summary = run(scans, broken, again, options=RESUME)
        assert again.seen == ["a", "c"]
        assert summary.skipped == 1
        assert results(broken) == results(whole)
        masks = [name for name in files(whole) if name.endswith(".png")]
        assert len(masks) == 3
        assert all(files(broken)[name] == files(whole)[name] for name in masks)

    def test_a_torn_table_costs_the_torn_scan_alone(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path, phrases=("tumor", "lung"))
        table = tmp_path / "results.csv"
        table.write_bytes(table.read_bytes()[:-7])
        again = FakePipeline()
        run(scans, tmp_path, again, phrases=("tumor", "lung"), options=RESUME)
        assert again.seen == ["c"]
        assert len(results(tmp_path)) == 6

    def test_failed_scans_and_lost_masks_are_done_again(self, scans: Path, tmp_path: Path) -> None:
        (scans / "b.png").rename(scans / "bad.png")
        run(scans, tmp_path / "out", FakePipeline(fails=LexisegError("no")))
        (tmp_path / "out" / "a_mask.png").unlink()
        again = FakePipeline()
        summary = run(scans, tmp_path / "out", again, options=RESUME)
        assert again.seen == ["a", "bad"]
        assert summary.failed == 0
        assert {status for _, _, status in results(tmp_path / "out")} == {"ok"}

    def test_another_file_of_the_same_name_is_done(self, scans: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "a.png").write_bytes((scans / "b.png").read_bytes())
        run(scans / "a.png", tmp_path / "out")
        again = FakePipeline()
        run(other, tmp_path / "out", again, options=RESUME)
        assert again.seen == ["a"]

    def test_rows_of_scans_not_asked_for_now_stay(self, scans: Path, tmp_path: Path) -> None:
        run(scans / "c.png", tmp_path / "out")
        run(scans / "a.png", tmp_path / "out", options=RESUME)
        assert [name for name, _, _ in results(tmp_path / "out")] == ["a", "c"]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"pipeline": FakePipeline(weights="1" * 64)}, "weights"),
            ({"phrases": ("lung",)}, "phrases"),
            ({"options": RunOptions(resume=True, seed=1)}, "seed"),
            ({"options": RunOptions(resume=True, overlay=True)}, "outputs"),
        ],
    )
    def test_other_settings_are_refused_and_nothing_is_touched(
        self, scans: Path, tmp_path: Path, change: dict[str, object], told: str
    ) -> None:
        run(scans, tmp_path / "out")
        before = files(tmp_path / "out")
        with pytest.raises(UsageError, match=f"other {told}"):
            run(scans, tmp_path / "out", **{"options": RESUME, **change})  # type: ignore[arg-type]
        assert files(tmp_path / "out") == before
        assert len(results(tmp_path / "out")) == 3

    def test_results_without_a_record_are_refused(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        (tmp_path / "out" / "run.json").unlink()
        with pytest.raises(UsageError, match=r"no run\.json"):
            run(scans, tmp_path / "out", options=RESUME)

    def test_an_empty_folder_is_simply_begun(self, scans: Path, tmp_path: Path) -> None:
        assert run(scans, tmp_path / "out", options=RESUME).done == 3

    def test_without_resume_an_earlier_table_is_replaced(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        run(scans / "b.png", tmp_path / "out")
        assert [name for name, _, _ in results(tmp_path / "out")] == ["b"]


class TestRecord:
    def test_says_what_made_the_results_and_not_where_the_scans_are(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        text = (tmp_path / "out" / "run.json").read_text()
        record = json.loads(text)
        assert record["preset"]["presence"]["threshold"] == 0.5
        weights = {"sha256": "0" * 64, "repo": "org/model", "revision": "abc", "licence": "MIT"}
        assert weights.items() <= record["models"]["encoder"].items()
        assert {"python", "torch", "open_clip", "timm", "transformers", "numpy"} == set(record["versions"])
        assert all(record["versions"].values())
        assert (record["device"], record["precision"], record["seed"]) == ("cpu", "float32", 0)
        assert record["counts"] == {"scans": 3, "done": 3, "absent": 0, "unknown": 0, "failed": 0, "skipped": 0}
        assert record["started"] <= record["finished"]
        assert str(tmp_path) not in text
        assert "a.png" not in text

    def test_a_models_folder_is_named_by_its_last_part(self, scans: Path, tmp_path: Path) -> None:
        pipeline = FakePipeline()
        pipeline.preset = pipeline.preset.override(encoder=f"local-dir:{tmp_path}/clip", segmenter=str(tmp_path))
        run(scans, tmp_path / "out", pipeline)
        text = (tmp_path / "out" / "run.json").read_text()
        assert json.loads(text)["preset"]["encoder"] == "local-dir:clip"
        assert str(tmp_path) not in text

    def test_is_there_while_the_run_goes(self, scans: Path, tmp_path: Path) -> None:
        seen = []

        def look(*_: object) -> None:
            seen.append(json.loads((tmp_path / "run.json").read_text())["finished"])

        run_batch(FakePipeline(), gather_items([scans], phrases=["tumor"]), tmp_path, observe=look)
        assert seen == [None] * 3


def test_what_a_kill_left_half_written_is_removed(scans: Path, tmp_path: Path) -> None:
    run(scans, tmp_path / "out")
    torn, other = tmp_path / "out" / ".0123456789abcdef.tmp", tmp_path / "out" / ".mine.tmp"
    torn.touch()
    other.touch()
    check_folder(tmp_path / "out", gather_items([scans], phrases=["tumor"]))
    assert not torn.exists()
    assert other.exists()


def test_planes_that_show_a_side_are_those_of_the_files_too(tmp_path: Path) -> None:
    preset = dense_preset().override(volume={"batch": 1})
    encoder: Any = NamedColours()
    encoder.precision = "float32"
    # Thick from right to left, so that it was acquired in sagittal slices.
    values = np.zeros((36, 40, 34), np.float32)
    values[16:, 10:24, 12:20] = 1
    nib.Nifti1Image(values, np.diag([-3.0, -2, 2, 1])).to_filename(tmp_path / "v.nii.gz")
    items = gather_items([tmp_path / "v.nii.gz"], phrases=["left bright"])
    options = RunOptions(save_stages=True, overlay=True)
    assert run_batch(MedclipSam(preset, encoder, SeeingSegmenter()), items, tmp_path / "o", options=options).done == 1
    (row,) = read_results(tmp_path / "o" / "results.csv")
    assert "plane: axial" in row.notes
    mask = np.asarray(nib.load(tmp_path / "o" / "v_mask.nii.gz").dataobj)
    assert int(row.slices) == mask.any(axis=(0, 1)).sum() > 0
