"""Evaluation of volumes: NIfTI, NRRD, DICOM SEG and structure sets on either side, sizes and slices."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import PLANS, SeriesPlan, volume_of_series, write_series

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.evaluation import truths
from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.metrics.masks import SurfaceDistances, boundary
from lexiseg.evaluation.metrics.volumes import largest_error, slice_fractions, volume_error
from lexiseg.evaluation.settings import EvaluationSettings, LabelChoice
from lexiseg.io.dicom.rtstruct import RtstructWriter
from lexiseg.io.dicom.seg import SegWriter
from lexiseg.io.nifti import nifti_bytes
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.write_grids import nrrd_bytes
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

PLAN = PLANS["oblique"]


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = np.indices(shape).astype(float)
    return np.asarray(sum((grid[axis] - centre[axis]) ** 2 for axis in range(3)) <= radius**2)


SHAPE = (8, 16, 16)
TRUTH = ball(SHAPE, (3, 8, 8), 3.2)
PREDICTION = ball(SHAPE, (4, 8, 7), 3.2)


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A series as the reader of the manifest's column image gives it."""
    plan = SeriesPlan(SHAPE, PLAN.orientation, PLAN.spacing, PLAN.origin, PLAN.step)
    files = write_series(tmp_path / "ct", plan)
    found = volume_of_series(files, plan)
    (tmp_path / "ct.dcm").write_bytes(files[0].read_bytes())
    monkeypatch.setattr(truths, "read_scan", lambda path, **_: found)
    return found


def write(kind: str, scan: Volume, masks: dict[str, np.ndarray], stem: Path) -> Path:
    labels = np.zeros(scan.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask] = number
    if kind == "nifti":
        content, end = nifti_bytes(labels, scan), ".nii.gz"
    elif kind == "nrrd":
        content, end = nrrd_bytes(labels, scan), ".nrrd"
    else:
        segments = Segments(scan, tuple(Segment(name, name, mask) for name, mask in masks.items()), labels)
        if kind == "rtstruct":
            ((_, content),) = RtstructWriter().files(segments, WriteOptions(), {})
            end = ".rtstruct.dcm"
        else:
            ((_, content),) = SegWriter().files(segments, WriteOptions(seg_type=kind), {})  # type: ignore[arg-type]
            end = ".seg.dcm"
    path = stem.with_name(stem.name + end)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def manifest(folder: Path, mask: Path, text: str = "liver") -> Path:
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "image", "mask", "text"], ["a", "ct.dcm", mask.name, text]])
    return folder / "m.csv"


def only_case(folder: Path, truth: Path, settings: EvaluationSettings | None = None) -> Case:
    found = evaluate(manifest(folder, truth), [folder / "pred"], settings)
    assert not found.unusable, found.unusable
    (case,) = found.systems[0].cases
    return case


class TestEitherSide:
    @pytest.mark.parametrize("of_truth", ["nifti", "nrrd", "binary", "labelmap", "rtstruct"])
    @pytest.mark.parametrize("of_prediction", ["nifti", "nrrd", "binary", "labelmap", "rtstruct"])
    def test_the_numbers_are_the_same(self, scan: Volume, tmp_path: Path, of_truth: str, of_prediction: str) -> None:
        truth = write(of_truth, scan, {"liver": TRUTH}, tmp_path / "truth")
        write(of_prediction, scan, {"liver": PREDICTION}, tmp_path / "pred" / "a_mask")
        case = only_case(tmp_path, truth)
        assert case.status is Status.ok, case.reason
        both = (TRUTH & PREDICTION).sum()
        assert case.values["dice"] == pytest.approx(2 * both / (TRUTH.sum() + PREDICTION.sum()))
        distances = SurfaceDistances.of(TRUTH, PREDICTION, scan.spacing)
        assert case.values["hd95_mm"] == pytest.approx(distances.hd95(), rel=1e-6)
        assert case.values["nsd_2mm"] == pytest.approx(distances.nsd(2.0), rel=1e-6)
        voxel = abs(np.linalg.det(scan.geometry.affine[:3, :3])) / 1000
        assert case.values["volume_error_ml"] == pytest.approx(
            abs(int(PREDICTION.sum()) - int(TRUTH.sum())) * voxel, abs=1e-6
        )
        assert (case.values["slice_sensitivity"], case.values["slice_specificity"]) == (6 / 7, 0.0)

    @pytest.mark.parametrize(("kind", "part"), [("binary", "segments"), ("rtstruct", "regions")])
    def test_a_target_is_chosen_by_its_name_or_number(self, scan: Volume, tmp_path: Path, kind: str, part: str) -> None:
        truth = write(kind, scan, {"Spleen": PREDICTION, "Liver": TRUTH}, tmp_path / "truth")
        write(kind, scan, {"x": PREDICTION, "y": TRUTH}, tmp_path / "pred" / "a_mask")
        settings = EvaluationSettings(labels=(LabelChoice("", (2,)),))
        assert only_case(tmp_path, truth, settings).values["dice"] == 1
        # Of the truth the row's text says which; of the prediction nobody does.
        refused = only_case(tmp_path, truth)
        assert refused.status is Status.refused
        assert f"it holds {part} 1, 2; choose the target's with --label NUMBER" in refused.reason

    @pytest.mark.parametrize("told", ["dicom-seg: no segment", "rtstruct: no contour"])
    def test_a_run_that_found_nothing_wrote_no_object_and_is_not_missing(
        self, scan: Volume, tmp_path: Path, told: str
    ) -> None:
        truth = write("binary", scan, {"liver": TRUTH}, tmp_path / "truth")
        (tmp_path / "pred").mkdir()
        (tmp_path / "pred" / "results.csv").write_text(
            f"id,text,present,presence,status,notes\na,liver,false,0.1,ok,{told} of what was not found: liver\n"
        )
        case = only_case(tmp_path, truth)
        assert (case.status, case.found, case.values["dice"]) == (Status.ok, False, 0.0)
        assert any("the run found nothing, of which no DICOM object is written" in note for note in case.notes)

    def test_a_seg_of_another_frame_of_reference_is_refused(self, scan: Volume, tmp_path: Path) -> None:
        truth = write("nifti", scan, {"liver": TRUTH}, tmp_path / "truth")
        write("binary", scan, {"liver": PREDICTION}, tmp_path / "pred" / "a_mask")
        # A NIfTI has no frame of reference, so that the places alone decide.
        assert only_case(tmp_path, truth).status is Status.ok
        moved = nib.load(truth)
        affine = moved.affine.copy()
        affine[2, 3] += 1.0
        nib.Nifti1Image(np.asarray(moved.dataobj), affine).to_filename(truth)
        case = only_case(tmp_path, truth)
        assert case.status is Status.refused
        assert "it is not resampled" in case.reason

    def test_a_seg_as_truth_needs_its_scan(self, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(path: Path, **_: object) -> Volume:
            raise UnreadableScan(f"{path.name}: no such file")

        truth = write("binary", scan, {"liver": TRUTH}, tmp_path / "truth")
        write("binary", scan, {"liver": PREDICTION}, tmp_path / "pred" / "a_mask")
        monkeypatch.setattr(truths, "read_scan", gone)
        with pytest.raises(Exception, match="no such file"):
            only_case(tmp_path, truth)


class TestTheSeriesOfATruth:
    """A structure set or SEG says which series it was drawn on, and the manifest names the study's folder."""

    @pytest.mark.parametrize("kind", ["rtstruct", "binary"])
    @pytest.mark.parametrize("others", [0, 2])
    def test_is_found_among_others(self, tmp_path: Path, kind: str, others: int) -> None:
        for k in range(others):
            write_series(tmp_path / "study" / str(k), replace(PLANS["axial"], seed=50 + k))
        files = write_series(tmp_path / "study" / "ct", PLAN)
        scan = volume_of_series(files, PLAN)
        mask = np.random.default_rng(1).random(scan.shape) > 0.6
        truth = write(kind, scan, {"liver": mask}, tmp_path / "truth")
        write("nifti", scan, {"liver": mask}, tmp_path / "pred" / "a_mask")
        with (tmp_path / "m.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["id", "image", "mask", "text"], ["a", "study", truth.name, "liver"]])
        found = evaluate(tmp_path / "m.csv", [tmp_path / "pred"])
        (case,) = found.systems[0].cases
        assert (case.status, case.values["dice"]) == (Status.ok, 1.0), case.reason

    @pytest.mark.parametrize("kind", ["rtstruct", "binary"])
    def test_that_is_not_there_is_one_clear_line(self, tmp_path: Path, kind: str) -> None:
        files = write_series(tmp_path / "ct", PLAN)
        scan = volume_of_series(files, PLAN)
        truth = write(kind, scan, {"liver": np.ones(scan.shape, bool)}, tmp_path / "truth")
        uid = pydicom.dcmread(files[0]).SeriesInstanceUID
        for k in range(2):
            write_series(tmp_path / "study" / str(k), replace(PLANS["axial"], seed=50 + k))
        row = ManifestRow(id="a", image=tmp_path / "study", mask=truth, text="liver")
        for image in (tmp_path / "study", tmp_path / "gone"):
            with pytest.raises(UnreadableScan, match=rf"of the series {uid}, which the manifest") as caught:
                truths.read_truth(replace(row, image=image))
            assert "\n" not in str(caught.value)


class TestMeasures:
    GEOMETRY = Geometry((4, 2, 2), np.diag([1.0, 1, 3, 1]), positions=(0.0, 1.0, 4.0, 9.0))

    def test_volume_error_is_in_ml_and_needs_no_rule(self) -> None:
        geometry = Geometry((3, 4, 5), np.diag([2.0, 2, 5, 1]))
        truth, none = np.ones((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
        assert volume_error(truth, none, geometry) == volume_error(none, truth, geometry) == pytest.approx(1.2)
        assert volume_error(none, none, geometry) == 0
        assert largest_error(none, geometry) == pytest.approx(1.2)
        assert np.isnan(volume_error(truth, none, Geometry((3, 4, 5), np.eye(4), time=True)))

    def test_slices(self) -> None:
        truth = np.array([1, 1, 1, 0, 0], bool).reshape(5, 1, 1)
        drawn = np.array([0, 1, 1, 1, 0], bool).reshape(5, 1, 1)
        assert slice_fractions(truth, drawn) == {"slice_sensitivity": (2, 3), "slice_specificity": (1, 2)}
        full = np.ones((5, 1, 1), bool)
        assert slice_fractions(full, drawn)["slice_specificity"] == (0, 0)

    def test_distances_of_uneven_slices_are_theirs(self) -> None:
        truth, prediction = np.zeros((2, 4, 2, 2), bool)
        truth[0], prediction[2] = True, True
        found = SurfaceDistances.of(truth, prediction, self.GEOMETRY.spacing, self.GEOMETRY.positions)
        assert found.hd95() == pytest.approx(4.0)

    def test_a_missing_answer_is_as_bad_as_any(self, scan: Volume, tmp_path: Path) -> None:
        truth = write("nifti", scan, {"liver": TRUTH}, tmp_path / "truth")
        write("nifti", scan, {"liver": PREDICTION}, tmp_path / "pred" / "b_mask")
        table = tmp_path / "pred" / "results.csv"
        table.write_text("id,text,status,error\na,liver,failed,no\nb,liver,ok,\n")
        with (tmp_path / "m.csv").open("w", newline="") as file:
            rows = [["a", "ct.dcm", truth.name, "liver"], ["b", "ct.dcm", truth.name, "liver"]]
            csv.writer(file).writerows([["id", "image", "mask", "text"], *rows])
        found = evaluate(tmp_path / "m.csv", [tmp_path / "pred"])
        missing = found.systems[0].cases[0]
        assert missing.status is Status.missing
        assert (missing.values["slice_sensitivity"], missing.values["slice_specificity"]) == (0, 0)
        assert missing.values["volume_error_ml"] == pytest.approx(largest_error(TRUTH, scan.geometry), rel=1e-6)
        summary = found.systems[0].summaries[("", "")]
        assert summary["slice_sensitivity"].mean == pytest.approx(6 / 14)


def test_distances_of_a_sheared_volume_are_those_of_the_body(tmp_path: Path) -> None:
    """A missing answer too is as far off as the sheared grid is long."""
    tilt = np.radians(20)
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 6 * np.sin(tilt), 0], [0, 0, 6 * np.cos(tilt), 0], [0, 0, 0, 1]])
    for name, mask in (
        ("truth", TRUTH),
        ("pred/a_mask", PREDICTION),
        ("pred/b_mask", PREDICTION),
        ("ct", np.indices(SHAPE).sum(axis=0)),
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(mask.T.astype(np.uint8), affine), path)
    (tmp_path / "m.csv").write_text("id,image,mask\na,ct.nii.gz,truth.nii.gz\nb,ct.nii.gz,truth.nii.gz\n")
    case, _ = evaluate(tmp_path / "m.csv", [tmp_path / "pred"]).systems[0].cases
    points = [np.argwhere(boundary(mask))[:, ::-1] @ affine[:3, :3].T for mask in (TRUTH, PREDICTION)]
    apart = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    expected = max(np.percentile(apart.min(axis=1), 95), np.percentile(apart.min(axis=0), 95))
    assert case.values["hd95_mm"] == pytest.approx(expected)
    (tmp_path / "pred" / "a_mask.nii.gz").unlink()
    case, _ = evaluate(tmp_path / "m.csv", [tmp_path / "pred"]).systems[0].cases
    corners = np.array([[0, 0, 0], [16, -16, 8], [16, 16, 8]]) @ affine[:3, :3].T
    assert case.values["hd95_mm"] == pytest.approx(max(np.linalg.norm(corners[1]), np.linalg.norm(corners[2])))
