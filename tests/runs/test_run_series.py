"""Runs over series, zips and volumes of several: one scan each, and every file of it watched."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from study_files import write_series

from lexiseg.errors import UsageError
from lexiseg.io.sources import SourceOptions
from lexiseg.runs import ledger
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions, RunSummary
from lexiseg.runs.table import read_results

VALUES = np.random.default_rng(0).integers(0, 900, (4, 12, 10)).astype(np.int16)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])


def run(*inputs: Path, out: Path, reading: SourceOptions | None = None, resume: bool = False) -> RunSummary:
    items = gather_items(inputs, phrases=["tumor"], reading=reading)
    record = (reading or SourceOptions()).record()
    return run_batch(FakePipeline(), items, out, phrases=["tumor"], options=RunOptions(resume=resume), reading=record)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A folder ct of four slices."""
    write_series(tmp_path / "ct", VALUES, AFFINE, elements={"SeriesNumber": 2, "SeriesDescription": "Jane Doe"})
    return tmp_path / "ct"


def test_a_series_is_one_scan_whose_mask_lies_on_it(series: Path, tmp_path: Path) -> None:
    summary = run(series, out=tmp_path / "out")
    assert (summary.done, summary.failed) == (1, 0)
    (row,) = read_results(tmp_path / "out" / "results.csv")
    assert (row.id, row.image) == ("ct", str(series))
    mask = nib.load(tmp_path / "out" / "ct_mask.nii.gz")
    assert mask.shape == VALUES.shape[::-1]
    np.testing.assert_array_equal(mask.affine, AFFINE)


def test_every_file_of_it_is_in_the_ledger(series: Path, tmp_path: Path) -> None:
    run(series, out=tmp_path / "out")
    found = [each for each in ledger.read_ledger(tmp_path / "out").entries["ct"] if each.role == "input"]
    assert [each.file for each in found] == sorted(str(path) for path in series.iterdir())


@pytest.mark.parametrize("change", ["none", "touched", "changed", "added", "gone"])
def test_resuming_does_again_what_changed(series: Path, tmp_path: Path, change: str) -> None:
    run(series, out=tmp_path / "out")
    first = sorted(series.iterdir())[0]
    if change == "touched":
        first.touch()
    elif change == "changed":
        content = bytearray(first.read_bytes())
        content[-1] ^= 1
        first.write_bytes(content)
    elif change == "added":
        (series / "copy.dcm").write_bytes(first.read_bytes())
    elif change == "gone":
        first.unlink()
    summary = run(series, out=tmp_path / "out", resume=True)
    assert summary.skipped == (1 if change in ("none", "touched") else 0)
    assert (summary.done, summary.failed) == (1, 0)


def test_a_zip_is_one_file_of_the_ledger(series: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, f"thorax/{file.name}")
    run(tmp_path / "study.zip", out=tmp_path / "out")
    (row,) = read_results(tmp_path / "out" / "results.csv")
    assert (row.id, row.image) == ("thorax", str(tmp_path / "study.zip" / "thorax"))
    inputs = [each for each in ledger.read_ledger(tmp_path / "out").entries["thorax"] if each.role == "input"]
    assert [each.size for each in inputs] == [(tmp_path / "study.zip").stat().st_size]
    assert run(tmp_path / "study.zip", out=tmp_path / "out", resume=True).skipped == 1


def test_a_series_that_must_be_chosen_is_refused_before_anything_is_done(series: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "ct" / "more", VALUES, AFFINE)
    with pytest.raises(UsageError, match="it holds 2 series"):
        run(series, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_beside_other_inputs_it_fails_alone(series: Path, tmp_path: Path, scans: Path) -> None:
    write_series(tmp_path / "ct" / "more", VALUES, AFFINE)
    summary = run(series, scans, out=tmp_path / "out")
    assert (summary.done, summary.failed) == (3, 1)
    bad = next(row for row in read_results(tmp_path / "out" / "results.csv") if row.status == "failed")
    assert bad.error.startswith(f"{series}: it holds 2 series")


def test_all_series_have_names_of_their_own(series: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "ct" / "more", VALUES, AFFINE)
    summary = run(series, out=tmp_path / "out", reading=SourceOptions(all_series=True))
    assert summary.done == 2
    assert {row.id for row in read_results(tmp_path / "out" / "results.csv")} == {"ct", "more"}


def test_another_volume_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([VALUES.T, VALUES.T[::-1]], axis=3), AFFINE), path)
    run(path, out=tmp_path / "out", reading=SourceOptions(volume=1))
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["volume"] == 1
    with pytest.raises(UsageError, match="other outputs asked for"):
        run(path, out=tmp_path / "out", reading=SourceOptions(volume=2), resume=True)
    run(path, out=tmp_path / "out", reading=SourceOptions(volume=2))
    assert nib.load(tmp_path / "out" / "scan_mask.nii.gz").shape == VALUES.T.shape


def test_a_manifest_may_name_a_folder(series: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image\np1,ct\n")
    items = gather_items(manifest=tmp_path / "m.csv", phrases=["tumor"])
    assert (items[0].error, items[0].shown, len(items[0].source.files)) == ("", "ct", 4)
    write_series(tmp_path / "ct" / "more", VALUES, AFFINE)
    items = gather_items(manifest=tmp_path / "m.csv", phrases=["tumor"])
    assert "it holds 2 series" in items[0].error


def test_the_description_of_a_series_is_nowhere(series: Path, tmp_path: Path) -> None:
    run(series, out=tmp_path / "out")
    for name in ("results.csv", "files.csv", "run.json"):
        assert "Jane" not in (tmp_path / "out" / name).read_text()
