"""Masks that a run wrote are read back, whatever the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import UNEVEN, SeriesPlan, volume_of_cine, volume_of_series, write_cine, write_series

from lexiseg.errors import FormatMismatch, UnreadableScan
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.write import writer_of
from lexiseg.runs.masks import keep_masks, kept_file, kept_mask, same_mask, stored_mask, why_not_kept
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan


@pytest.fixture
def series(tmp_path: Path) -> Scan:
    return volume_of_series(write_series(tmp_path / "ct", SeriesPlan()), SeriesPlan())


def written(folder: Path, scan: Scan, masks: dict[str, BoolArray], form: str) -> None:
    folder.mkdir(exist_ok=True)
    items = tuple(Segment(name, name.replace(" ", "-"), mask) for name, mask in masks.items())
    labels = np.zeros(scan.shape, np.uint8)
    for number, item in enumerate(items, start=1):
        labels[item.mask] = number
    weights = {"model": "m", "revision": "r", "sha256": "0" * 64}
    segments = Segments(scan, items, labels, {"preset": {"name": "demo"}, "encoder": weights, "segmenter": weights})
    writer = writer_of(form)
    for end, content in writer.files(segments, WriteOptions(), {}):
        (folder / f"a_{end}{writer.suffix}").write_bytes(content)


def blocks(scan: Scan) -> dict[str, BoolArray]:
    """Two masks that overlap, and an empty one."""
    masks = {name: np.zeros(scan.shape, np.bool_) for name in ("left lung", "heart", "spleen")}
    masks["left lung"][1, 2:5, 1:6] = True
    masks["heart"][1:3, 3:6, 2:4] = True
    return masks


@pytest.mark.parametrize("form", ["nifti", "nrrd", "dicom-seg", "rtstruct"])
@pytest.mark.parametrize("count", [1, 3])
def test_each_format_gives_back_each_phrase(series: Scan, tmp_path: Path, form: str, count: int) -> None:
    masks = dict(list(blocks(series).items())[:count])
    written(tmp_path / "out", series, masks, form)
    phrases = tuple(masks)
    for phrase, mask in masks.items():
        found = stored_mask(tmp_path / "out", "a", phrases, phrase, series)
        # A DICOM object holds no part of what was not found.
        assert (found is None) == (form in ("dicom-seg", "rtstruct") and not mask.any())
        assert same_mask(found, mask)


def test_the_only_part_of_an_object_is_not_another_phrases(series: Scan, tmp_path: Path) -> None:
    masks = blocks(series)
    masks["heart"][:] = False
    written(tmp_path / "out", series, masks, "dicom-seg")
    assert stored_mask(tmp_path / "out", "a", tuple(masks), "heart", series) is None


def test_no_file_and_one_that_is_damaged(series: Scan, tmp_path: Path) -> None:
    assert stored_mask(tmp_path, "a", ("heart",), "heart", series) is None
    (tmp_path / "a_mask.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(UnreadableScan, match=r"a_mask\.nrrd"):
        stored_mask(tmp_path, "a", ("heart",), "heart", series)


class TestKept:
    """What a person left is kept of every scan that any file can hold, and read back to the last voxel."""

    @pytest.fixture(params=["even", "uneven", "cine"])
    def scan(self, request: pytest.FixtureRequest, tmp_path: Path) -> Scan:
        if request.param == "cine":
            return volume_of_cine(write_cine(tmp_path / "cine.dcm", SeriesPlan()), SeriesPlan())
        plan = UNEVEN if request.param == "uneven" else SeriesPlan()
        return volume_of_series(write_series(tmp_path / "ct", plan), plan)

    @pytest.mark.parametrize("count", [1, 3])
    def test_it_is_read_back(self, scan: Scan, tmp_path: Path, count: int) -> None:
        masks = dict(list(blocks(scan).items())[:count])
        out, phrases = tmp_path / "out", tuple(masks)
        assert not why_not_kept(scan)
        # Later ones take the place of earlier ones, also where all are empty.
        for kept in (
            masks,
            {name: ~mask for name, mask in masks.items()},
            {name: mask & False for name, mask in masks.items()},
        ):
            keep_masks(kept, scan, out, "a")
            for phrase, mask in kept.items():
                found = kept_mask(out, "a", phrases, phrase, scan)
                assert found is not None and same_mask(found, mask)
                file = kept_file(out, "a", phrases, phrase)
                assert file is not None or not mask.any()

    def test_no_patient_is_named_where_the_run_named_none(self, scan: Scan, tmp_path: Path) -> None:
        masks = {"heart": blocks(scan)["heart"]}
        if not why_not_kept(scan, deidentified=True):
            return keep_masks(masks, scan, tmp_path / "out", "a", deidentified=True)
        with pytest.raises(FormatMismatch, match="would name the patient"):
            keep_masks(masks, scan, tmp_path / "out", "a", deidentified=True)
        assert not (tmp_path / "out").exists()
        return None

    def test_what_no_file_can_hold_is_not_kept_in_part(self, tmp_path: Path) -> None:
        files = write_series(tmp_path / "ct", UNEVEN)
        scan = volume_of_series(files, UNEVEN)
        keep_masks({"heart": blocks(scan)["heart"]}, scan, tmp_path / "out", "a")
        gone = volume_of_series([None if k == 1 else file for k, file in enumerate(files)], UNEVEN)
        with pytest.raises(FormatMismatch, match="cannot hold all of its mask"):
            keep_masks({"heart": ~blocks(gone)["heart"]}, gone, tmp_path / "out", "a")
        found = kept_mask(tmp_path / "out", "a", ("heart",), "heart", scan)
        assert found is not None and same_mask(found, blocks(scan)["heart"])
