from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from study_files import write_frames, write_series
from typer.testing import CliRunner

from lexiseg.cli.app import app

KEYS = ["kind", "path", "series_uid", "modality", "files", "shape", "spacing_mm", "affine", "plane", "status", "notes",
        "error"]  # fmt: skip
VALUES = np.random.default_rng(0).integers(0, 900, (4, 6, 5)).astype(np.int16)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19700101", "SeriesNumber": 2,
             "SeriesDescription": "thin slices"}  # fmt: skip
    write_series(tmp_path / "ct", VALUES, AFFINE, elements=names)
    write_frames(tmp_path / "mf.dcm", VALUES, AFFINE)
    Image.fromarray(VALUES[0].astype(np.uint8)).save(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(VALUES, AFFINE), tmp_path / "b.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([VALUES] * 3, axis=3), AFFINE), tmp_path / "c.nii.gz")
    return tmp_path


def info(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["info", *map(str, arguments)])
    return found.exit_code, found.stdout


def test_json_is_a_list_of_objects(folder: Path) -> None:
    status, text = info(folder, "--json")
    found = json.loads(text)
    assert status == 0
    assert all(list(each) == KEYS for each in found)
    assert [
        (Path(each["path"]).name, each["kind"], each["shape"], each["files"], each["status"]) for each in found
    ] == [
        ("a.png", "image", [1, 6, 5], 1, "ok"),
        ("b.nii.gz", "volume", [5, 6, 4], 1, "ok"),
        ("c.nii.gz", "volume", [5, 6, 4], 1, "refused"),
        ("ct", "volume", [4, 6, 5], 4, "ok"),
        ("mf.dcm", "volume", [4, 6, 5], 1, "ok"),
    ]
    assert found[3]["affine"] == AFFINE.tolist()
    assert found[3]["spacing_mm"] == [3, 0.5, 0.5]
    assert found[3]["modality"] == "CT" and found[3]["plane"] == "axial"
    assert "choose one of them with --volume 1 to 3" in found[2]["error"]
    assert "Doe" not in text and "4711" not in text and "thin" not in text


def test_the_terminal_shows_the_series_description_and_no_patient(folder: Path) -> None:
    status, text = info(folder / "ct")
    assert status == 0
    assert "thin slices" in text and "4 x 6 x 5" in text
    assert "Doe" not in text and "4711" not in text and "1970" not in text


def test_a_chosen_volume_is_no_longer_refused(folder: Path) -> None:
    _, text = info(folder / "c.nii.gz", "--volume", 2, "--json")
    assert json.loads(text)[0]["status"] == "ok"


def test_a_missing_path_is_a_wrong_call(folder: Path) -> None:
    assert info(folder / "gone", "--json")[0] == 2


def test_it_imports_neither_torch_nor_what_it_does_not_need(folder: Path) -> None:
    code = (
        # The command ends without what Python does at the end, and so without the next line.
        "import os, sys; os._exit = sys.exit; sys.argv = ['lexiseg', 'info', '--json', sys.argv[1]]\n"
        "from lexiseg.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'scipy', 'skimage', 'SimpleITK', 'nibabel') if name in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder / "ct")], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
