"""Runs in several formats: what is written, left out, owned, resumed and torn."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import (
    UNEVEN,
    SeriesPlan,
    volume_of_cine,
    volume_of_series,
    write_cine,
    write_series,
)
from PIL import Image
from series_runs import run_scans

from lexiseg.errors import UsageError
from lexiseg.io.read import read_scan
from lexiseg.runs import ledger
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.formats import export_names, parse_formats
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions
from lexiseg.runs.table import Row, read_results
from lexiseg.values.scans import Scan

TABLES = {"results.csv", "files.csv", "run.json"}


def names(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - TABLES


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in names(out)}


def rows(out: Path) -> list[Row]:
    return read_results(out / "results.csv")


@pytest.fixture
def series(tmp_path: Path) -> dict[Path, Scan]:
    files = write_series(tmp_path / "ct", SeriesPlan())
    return {files[0]: volume_of_series(files, SeriesPlan())}


@pytest.fixture
def nifti(tmp_path: Path) -> dict[Path, Scan]:
    path = tmp_path / "v.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 999, (6, 5, 4)).astype(np.int16)
    nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])).to_filename(path)
    return {path: read_scan(path)}


@pytest.fixture
def pictures(scans: Path) -> dict[Path, Scan]:
    return {path: read_scan(path) for path in sorted(scans.iterdir())}


class TestParsing:
    def test_commas_and_repeats(self) -> None:
        assert parse_formats(["png, NIFTI", "coco", "png"]) == (("png", "nifti"), ("coco",))
        assert parse_formats([]) == ((), ())

    def test_an_unknown_one_is_named_with_those_there_are(self) -> None:
        with pytest.raises(UsageError, match=r"no format 'dcm'; expected one of png, .*, coco, nnunet"):
            parse_formats(["png,dcm"])


class TestByKind:
    def test_a_series_is_nifti_and_seg(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", "left lung", "heart")
        stem = next(iter(series)).stem
        ends = ("_mask.nii.gz", "_mask.seg.dcm", "_mask_left-lung.nii.gz", "_mask_heart.nii.gz")
        assert names(tmp_path / "out") == {stem + end for end in ends}
        seg = pydicom.dcmread(tmp_path / "out" / f"{stem}_mask.seg.dcm")
        assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["left lung", "heart"]

    def test_every_format_of_a_series_at_once(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        formats = ("nrrd", "dicom-seg", "rtstruct", "stl", "nifti")
        more = {"overlay": True, "save_stages": True, "seg_type": "fractional"}
        summary = run_scans(monkeypatch, series, tmp_path / "out", formats=formats, **more)
        stem = next(iter(series)).stem
        ends = ("mask.nrrd", "mask.seg.dcm", "mask.rtstruct.dcm", "mask.stl", "mask.nii.gz", "overlay.png",
                "saliency.nrrd", "region.nrrd", "prompts.json")  # fmt: skip
        assert (summary.done, summary.failed) == (1, 0)
        assert names(tmp_path / "out") == {f"{stem}_{end}" for end in ends}
        assert pydicom.dcmread(tmp_path / "out" / f"{stem}_mask.seg.dcm").SegmentationType == "FRACTIONAL"

    def test_uneven_slices_have_no_nifti_and_a_note(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = write_series(tmp_path / "ct", UNEVEN)
        scan = volume_of_series(files, UNEVEN)
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run_scans(monkeypatch, {files[0]: scan}, tmp_path / "out", save_stages=True)
        assert names(tmp_path / "out") == {f"{files[0].stem}_{end}" for end in ("mask.seg.dcm", "prompts.json")}
        (row,) = rows(tmp_path / "out")
        assert "nifti: left out: its slices have unequal distances" in row.notes
        assert "stages: maps are left out" in row.notes
        assert [record.message for record in caplog.records] == [
            "formats that cannot hold a scan are left out: nifti of 1 scans; the column notes says why"
        ]

    def test_a_cine_is_seg_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_cine(tmp_path / "us.dcm", SeriesPlan())
        run_scans(monkeypatch, {path: volume_of_cine(path, SeriesPlan())}, tmp_path / "out")
        assert names(tmp_path / "out") == {"us_mask.seg.dcm"}
        (row,) = rows(tmp_path / "out")
        assert (row.volume_mm3, row.diameter_mm) == ("", "")


class TestLeftOut:
    def test_where_one_format_holds_the_scan_the_others_are_noted(
        self, nifti: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, nifti, tmp_path / "out", formats=("rtstruct", "png", "nrrd"))
        assert names(tmp_path / "out") == {"v_mask.nrrd"}
        (row,) = rows(tmp_path / "out")
        assert row.ok
        assert "rtstruct: left out: it was read from no DICOM files to refer to" in row.notes
        assert "png: left out: it is a volume" in row.notes

    def test_where_none_does_the_row_fails_with_one_line(
        self, pictures: dict[Path, Scan], nifti: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        summary = run_scans(monkeypatch, {**pictures, **nifti}, tmp_path / "out", formats=("nifti", "rtstruct"))
        assert (summary.done, summary.failed) == (1, 3)
        failed = [row for row in rows(tmp_path / "out") if not row.ok]
        assert failed[0].error == (
            "a: no format that was asked for can hold its mask (nifti: it is an image; "
            "rtstruct: it was read from no DICOM files to refer to)"
        )
        assert names(tmp_path / "out") == {"v_mask.nii.gz"}

    def test_an_absent_target_has_no_seg_and_says_so(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        summary = run_scans(monkeypatch, series, tmp_path / "out", "unseen", formats=("dicom-seg",))
        assert (summary.done, summary.absent, names(tmp_path / "out")) == (1, 1, set())
        assert "dicom-seg: no segment of what was not found: unseen" in rows(tmp_path / "out")[0].notes
        again = run_scans(monkeypatch, series, tmp_path / "out", "unseen", formats=("dicom-seg",), resume=True)
        assert again.skipped == 1


class TestOwned:
    FORMATS = ("nifti", "nrrd", "dicom-seg", "rtstruct", "stl")

    def test_a_second_run_takes_all_away(
        self, series: dict[Path, Scan], pictures: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", "lung", "heart", formats=self.FORMATS)
        assert len(names(tmp_path / "out")) == 11
        run_scans(monkeypatch, pictures, tmp_path / "out")
        assert names(tmp_path / "out") == {"a_mask.png", "b_mask.png", "c_mask.png"}

    @pytest.mark.parametrize("end", ["mask.nrrd", "mask.seg.dcm", "mask.rtstruct.dcm", "mask.stl"])
    def test_a_torn_file_is_written_again_to_the_same_bytes(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, series, out, formats=self.FORMATS)
        before = contents(out)
        torn = out / f"{next(iter(series)).stem}_{end}"
        torn.write_bytes(torn.read_bytes()[:-40])
        assert run_scans(monkeypatch, series, out, formats=self.FORMATS, resume=True).skipped == 0
        assert contents(out) == before

    def test_a_corrected_seg_is_somebodys_work(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, series, out)
        path = out / f"{next(iter(series)).stem}_mask.seg.dcm"
        seg = pydicom.dcmread(path)
        seg.ContentDescription = "corrected by hand"
        seg.save_as(path)
        with pytest.raises(UsageError, match="was changed after its run wrote it"):
            run_scans(monkeypatch, series, out, resume=True)

    def test_resuming_in_other_formats_is_refused(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", formats=("nifti",))
        with pytest.raises(UsageError, match="made with other outputs asked for"):
            run_scans(monkeypatch, series, tmp_path / "out", formats=("nrrd",), resume=True)

    def test_no_name_leads_out_of_the_folder(
        self, pictures: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, mine = tmp_path / "out", tmp_path / "mine.txt"
        mine.write_text("mine")
        run_scans(monkeypatch, pictures, out, exports=("nnunet",))
        entry = ledger.Entry.of(mine, id="a", role="output", file="../mine.txt")
        run_entry = ledger.Entry.of(mine, id="", role="output", file="Dataset501_lexiseg/../../mine.txt")
        with (out / "files.csv").open("a") as file:
            file.write(entry.to_line() + run_entry.to_line())
        run_scans(monkeypatch, pictures, out)
        assert mine.read_text() == "mine"


class TestExports:
    BOTH = ("coco", "nnunet")

    def test_coco_has_each_phrases_whole_mask(
        self, pictures: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, pictures, out, "lung", "unseen", "heart", exports=("coco",))
        content = json.loads((out / "annotations.json").read_text())
        assert [category["name"] for category in content["categories"]] == ["lung", "unseen", "heart"]
        assert [(out / image["file_name"]).resolve() for image in content["images"]] == sorted(pictures)
        assert {each["category_id"] for each in content["annotations"]} == {1, 3}
        for each in content["annotations"]:
            counts, size = each["segmentation"]["counts"], each["segmentation"]["size"]
            flat = np.repeat(np.arange(len(counts)) % 2, counts).reshape(size, order="F")
            stem = Path(content["images"][each["image_id"] - 1]["file_name"]).stem
            slug = ["lung", "unseen", "heart"][each["category_id"] - 1]
            with Image.open(out / f"{stem}_mask_{slug}.png") as mask:
                np.testing.assert_array_equal(flat, np.asarray(mask) > 0)

    def test_nnunet_has_images_and_volumes_apart(
        self, pictures: dict[Path, Scan], nifti: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, {**pictures, **nifti}, out, "lung", exports=("nnunet",))
        images, volumes = out / "Dataset501_lexiseg", out / "Dataset502_lexiseg_volumes"
        assert sorted(path.name for path in (images / "labelsTr").iterdir()) == ["a.png", "b.png", "c.png"]
        about = json.loads((volumes / "dataset.json").read_text())
        assert (about["numTraining"], about["file_ending"]) == (1, ".nii.gz")
        assert about["labels"] == {"background": 0, "lung": 1}
        label = nib.load(volumes / "labelsTr" / "v.nii.gz")
        image = nib.load(volumes / "imagesTr" / "v_0000.nii.gz")
        np.testing.assert_array_equal(label.affine, image.affine)
        np.testing.assert_array_equal(label.dataobj, nib.load(out / "v_mask.nii.gz").dataobj)
        np.testing.assert_array_equal(image.dataobj, nib.load(next(iter(nifti))).dataobj)

    def test_with_other_formats_the_arrays_are_written_too(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, series, out, formats=("dicom-seg",), exports=("nnunet",))
        stem = next(iter(series)).stem
        assert {f"{stem}_mask.seg.dcm", f"{stem}_mask.nii.gz"} < names(out)

    def test_what_a_format_cannot_hold_is_counted(
        self, pictures: dict[Path, Scan], nifti: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run_scans(monkeypatch, {**pictures, **nifti}, tmp_path / "out", exports=("coco",))
        assert "coco: 1 scans are left out; it holds images" in caplog.messages

    def test_a_second_run_takes_them_away_with_their_folders(
        self, pictures: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run_scans(monkeypatch, pictures, out, exports=self.BOTH)
        (out / "Dataset501_lexiseg" / "mine.txt").write_text("mine")
        run_scans(monkeypatch, pictures, out)
        assert names(out) == {"a_mask.png", "b_mask.png", "c_mask.png", "Dataset501_lexiseg/mine.txt"}
        assert not (out / "Dataset501_lexiseg" / "imagesTr").exists()

    @pytest.mark.parametrize("place", ["begin_exports", "finish_exports"])
    @pytest.mark.parametrize("resume", [False, True])
    def test_a_kill_leaves_nothing_that_nobody_knows(
        self, pictures: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, resume: bool
    ) -> None:
        out, whole = tmp_path / "out", tmp_path / "whole"
        run_scans(monkeypatch, pictures, whole, exports=self.BOTH)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ledger, place, killed)
            with pytest.raises(KeyboardInterrupt):
                run_scans(monkeypatch, pictures, out, exports=self.BOTH)
        items = gather_items(list(pictures), phrases=["tumor"])
        options = RunOptions(exports=self.BOTH, resume=resume)
        check_folder(out, items, resume=resume, exports=export_names(options))
        run_scans(monkeypatch, pictures, out, exports=self.BOTH, resume=resume)
        assert contents(out) == contents(whole)
        assert not [path for path in out.iterdir() if path.name.startswith(".export")]

    def test_a_data_set_that_no_run_made_is_refused_at_once(self, pictures: dict[Path, Scan], tmp_path: Path) -> None:
        (tmp_path / "out" / "Dataset501_lexiseg").mkdir(parents=True)
        items = gather_items(list(pictures), phrases=["tumor"])
        with pytest.raises(UsageError, match="Dataset501_lexiseg is there and no run of lexiseg wrote it"):
            check_folder(tmp_path / "out", items, exports=export_names(RunOptions(exports=("nnunet",))))

    def test_the_formats_are_in_the_record(self, scans: Path, tmp_path: Path) -> None:
        from fake_pipeline import FakePipeline

        items = gather_items([scans], phrases=["tumor"])
        run_batch(FakePipeline(), items, tmp_path / "out", options=RunOptions(formats=("png",), exports=("coco",)))
        options = json.loads((tmp_path / "out" / "run.json").read_text())["options"]
        assert (options["formats"], options["deidentify"]) == (["png", "coco"], False)
