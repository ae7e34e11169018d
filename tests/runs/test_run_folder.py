"""A run owns its folder: what an earlier one wrote goes, what no run wrote stays, and nothing is lost unsaid."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from PIL import Image

from lexiseg.errors import LexisegError, UnwritableResult, UsageError
from lexiseg.io.names import OUTPUT_KINDS, slugs
from lexiseg.runs import batch, ledger
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder, output_names
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions, RunSummary
from lexiseg.runs.table import read_results

RESUME = RunOptions(resume=True)
ALL = RunOptions(save_stages=True, overlay=True)


def run(
    scans: Path | Sequence[Path],
    out: Path,
    pipeline: FakePipeline | None = None,
    *,
    phrases: Sequence[str] = ("tumor",),
    options: RunOptions | None = None,
) -> RunSummary:
    inputs = [scans] if isinstance(scans, Path) else scans
    items = gather_items(inputs, phrases=phrases)
    return run_batch(pipeline or FakePipeline(), items, out, phrases=phrases, options=options)


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {"results.csv", "files.csv", "run.json"}


def belongs(out: Path) -> bool:
    """Every file belongs to a row of the table."""
    rows = read_results(out / "results.csv")
    phrases = {row.id: slugs([each.text for each in rows if each.id == row.id]) for row in rows}
    return names(out) <= {name for scan, own in phrases.items() for name in output_names(scan, own)}


class TestWithoutResume:
    def test_what_the_second_run_does_not_write_is_removed_and_said(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = tmp_path / "out"
        run(scans, out, options=ALL)
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run(scans, out)
        assert names(out) == {"a_mask.png", "b_mask.png", "c_mask.png"}
        told = [record.message for record in caplog.records]
        assert told == [f"{out}: files of an earlier run are removed: 15, of 3 scans; --resume would have kept them"]

    def test_a_run_of_one_scan_leaves_no_masks_of_five(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        run(scans / "b.png", tmp_path / "out")
        assert names(tmp_path / "out") == {"b_mask.png"}
        assert belongs(tmp_path / "out")

    def test_fewer_phrases_leave_no_masks_of_the_others(self, scans: Path, tmp_path: Path) -> None:
        run(scans / "a.png", tmp_path / "out", phrases=("lungs", "left lung"), options=ALL)
        run(scans / "a.png", tmp_path / "out", phrases=("lungs",))
        assert names(tmp_path / "out") == {"a_mask.png"}

    def test_an_image_that_became_a_volume_has_one_mask(self, scans: Path, tmp_path: Path) -> None:
        run(scans / "a.png", tmp_path / "out")
        voxels = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        run(tmp_path / "a.nii.gz", tmp_path / "out")
        assert names(tmp_path / "out") == {"a_mask.nii.gz"}

    def test_nothing_is_said_of_an_empty_folder(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run(scans, tmp_path / "out")
        assert not caplog.records

    def test_what_no_run_wrote_stays(self, scans: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(scans, out)
        mine = ("notes.txt", "a_overlay.png", "a_report.png", "d_mask.png", "b_mask_mine.png")
        for name in mine:
            (out / name).write_text("mine")
        run(scans, out)
        assert names(out) == {"a_mask.png", "b_mask.png", "c_mask.png", *mine}
        assert all((out / name).read_text() == "mine" for name in mine)


class TestWhatIsNotOurs:
    @pytest.mark.parametrize("name", ["a_mask.png", "a_mask.nii.gz", "a_labels.png", "a_overlay.png", "a_region.png"])
    def test_a_file_of_a_scans_names_is_refused(self, scans: Path, tmp_path: Path, name: str) -> None:
        out = tmp_path / "out"
        run(scans / "b.png", out)
        (out / name).write_text("mine")
        items = gather_items([scans], phrases=["tumor"])
        for refused in (
            lambda: check_folder(out, items),
            lambda: run(scans, out),
            lambda: run(scans, out, options=RESUME),
        ):
            with pytest.raises(UsageError, match=f"{name} is there and no run of lexiseg wrote it"):
                refused()
        assert (out / name).read_text() == "mine"
        assert (out / "b_mask.png").exists()

    @pytest.mark.parametrize("name", ["files.csv", "run.json"])
    def test_a_record_without_a_table_is_refused(self, scans: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(UsageError, match=rf"{name} is there but no results\.csv"):
            check_folder(tmp_path / "out", gather_items([scans], phrases=["tumor"]))

    @pytest.mark.parametrize("name", ["files.csv", "results.csv"])
    def test_another_programs_table_is_refused_also_without_resume(
        self, scans: Path, tmp_path: Path, name: str
    ) -> None:
        run(scans, tmp_path / "out")
        (tmp_path / "out" / name).write_text("name,dice\nx,1\n")
        with pytest.raises(UsageError, match=rf"{name}: .*no "):
            run(scans, tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == "name,dice\nx,1\n"

    @pytest.mark.parametrize("options", [RunOptions(), RESUME])
    def test_a_mask_that_somebody_corrected_is_never_overwritten(
        self, scans: Path, tmp_path: Path, options: RunOptions
    ) -> None:
        out = tmp_path / "out"
        run(scans, out)
        Image.new("L", (32, 24), 255).save(out / "a_mask.png")
        corrected = (out / "a_mask.png").read_bytes()
        before = {name: (out / name).read_bytes() for name in names(out)}
        with pytest.raises(UsageError, match=r"a_mask\.png was changed after its run wrote it; move it away"):
            check_folder(out, gather_items([scans], phrases=["tumor"]), resume=options.resume)
        with pytest.raises(UsageError, match=r"a_mask\.png was changed after its run wrote it; move it away"):
            run(scans, out, options=options)
        assert {name: (out / name).read_bytes() for name in names(out)} == before
        (out / "a_mask.png").rename(tmp_path / "mine.png")
        run(scans, out, options=options)
        assert (tmp_path / "mine.png").read_bytes() == corrected != (out / "a_mask.png").read_bytes()


class TestResume:
    def resumed(self, scans: Path | Sequence[Path], out: Path, **options: Any) -> list[str]:
        again = FakePipeline()
        run(scans, out, again, options=RunOptions(resume=True, **options))
        assert belongs(out)
        return again.seen

    def test_a_changed_scan_is_done_again_and_said(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = tmp_path / "out"
        run(scans, out)
        (scans / "b.png").write_bytes((scans / "a.png").read_bytes())
        with caplog.at_level(logging.WARNING, "lexiseg"):
            assert self.resumed(scans, out) == ["b"]
        assert "scans are done again" in caplog.text and "1, the first is b" in caplog.text
        assert (out / "b_mask.png").read_bytes() == (out / "a_mask.png").read_bytes()
        assert self.resumed(scans, out) == []

    def test_of_the_same_size_too(self, scans: Path, tmp_path: Path) -> None:
        scan = scans / "a.png"
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "x.bmp")
        Image.fromarray(np.arange(64, dtype=np.uint8)[::-1].reshape(8, 8)).save(tmp_path / "y.bmp")
        scan.write_bytes((tmp_path / "x.bmp").read_bytes())
        run(scan, tmp_path / "out")
        scan.write_bytes((tmp_path / "y.bmp").read_bytes())
        os.utime(scan, ns=(1, 1))
        assert self.resumed(scan, tmp_path / "out") == ["a"]

    def test_a_copied_folder_is_as_good(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        for path in (*scans.iterdir(), *(tmp_path / "out").iterdir()):
            os.utime(path, ns=(1, 1))
        assert self.resumed(scans, tmp_path / "out") == []

    def test_an_unchanged_folder_is_not_read_again(
        self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(scans, tmp_path / "out")
        monkeypatch.setattr("lexiseg.runs.ledger.sha256_of", lambda _: pytest.fail("read"))
        assert self.resumed(scans, tmp_path / "out") == []

    @pytest.mark.parametrize("size", [0, 10, 60, -1])
    @pytest.mark.parametrize("options", [{}, {"save_stages": True, "overlay": True}])
    def test_a_torn_file_is_done_again(self, scans: Path, tmp_path: Path, size: int, options: dict[str, bool]) -> None:
        out = tmp_path / "out"
        run(scans, out, options=RunOptions(**options))
        for name in sorted(name for name in names(out) if name.startswith("b_")):
            whole = (out / name).read_bytes()
            (out / name).write_bytes(whole[:size])
            assert self.resumed(scans, out, **options) == ["b"], name
            assert (out / name).read_bytes() == whole

    def test_a_torn_volume_is_done_again(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
        out = tmp_path / "out"
        run(tmp_path / "v.nii.gz", out)
        whole = (out / "v_mask.nii.gz").read_bytes()
        (out / "v_mask.nii.gz").write_bytes(whole[: len(whole) // 2])
        assert self.resumed(tmp_path / "v.nii.gz", out) == ["v"]
        assert (out / "v_mask.nii.gz").read_bytes() == whole

    def test_a_run_without_files_csv_is_done_again(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        (tmp_path / "out" / "files.csv").unlink()
        assert self.resumed(scans, tmp_path / "out") == ["a", "b", "c"]

    @pytest.mark.parametrize("cut", [1, 30, 100, 150, 400])
    def test_a_torn_files_csv_costs_what_it_lost(self, scans: Path, tmp_path: Path, cut: int) -> None:
        out = tmp_path / "out"
        run(scans, out)
        (out / "files.csv").write_bytes((out / "files.csv").read_bytes()[:-cut])
        masks = {name: (out / name).read_bytes() for name in names(out)}
        assert "c" in self.resumed(scans, out)
        assert {name: (out / name).read_bytes() for name in names(out)} == masks

    def test_a_lost_overlay_is_made_again(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out", options=ALL)
        (tmp_path / "out" / "a_overlay.png").unlink()
        assert self.resumed(scans, tmp_path / "out", save_stages=True, overlay=True) == ["a"]

    def test_files_of_scans_that_are_not_asked_now_stay_whatever_they_are(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "out")
        (tmp_path / "out" / "c_mask.png").write_bytes(b"mine")
        assert self.resumed(scans / "a.png", tmp_path / "out") == []
        assert (tmp_path / "out" / "c_mask.png").read_bytes() == b"mine"


class TestKills:
    """A run that ends between any two of its steps leaves nothing that nobody knows."""

    @pytest.mark.parametrize("place", ["begin", "write_outputs", "finish", "append_results"])
    @pytest.mark.parametrize("again", [RunOptions(), RESUME])
    @pytest.mark.parametrize("phrases", [("tumor",), ("lungs", "left lung")])
    def test_at_the_second_scan(
        self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, again: RunOptions,
        phrases: tuple[str, ...],
    ) -> None:  # fmt: skip
        out, whole = tmp_path / "out", tmp_path / "whole"
        options = RunOptions(save_stages=True, overlay=True, resume=again.resume)
        run(scans, whole, phrases=phrases, options=ALL)
        where = ledger if place in ("begin", "finish") else batch
        real, calls = getattr(where, place), []

        def killed(*given: Any, **more: Any) -> Any:
            calls.append(1)
            found = real(*given, **more)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(where, place, killed)
            with pytest.raises(KeyboardInterrupt):
                run(scans, out, phrases=phrases, options=ALL)
        items = gather_items([scans], phrases=phrases)
        check_folder(out, items, resume=again.resume)
        run(scans, out, phrases=phrases, options=options)
        assert names(out) == names(whole)
        assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in names(whole))

    def test_what_was_half_done_goes_with_the_next_run_of_other_scans(
        self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "finish", killed)
            with pytest.raises(KeyboardInterrupt):
                run(scans / "a.png", out, phrases=("lungs", "left lung"), options=ALL)
        assert "a_mask_left-lung.png" in names(out)
        run(scans / "b.png", out)
        assert names(out) == {"b_mask.png"}

    def test_torn_files_are_swept_also_where_no_table_is(self, scans: Path, tmp_path: Path) -> None:
        torn, other = tmp_path / "out" / ".0123456789abcdef.tmp", tmp_path / "out" / ".mine.tmp"
        torn.parent.mkdir()
        torn.touch()
        other.touch()
        check_folder(tmp_path / "out", gather_items([scans], phrases=["tumor"]))
        assert not torn.exists() and other.exists()

    def test_a_full_disk_says_how_to_go_on(self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = os.fsync, []

        def full(handle: int) -> None:
            calls.append(1)
            if len(calls) > 9:
                raise OSError(28, "No space left on device")
            real(handle)

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UnwritableResult, match=r"No space left on device.*--resume"):
            run(scans, tmp_path / "out", options=ALL)
        monkeypatch.undo()
        run(scans, tmp_path / "out", options=RunOptions(save_stages=True, overlay=True, resume=True))
        assert belongs(tmp_path / "out") and len(names(tmp_path / "out")) == 15


class TestFailures:
    def test_a_failing_scan_removes_no_file_of_another(self, scans: Path, tmp_path: Path) -> None:
        """A scan "bad" and one "bad_tumor": names that could be taken for one another's."""
        (scans / "b.png").rename(scans / "bad.png")
        (scans / "c.png").rename(scans / "a_tumor.png")
        run(scans, tmp_path / "out", FakePipeline(fails=LexisegError("no")), options=ALL)
        assert len([name for name in names(tmp_path / "out") if name.startswith("a_tumor_")]) == 5
        assert not [name for name in names(tmp_path / "out") if name.startswith("bad")]


class TestNames:
    def test_no_two_files_of_a_run_have_one_name(self) -> None:
        """Scans and phrases named to collide: every output of every scan is a name of its own."""
        phrases = ["mask", "labels", "region", "saliency", "Mask", "left lung", "left_lung", "mask 2", "a"]
        scans = ["a", "a_mask", "a_mask_mask", "a_left-lung", "a_mask-2", "a_saliency"]
        own = slugs(phrases)
        found = [name for scan in scans for name in output_names(scan, own)]
        assert len(found) == len(set(found))
        assert not set(own) & set(OUTPUT_KINDS)

    def test_a_single_phrase_has_no_slug(self) -> None:
        assert "a_left-lung_region.png" not in output_names("a", ["left-lung"])

    def test_slugs_fit_any_file_system(self) -> None:
        found = slugs(["肺" * 99, "肺" * 98, "é" * 60, "e\u0301" * 60])
        assert len(set(found)) == 4
        assert all(len(f"{'x' * 180}_{slug}_saliency.nii.gz".encode()) <= 255 for slug in found)


class TestOverlaps:
    def test_lost_pixels_are_counted_said_once_and_written_down(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        phrases, out = ("lungs", "left lung", "unseen organ"), tmp_path / "out"
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run(scans, out, phrases=phrases)
        assert sum("lose pixels" in each.getMessage() for each in caplog.records) == 1
        assert "lose pixels in 3 of 3 scans: lungs " in caplog.text and "NAME_mask_PHRASE" in caplog.text
        labels = np.asarray(Image.open(out / "a_labels.png"))
        lungs, left, absent = (np.asarray(Image.open(out / f"a_mask_{slug}.png")) > 0 for slug in slugs(phrases))
        lost = int((lungs & (labels == 2)).sum())
        assert lost > 0 and not absent.any()
        np.testing.assert_array_equal(np.asarray(Image.open(out / "a_mask.png")) > 0, lungs | left)
        rows = {row.text: row for row in read_results(out / "results.csv") if row.id == "a"}
        assert f"labels: {lost} of {lungs.sum()} pixels go to left lung" in rows["lungs"].notes
        assert int(rows["lungs"].area_px) == lungs.sum()
        assert "labels" not in rows["left lung"].notes + rows["unseen organ"].notes

    def test_each_phrases_mask_is_the_mask_of_it_alone(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path / "both", phrases=("lungs", "left lung"))
        run(scans, tmp_path / "one", phrases=("lungs",))
        for name in "abc":
            both, one = tmp_path / "both" / f"{name}_mask_lungs.png", tmp_path / "one" / f"{name}_mask.png"
            assert both.read_bytes() == one.read_bytes()

    def test_of_a_volume(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16)
        nib.Nifti1Image(voxels, np.diag([2.0, 3.0, 4.0, 1.0])).to_filename(tmp_path / "v.nii.gz")
        run(tmp_path / "v.nii.gz", tmp_path / "out", phrases=("lungs", "left lung"))
        labels = np.asarray(nib.load(tmp_path / "out" / "v_mask.nii.gz").dataobj)
        lungs, left = (nib.load(tmp_path / "out" / f"v_mask_{slug}.nii.gz") for slug in ("lungs", "left-lung"))
        np.testing.assert_array_equal(lungs.affine, nib.load(tmp_path / "v.nii.gz").affine)
        values = np.asarray(left.dataobj)
        assert set(np.unique(values)) == {0, 1}
        whole = int((np.asarray(lungs.dataobj) > 0).sum())
        lost = whole - int((labels == 1).sum())
        note = read_results(tmp_path / "out" / "results.csv")[0].notes
        assert lost > 0 and f"labels: {lost} of {whole} voxels go to left lung" in note

    def test_one_phrase_has_one_mask(self, scans: Path, tmp_path: Path) -> None:
        run(scans / "a.png", tmp_path / "out")
        assert names(tmp_path / "out") == {"a_mask.png"}


def test_files_csv_lists_inputs_and_outputs(scans: Path, tmp_path: Path) -> None:
    run(scans / "a.png", tmp_path / "out", phrases=("lungs", "left lung"))
    found = ledger.read_ledger(tmp_path / "out")
    assert found.names("a") == ["a_mask_lungs.png", "a_mask_left-lung.png", "a_labels.png", "a_mask.png"]
    assert found.inputs_are_same("a", [scans / "a.png"])
    assert not found.inputs_are_same("a", [scans / "b.png"])
    assert not found.inputs_are_same("a", [scans / "a.png", scans / "b.png"])
    assert str(tmp_path) not in json.dumps(sorted(found.names("a") or ()))
