"""A picture that does not lie the usual way round, and whose header says so: it is looked at upright."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lexiseg.io.read import read_scan
from lexiseg.values.scans import Image

MakeDicom = Callable[..., Path]

STORED = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)


def seen(path: Path) -> tuple[np.ndarray, np.ndarray, Image]:
    """The pixels as they are stored, and as models see them; the scan."""
    scan = read_scan(path)
    assert isinstance(scan, Image)
    return scan.pixels, scan.planes()[0].pixels, scan


def said(scan: Image) -> bool:
    return "stored mirrored or turned" in scan.notes.get("orientation", "")


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        ([1, 0, 0, 0, 1, 0], lambda a: a),
        ([-1, 0, 0, 0, 1, 0], lambda a: a[:, ::-1]),
        ([-1, 0, 0, 0, -1, 0], lambda a: a[::-1, ::-1]),
        ([0, 1, 0, 1, 0, 0], lambda a: a.T),
        ([1, 0, 0, 0, 0, -1], lambda a: a),
        ([0, 1, 0, 0, 0, -1], lambda a: a),
        ([0, -1, 0, 0, 0, 1], lambda a: a[::-1, ::-1]),
        ([0.98, 0.199, 0, -0.199, 0.98, 0], lambda a: a),
        ([1, 0, 0, 1, 0, 0], lambda a: a),
        ([0, 0, 0, 0, 0, 0], lambda a: a),
    ],
)
def test_image_orientation(make_dicom: MakeDicom, orientation: list[float], turn: Callable) -> None:
    path = make_dicom(STORED, ImageOrientationPatient=orientation, PatientOrientation=["L", "F"])
    stored, upright, scan = seen(path)
    np.testing.assert_array_equal(upright, turn(stored))
    assert said(scan) is (not np.array_equal(upright, stored))
    assert scan.shape == (20, 30)


@pytest.mark.parametrize(
    ("letters", "turn"),
    [
        (["L", "F"], lambda a: a),
        (["R", "F"], lambda a: a[:, ::-1]),
        (["RP", "FR"], lambda a: a[:, ::-1]),
        (["R", "H"], lambda a: a[::-1, ::-1]),
        (["F", "R"], lambda a: a.T[:, ::-1]),
        (["L", "P"], lambda a: a),
        (["R", "A"], lambda a: a[::-1, ::-1]),
        # Lateral views hang either way; head down is no way.
        (["A", "F"], lambda a: a),
        (["P", "F"], lambda a: a),
        (["A", "H"], lambda a: a[::-1, ::-1]),
        (["L", "L"], lambda a: a),
        (["X", "F"], lambda a: a),
        (["L"], lambda a: a),
        ([], lambda a: a),
    ],
)
def test_patient_orientation(make_dicom: MakeDicom, letters: list[str], turn: Callable) -> None:
    stored, upright, scan = seen(make_dicom(STORED, PatientOrientation=letters))
    np.testing.assert_array_equal(upright, turn(stored))
    assert said(scan) is (not np.array_equal(upright, stored))


@pytest.mark.parametrize("more", [{"Modality": "MG"}, {"AnatomicalOrientationType": "QUADRUPED"}])
def test_pictures_that_hang_in_ways_of_their_own(make_dicom: MakeDicom, more: dict[str, str]) -> None:
    stored, upright, scan = seen(make_dicom(STORED, PatientOrientation=["P", "L"], **more))
    np.testing.assert_array_equal(upright, stored)
    assert not said(scan)


def test_the_orientation_of_an_enhanced_frame(make_dicom: MakeDicom) -> None:
    group, plane = Dataset(), Dataset()
    plane.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    group.PlaneOrientationSequence = Sequence([plane])
    stored, upright, _ = seen(make_dicom(STORED, SharedFunctionalGroupsSequence=Sequence([group])))
    np.testing.assert_array_equal(upright, stored[:, ::-1])
