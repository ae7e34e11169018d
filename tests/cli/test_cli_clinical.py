"""`lexiseg segment` of a study folder, from files to formats, and what it says of the patient: nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import PLANS, SeriesPlan, write_cine, write_multi_frame, write_series, write_xray
from planted import PLANTED, decoded, holds, plant

from lexiseg.io.find import find_sources
from lexiseg.io.masks import read_mask
from lexiseg.io.sources import read_source


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


TABLES = {"results.csv", "files.csv", "run.json"}


class TestFormats:
    @pytest.mark.parametrize("name", PLANS)
    def test_a_study_becomes_nifti_and_seg_of_the_same_mask(self, cli: Any, tmp_path: Path, name: str) -> None:
        write_series(tmp_path / "study", PLANS[name])
        result = cli.segment(tmp_path / "out", tmp_path / "study", "--format", "nifti,nrrd", "--format", "dicom-seg")
        assert result.exit_code == 0, result.stderr
        ends = (".nii.gz", ".nrrd", ".seg.dcm")
        assert files(tmp_path / "out") == {*TABLES, *(f"study_mask{end}" for end in ends)}
        (source,) = find_sources([tmp_path / "study"])
        scan = read_source(source)
        masks = [read_mask(tmp_path / "out" / f"study_mask{end}", scan) for end in ends]
        assert masks[0].any()
        for mask in masks[1:]:
            np.testing.assert_array_equal(mask, masks[0])
        image = nib.load(tmp_path / "out" / "study_mask.nii.gz")
        np.testing.assert_array_equal(image.affine, scan.geometry.affine.astype(np.float32))

    def test_by_kind(self, cli: Any, tmp_path: Path) -> None:
        plan = SeriesPlan()
        write_multi_frame(tmp_path / "ct.dcm", plan)
        write_cine(tmp_path / "us.dcm", plan)
        write_xray(tmp_path / "dx.dcm", plan)
        result = cli.segment(tmp_path / "out", *(tmp_path / f"{name}.dcm" for name in ("ct", "us", "dx")))
        assert result.exit_code == 0, result.stderr
        masks = {"ct_mask.nii.gz", "ct_mask.seg.dcm", "us_mask.seg.dcm", "dx_mask.png"}
        assert files(tmp_path / "out") == {*TABLES, *masks}
        assert "nifti of 1 scans" in result.stderr

    def test_a_seg_type_and_all_of_it_resumed_to_the_same_bytes(self, cli: Any, tmp_path: Path) -> None:
        write_series(tmp_path / "study", SeriesPlan())
        asked = ("--format", "dicom-seg,rtstruct,nnunet", "--seg-type", "labelmap")
        assert cli.segment(tmp_path / "out", tmp_path / "study", *asked).exit_code == 0
        before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out") - TABLES}
        assert highdicom.seg.segread(tmp_path / "out" / "study_mask.seg.dcm").SegmentationType == "LABELMAP"
        assert any(name.startswith("Dataset502") for name in before)
        (tmp_path / "out" / "study_mask.seg.dcm").unlink()
        assert cli.segment(tmp_path / "out", tmp_path / "study", *asked, "--resume").exit_code == 0
        assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out") - TABLES} == before

    def test_an_unknown_format_is_bad_usage(self, cli: Any, tmp_path: Path) -> None:
        write_series(tmp_path / "study", SeriesPlan())
        result = cli.segment(tmp_path / "out", tmp_path / "study", "--format", "mgz")
        assert result.exit_code == 2
        assert (
            "no format 'mgz'; expected one of png, nifti, nrrd, dicom-seg, rtstruct, stl, coco, nnunet" in result.stderr
        )
        assert not (tmp_path / "out").exists()

    def test_outputs_beside_a_study_are_no_scans(self, cli: Any, tmp_path: Path) -> None:
        study = tmp_path / "study"
        write_series(study, SeriesPlan())
        asked = ("--format", "nifti,nrrd,dicom-seg,rtstruct,stl")
        assert cli.segment(study / "out", study, *asked).exit_code == 0
        assert len(find_sources([study])) == 1


class TestPrivacy:
    @pytest.mark.parametrize("level", ["debug", "warning"])
    def test_nothing_of_the_patient_is_said_or_written(self, cli: Any, tmp_path: Path, level: str) -> None:
        plan = SeriesPlan(shape=(5, 16, 18))
        for path in write_series(tmp_path / "study", plan):
            plant(path)
        (tmp_path / "study" / "broken.dcm").write_bytes((tmp_path / "study" / "000.dcm").read_bytes()[:-300])
        out = tmp_path / "out"
        result = cli.segment(
            out, tmp_path / "study", "--format", "nifti,nrrd,stl,dicom-seg,rtstruct,nnunet,coco", "--overlay",
            "--save-stages", "--log-level", level, text=("left lung", "heart"),
        )  # fmt: skip
        assert not holds((result.stdout + result.stderr).encode())
        named = {path.name for path in out.rglob("*") if path.is_file() and holds(decoded(path))}
        objects = {path.name for path in out.glob("*.dcm")}
        assert named == objects
        assert all(PLANTED in str(pydicom.dcmread(out / name).PatientName) for name in objects)

    def test_nor_with_pseudonyms_in_dicom_objects(
        self, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LEXISEG_HOME", str(tmp_path / "home"))
        for path in write_series(tmp_path / "study", SeriesPlan(shape=(5, 16, 18))):
            plant(path)
        out = tmp_path / "out"
        result = cli.segment(out, tmp_path / "study", "--format", "dicom-seg,rtstruct", "--deidentify")
        assert result.exit_code == 0, result.stderr
        assert len(list(out.glob("*.dcm"))) == 2
        assert not [path.name for path in out.iterdir() if holds(decoded(path))]
        assert rows(out)[0]["verdict"] == "present"
