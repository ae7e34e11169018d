from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import UnreadableScan
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.io.write import write_mask
from lexiseg.values.geometry import PlaneName
from lexiseg.values.scans import Image as ScanImage
from lexiseg.values.scans import Volume
from lexiseg.values.window import apply_window

MakeNifti = Callable[..., Path]

MASK = np.random.default_rng(5).random((12, 17)) > 0.5
SCAN = ScanImage(pixels=np.zeros((12, 17), np.float32))


class TestImages:
    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16", "I", "F"])
    def test_of_every_mode(self, tmp_path: Path, mode: str) -> None:
        image = Image.fromarray(MASK.astype(np.uint8) * 255)
        image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        image.save(tmp_path / "m.tif")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.tif", SCAN), MASK)

    @pytest.mark.parametrize("value", [1, 255])
    def test_any_value_is_inside(self, tmp_path: Path, value: int) -> None:
        Image.fromarray(MASK.astype(np.uint8) * np.uint8(value)).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK)

    @pytest.mark.parametrize("mask", [np.zeros((12, 17), bool), np.ones((12, 17), bool)])
    def test_an_empty_or_full_mask_is_one(self, tmp_path: Path, mask: np.ndarray) -> None:
        np.testing.assert_array_equal(read_mask(write_mask(mask, SCAN, tmp_path), SCAN), mask)

    def test_jpeg_blur_is_outside(self, tmp_path: Path) -> None:
        blocks = np.kron(MASK, np.ones((8, 8), bool))
        Image.fromarray(blocks.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=60)
        np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg"), blocks)

    def test_one_label(self, tmp_path: Path) -> None:
        labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
        Image.fromarray(labels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", label=2), labels == 2)

    def test_refuses_another_size(self, tmp_path: Path) -> None:
        Image.fromarray(MASK.T.copy()).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match=r"m\.png: its shape is \(17, 12\), its scan's is \(12, 17\)"):
            read_mask(tmp_path / "m.png", SCAN)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\nbroken"])
    def test_refuses_what_is_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "m.png").write_bytes(content)
        with pytest.raises(UnreadableScan, match=r"m\.png: "):
            read_mask(tmp_path / "m.png")


class TestVolumes:
    @pytest.fixture
    def scan(self, make_nifti: MakeNifti, rng: np.random.Generator) -> Volume:
        affine = np.array([[0, 0, 3.0, 5], [-0.5, 0, 0, 6], [0, 0.5, 0, 7], [0, 0, 0, 1]])
        scan = read_scan(make_nifti(rng.random((4, 5, 6)), affine))
        assert isinstance(scan, Volume)
        return scan

    def test_what_was_written_is_read(self, scan: Volume, tmp_path: Path) -> None:
        mask = scan.values > 0.7
        path = write_mask(mask, scan, tmp_path)
        np.testing.assert_array_equal(read_mask(path, scan), mask)
        np.testing.assert_array_equal(read_mask(path), mask)

    @pytest.mark.parametrize("plane", ["auto", "axial", "coronal", "sagittal"])
    def test_is_the_same_however_the_scan_is_cut(self, scan: Volume, tmp_path: Path, plane: PlaneName) -> None:
        planes = scan.planes(plane, "0.7,1")
        mask = planes.assemble([each.pixels > 0.7 for each in planes])
        path = write_mask(mask, scan, tmp_path)
        np.testing.assert_array_equal(read_mask(path, scan), apply_window(scan.values, 0.7, 1) > 0.7)

    def test_refuses_another_place(self, scan: Volume, make_nifti: MakeNifti) -> None:
        moved = scan.geometry.affine.copy()
        moved[0, 3] += 2
        path = make_nifti(np.ones((4, 5, 6), np.uint8), moved, "moved.nii")
        with pytest.raises(UnreadableScan, match="lies 2 mm away from its scan"):
            read_mask(path, scan)

    def test_refuses_another_shape(self, scan: Volume, make_nifti: MakeNifti) -> None:
        path = make_nifti(np.ones((5, 4, 6), np.uint8), scan.geometry.affine, "other.nii")
        with pytest.raises(
            UnreadableScan, match=r"its shape is \(6, 4, 5\), its scan's is \(6, 5, 4\); expected the same"
        ):
            read_mask(path, scan)

    def test_rounding_of_the_affine_is_no_move(self, scan: Volume, make_nifti: MakeNifti) -> None:
        path = make_nifti(np.ones((4, 5, 6), np.uint8), scan.geometry.affine + 1e-6, "same.nii")
        assert read_mask(path, scan).all()

    def test_an_affine_without_meaning(self, make_nifti: MakeNifti, tmp_path: Path, rng: np.random.Generator) -> None:
        def edit(header: nib.Nifti1Header) -> None:
            header["srow_x"], header["sform_code"] = np.nan, 1

        scan = read_scan(make_nifti(rng.random((4, 5, 6)), edit=edit))
        mask = scan.values > 0.5
        np.testing.assert_array_equal(read_mask(write_mask(mask, scan, tmp_path), scan), mask)
