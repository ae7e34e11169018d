"""Masks of real DICOM scans through every format and back, each on the scan's own grid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from test_rtstruct import rasterised

from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.find import find_sources
from lexiseg.io.masks import read_mask
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.sources import SourceOptions, read_source
from lexiseg.io.write import writer_of
from lexiseg.values.scans import Scan, Volume

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "dicom"
CASES = ("ct_3slice_liver_seg/ct", "ct_head_gantry_tilt", "dicomdir", "enhanced_ct", "enhanced_mr",
         "legacy_enhanced_ct_and_seg/multiframe", "mr_missing_slice", "mr_sag_decubitus", "us_cine", "us_colour",
         "xa_nm", "xray_monochrome1", "mr_small_byte_orders")  # fmt: skip


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid with pin holes."""
    grid = np.indices(shape)
    middle = sum(((grid[axis] - length / 2) / max(1, length / 3)) ** 2 for axis, length in enumerate(shape)) < 1
    return np.asarray(middle & (np.random.default_rng(0).random(shape) > 0.002))


def scans_of(case: str) -> list[Scan]:
    sources = find_sources([SHARED / case], SourceOptions(all_series=True, all_patients=True))
    return [read_source(source) for source in sources]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real scans of a sibling folder are absent")
@pytest.mark.parametrize("case", CASES)
def test_masks_come_back(case: str, tmp_path: Path) -> None:
    written = 0
    for scan in scans_of(case):
        assert isinstance(scan.header, DicomInstances)
        mask = blob(scan.shape)
        for plane, frame in enumerate(scan.header.frames):
            if frame is None and mask.ndim == 3:
                mask[plane] = False
        segments = Segments(scan, (Segment("liver", "liver", mask),), mask.astype(np.uint8))
        for name in ("png", "nifti", "nrrd", "dicom-seg"):
            writer = writer_of(name)
            if writer.why_not(scan):
                continue
            ((_, content),) = writer.files(segments, WriteOptions(), {})
            path = tmp_path / f"a{writer.suffix}"
            path.write_bytes(content)
            np.testing.assert_array_equal(read_mask(path, scan), mask)
            written += 1
        if isinstance(scan, Volume) and not writer_of("rtstruct").why_not(scan):
            ((_, content),) = writer_of("rtstruct").files(segments, WriteOptions(), {})
            (tmp_path / "a.dcm").write_bytes(content)
            np.testing.assert_array_equal(rasterised(pydicom.dcmread(tmp_path / "a.dcm"), scan)["liver"], mask)
    assert written > 0
