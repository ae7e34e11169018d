"""Nothing of the patient in what a run writes or says, but in DICOM objects, which carry the patient as they must."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import SeriesPlan, volume_of_series, write_series
from planted import PLANTED, decoded, holds, plant
from series_runs import run_scans

from lexiseg.errors import UsageError
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.dicom.pseudonyms import Pseudonyms, key_place, own_pseudonyms
from lexiseg.values.scans import Scan

FORMATS = ("nifti", "nrrd", "stl", "dicom-seg", "rtstruct")


@pytest.fixture
def series(tmp_path: Path) -> dict[Path, Scan]:
    plan = SeriesPlan(shape=(5, 16, 18))
    files = write_series(tmp_path / "ct", plan)
    assert min(plant(path) for path in files) > 500
    return {files[0]: volume_of_series(files, plan)}


class TestRun:
    def test_nothing_but_the_dicom_objects_names_the_patient(
        self,
        series: dict[Path, Scan],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "out"
        with caplog.at_level(logging.DEBUG):
            more = {"overlay": True, "save_stages": True, "exports": ("coco", "nnunet")}
            summary = run_scans(monkeypatch, series, out, "left lung", "heart", formats=FORMATS, **more)
        assert summary.done == 1
        files = [path for path in out.rglob("*") if path.is_file()]
        assert len(files) > 20
        named = {path.name for path in files if holds(decoded(path))}
        assert named == {path.name for path in files if path.name.endswith(".dcm")} != set()
        said = capfd.readouterr()
        assert not holds((caplog.text + said.out + said.err).encode())
        # And the DICOM objects do carry the patient.
        for end in ("seg", "rtstruct"):
            (path,) = out.glob(f"*.{end}.dcm")
            assert str(pydicom.dcmread(path).PatientName) == f"{PLANTED}^Jane"

    @pytest.mark.parametrize("header", ["SOPInstanceUID", "ImageOrientationPatient"])
    def test_neither_do_failures(
        self,
        series: dict[Path, Scan],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        header: str,
    ) -> None:
        (scan,) = series.values()
        assert isinstance(scan.header, DicomInstances)
        for path in scan.header.files:
            dataset = pydicom.dcmread(path)
            dataset[header].value = "" if header == "SOPInstanceUID" else ["1", "0", "0", "1", "0", "0"]
            dataset.save_as(path, enforce_file_format=False)
        with caplog.at_level(logging.DEBUG):
            run_scans(monkeypatch, series, tmp_path / "out", formats=("dicom-seg", "rtstruct"))
        tables = b"".join((tmp_path / "out" / name).read_bytes() for name in ("results.csv", "files.csv", "run.json"))
        assert not holds(tables + caplog.text.encode())


class TestDeidentified:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LEXISEG_HOME", str(tmp_path / "home"))

    def objects(self, out: Path) -> list[Any]:
        return [pydicom.dcmread(next(out.glob(f"*.{end}.dcm"))) for end in ("seg", "rtstruct")]

    def test_no_file_names_the_patient_or_keeps_a_uid(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", "left lung", formats=FORMATS, deidentify=True)
        own = pydicom.dcmread(next(iter(series)))
        files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        for path in files:
            content = decoded(path)
            assert not holds(content)
            assert not any(
                str(own[keyword].value).encode() in content
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
            )
            assert b"20210304" not in content

    def test_pseudonyms_are_the_same_in_every_object_and_run_of_one_key(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            run_scans(monkeypatch, series, tmp_path / name, formats=FORMATS, deidentify=True)
        seg, structures = self.objects(tmp_path / "one")
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert seg[keyword].value == structures[keyword].value
        assert seg.PatientID.startswith("ANON-") and seg.PatientIdentityRemoved == "YES"
        frame = structures.ReferencedFrameOfReferenceSequence[0]
        images = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
        (listed,) = seg.ReferencedSeriesSequence
        referred = {item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence}
        assert referred == {item.ReferencedSOPInstanceUID for item in images}
        for end in ("seg", "rtstruct"):
            one, two = (next((tmp_path / name).glob(f"*.{end}.dcm")).read_bytes() for name in ("one", "two"))
            assert one == two

    def test_places_and_masks_stay(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "plain", formats=FORMATS)
        run_scans(monkeypatch, series, tmp_path / "masked", formats=FORMATS, deidentify=True)
        seg, structures = self.objects(tmp_path / "plain")
        masked, masked_structures = self.objects(tmp_path / "masked")
        np.testing.assert_array_equal(seg.pixel_array, masked.pixel_array)
        places = [
            [group.PlanePositionSequence[0].ImagePositionPatient for group in each.PerFrameFunctionalGroupsSequence]
            for each in (seg, masked)
        ]
        assert places[0] == places[1]
        one, two = (each.ROIContourSequence[0].ContourSequence for each in (structures, masked_structures))
        assert [contour.ContourData for contour in one] == [contour.ContourData for contour in two]

    def test_another_persons_key_gives_other_pseudonyms_and_no_resume(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", formats=FORMATS, deidentify=True)
        before = self.objects(tmp_path / "out")[0].PatientID
        monkeypatch.setenv("LEXISEG_HOME", str(tmp_path / "another"))
        with pytest.raises(UsageError, match="other outputs asked for"):
            run_scans(monkeypatch, series, tmp_path / "out", formats=FORMATS, deidentify=True, resume=True)
        run_scans(monkeypatch, series, tmp_path / "out", formats=FORMATS, deidentify=True)
        assert self.objects(tmp_path / "out")[0].PatientID != before

    def test_the_key_is_readable_by_its_owner_alone_and_in_no_result(
        self, series: dict[Path, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_scans(monkeypatch, series, tmp_path / "out", formats=FORMATS, deidentify=True)
        place = key_place()
        if os.name == "posix":
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
        key = place.read_bytes().strip()
        assert not any(key in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())

    @pytest.mark.parametrize("content", ["", "no key\n", "ab" * 31 + "\n"])
    def test_a_broken_key_is_told_and_not_replaced(self, content: str) -> None:
        key_place().parent.mkdir(parents=True)
        key_place().write_text(content)
        with pytest.raises(UsageError, match="remove or repair it"):
            own_pseudonyms()
        assert key_place().read_text() == content


class TestPseudonyms:
    def test_dicoms_own_uids_stay(self) -> None:
        names = Pseudonyms(bytes(32))
        assert names.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
        assert names.uid("1.2.3") != Pseudonyms(bytes([1] * 32)).uid("1.2.3")
        assert len(names.uid("1.2.3")) <= 64

    def test_the_key_does_not_show(self) -> None:
        assert "0000" not in repr(Pseudonyms(bytes(32)))
