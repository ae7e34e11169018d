"""Objects that are written have what their kind requires, by highdicom's tables of the standard."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import (
    SeriesPlan,
    image_of_xray,
    volume_of_cine,
    volume_of_series,
    write_cine,
    write_series,
    write_xray,
)
from highdicom._standard_utils import check_required_attributes, get_iod_module_map, get_sop_class_iod_map

from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.write import writer_of
from lexiseg.values.scans import Scan

# The tables ask for derivations among the shared groups; they may be each frame's own (PS3.3 C.7.6.16).
_GROUPS = "segmentation-multi-frame-functional-groups"


@pytest.mark.parametrize(
    ("source", "kind"),
    [*product(("series", "cine", "xray"), ("binary", "labelmap", "fractional")), ("series", "rtstruct")],
)
def test_mandatory_modules_are_complete(source: str, kind: str, tmp_path: Path) -> None:
    plan = SeriesPlan()
    scan: Scan
    if source == "series":
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
    elif source == "cine":
        scan = volume_of_cine(write_cine(tmp_path / "us.dcm", plan), plan)
    else:
        scan = image_of_xray(write_xray(tmp_path / "dx.dcm", plan), plan)
    mask = np.random.default_rng(0).random(scan.shape) > 0.5
    segments = Segments(scan, (Segment("liver", "liver", mask, mask.astype(np.float32)),), mask.astype(np.uint8))
    options = WriteOptions() if kind == "rtstruct" else WriteOptions(seg_type=kind)  # type: ignore[arg-type]
    ((_, content),) = writer_of("rtstruct" if kind == "rtstruct" else "dicom-seg").files(segments, options, {})
    (tmp_path / "a.dcm").write_bytes(content)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    modules = get_iod_module_map()[get_sop_class_iod_map()[dataset.SOPClassUID]]
    mandatory = [module["key"] for module in modules if module["usage"] == "M" and module["key"] != _GROUPS]
    assert len(mandatory) > 5
    for module in mandatory:
        check_required_attributes(dataset, module)
