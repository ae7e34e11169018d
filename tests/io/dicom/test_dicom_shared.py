"""Real DICOM: what cases.json and dcm2niix, which know nothing of this package, say of the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import dicom_files
from lexiseg.io.find import find_sources
from lexiseg.io.sources import SourceOptions, read_source
from lexiseg.values.scans import Volume

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).parents[4] / "shared")) / "dicom"
FACTS = json.loads((SHARED / "cases.json").read_text(encoding="utf-8")) if SHARED.is_dir() else {}
DCM2NIIX = Path(sys.executable).with_name("dcm2niix")
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FACTS, reason=f"no real DICOM at {SHARED}: set LEXISEG_SHARED to its parent"),
]

# What lies in each case's folder: scans that are read, and objects that are refused.
COUNTS = {
    "broken": (0, 4),
    "ct_3slice_liver_seg": (1, 1),
    "dicomdir": (22, 1),
    "enhanced_mr": (3, 0),
    "legacy_enhanced_ct_and_seg": (2, 1),
    "mr_epi_4d": (2, 0),
    "mr_small_byte_orders": (5, 0),
    "rtdose": (0, 1),
    "rtstruct_phantom": (1, 2),
    "seg_variants": (1, 3),
    "transfer_syntaxes_lossless": (5, 0),
    "us_colour": (3, 0),
    "xa_nm": (2, 0),
    "xray_monochrome1": (2, 0),
}


@pytest.mark.parametrize("case", FACTS)
def test_every_file_reads_as_it_should_or_says_why_not(case: str) -> None:
    lines = list(dicom_files.folder_lines(SHARED / case, FACTS[case]["series"]))
    read = [line for line in lines if line.kind not in ("refused", "localizer")]
    assert [line.fault for line in read] == [""] * len(read)
    refused = {line.name: line.said for line in lines if line.kind == "refused"}
    refused.pop(case, None)  # of a folder without any scan
    assert (len(read), len(refused)) == COUNTS.get(case, (1, 0))
    assert all("internal error" not in said and len(said) < 240 for said in refused.values())


def volumes_of(case: str) -> list[Volume]:
    found = []
    for source in find_sources([SHARED / case], SourceOptions(all_series=True)):
        for number in range(1, 3 if case == "mr_epi_4d" else 2):
            scan = read_source(replace(source, volume=number if case == "mr_epi_4d" else None))
            assert isinstance(scan, Volume)
            found.append(scan)
    return found


def converted(case: str, folder: Path) -> list[nib.Nifti1Image]:
    command = [DCM2NIIX, "-b", "n", "-z", "n", "-m", "n", "-f", "%j", "-o", folder, SHARED / case]
    subprocess.run([str(part) for part in command], capture_output=True, timeout=120, check=False)
    return [nib.load(path) for path in sorted(folder.glob("*.nii"))]


needs_dcm2niix = pytest.mark.skipif(not DCM2NIIX.is_file(), reason="dcm2niix is not installed beside Python")


@needs_dcm2niix
@pytest.mark.parametrize(
    ("case", "volumes"),
    [
        ("ct_liver_series", 1),
        ("ct_3slice_liver_seg", 1),
        ("enhanced_ct", 1),
        ("legacy_enhanced_ct_and_seg", 2),
        ("mr_epi_4d", 2),
        ("mr_mosaic", 1),
        ("mr_sag_decubitus", 1),
        ("rtstruct_phantom", 1),
    ],
)
def test_every_voxel_lies_where_dcm2niix_puts_it(case: str, volumes: int, tmp_path: Path) -> None:
    images = converted(case, tmp_path)
    ours = volumes_of(case)
    assert len(ours) == volumes
    for volume in ours:
        agreeing = [image for image in images if agrees(volume, image)]
        assert agreeing


def agrees(volume: Volume, image: nib.Nifti1Image) -> bool:
    """Whether the values at the same places in mm are the same, wherever there is a value."""
    place = np.moveaxis(np.indices(volume.shape), 0, -1)[..., ::-1]
    world = place @ volume.geometry.affine[:3, :3].T + volume.geometry.affine[:3, 3]
    inverse = np.linalg.inv(image.affine)
    there = world @ inverse[:3, :3].T + inverse[:3, 3]
    indices = np.rint(there).astype(int)
    # NIfTI keeps an affine in single precision: a thousandth of a voxel.
    if np.abs(there - indices).max() > 1e-3 or indices.min() < 0 or (indices >= image.shape[:3]).any():
        return False
    data = np.asarray(image.dataobj)
    parts = [data] if data.ndim == 3 else [data[..., k] for k in range(data.shape[3])]
    known = np.isfinite(volume.values)
    return any(np.array_equal(part[tuple(np.moveaxis(indices, -1, 0))][known], volume.values[known]) for part in parts)


@needs_dcm2niix
@pytest.mark.parametrize("case", ["ct_head_gantry_tilt", "mr_missing_slice"])
def test_slices_that_no_nifti_can_place_are_dcm2niixs_one_by_one(case: str, tmp_path: Path) -> None:
    """dcm2niix says itself that these distances are none that NIfTI can hold, and stacks them all the same."""
    stacked = [image for image in converted(case, tmp_path) if image.shape[2] == 14]
    (volume,) = volumes_of(case)
    present = [values for values in volume.values if not np.isnan(values).all()]
    data = np.asarray(stacked[0].dataobj)
    # It counts rows from below.
    for k, values in enumerate(present):
        known = np.isfinite(values)
        np.testing.assert_array_equal(data[:, ::-1, k].T[known], values[known])


@pytest.mark.parametrize("name", ["chaos_mr_15", "cardiac_mr_6", "pcasl"])
def test_volumes_are_read_as_nibabel_reads_them(name: str) -> None:
    path = SHARED.parent / "volumes" / f"{name}.nii.gz"
    image = nib.load(path)
    (source,) = find_sources([path], SourceOptions(volume=7 if name == "pcasl" else None))
    volume = read_source(source)
    data = np.asarray(image.dataobj)
    np.testing.assert_array_equal(volume.values, (data[..., 6] if name == "pcasl" else data).T)
    np.testing.assert_array_equal(volume.geometry.affine, image.affine)
