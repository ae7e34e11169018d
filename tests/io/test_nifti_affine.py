from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.io.nifti_affine import affine_of, is_regular
from lexiseg.io.read import read_scan
from lexiseg.io.write import write_mask
from lexiseg.values.scans import Volume

MakeNifti = Callable[..., Path]
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
LEFT = np.array([[-0.7, 0, 0, 3], [0, -0.8, 0, 4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
SHAPE = (4, 5, 6)


def header_of(*, sform: np.ndarray | None = None, qform: np.ndarray | None = None) -> nib.Nifti1Header:
    """A header with these forms; a form that is None has code 0."""
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_zooms((0.7, 0.8, 2.5))
    if qform is not None:
        header.set_qform(qform, 1)
    if sform is not None:
        header["sform_code"] = 1
        for row, axis in zip(sform, "xyz", strict=False):
            header[f"srow_{axis}"] = row
    return header


class TestOrder:
    def test_a_usable_sform_is_first(self) -> None:
        affine, notes = affine_of(header_of(sform=LEFT, qform=LEFT), SHAPE)
        np.testing.assert_allclose(affine, LEFT, atol=1e-6)
        assert notes == {}

    @pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), LEFT[:, [0, 0, 2, 3]]])
    def test_then_the_qform(self, broken: np.ndarray) -> None:
        affine, notes = affine_of(header_of(sform=broken, qform=LEFT), SHAPE)
        np.testing.assert_allclose(affine, LEFT, atol=1e-5)
        assert notes == {"affine": "qform taken: the sform is singular or not finite"}

    @pytest.mark.parametrize("broken", [None, np.zeros((4, 4))])
    def test_then_the_voxel_sizes_as_nibabel_takes_them(self, broken: np.ndarray | None) -> None:
        header = header_of(sform=broken)
        affine, notes = affine_of(header, SHAPE)
        np.testing.assert_allclose(affine, header.get_base_affine())
        assert notes["affine"].startswith("orientation is not known")

    def test_sizes_that_say_nothing(self) -> None:
        header = header_of()
        header["pixdim"][1:4] = [0, np.nan, 2]
        affine, notes = affine_of(header, SHAPE)
        np.testing.assert_array_equal(np.diag(affine), [-1, 1, 2, 1])
        assert "voxel_size" in notes

    def test_a_qform_without_sizes_says_so(self) -> None:
        header = header_of(qform=LEFT)
        header["pixdim"][3] = 0
        affine, notes = affine_of(header, SHAPE)
        np.testing.assert_allclose(np.diag(affine)[:3], [-0.7, -0.8, 1], rtol=1e-6)
        assert list(notes) == ["voxel_size"]


class TestConflict:
    def test_says_by_how_much_and_that_they_are_mirrored(self) -> None:
        affine, notes = affine_of(header_of(sform=LEFT, qform=np.diag([0.7, -0.8, 2.5, 1])), SHAPE)
        np.testing.assert_allclose(affine, LEFT, atol=1e-6)
        assert "sform taken; the qform lies up to" in notes["forms"]
        assert "mirrored" in notes["forms"]

    def test_rounding_is_none(self) -> None:
        assert affine_of(header_of(sform=LEFT + 1e-4, qform=LEFT), SHAPE)[1] == {}


class TestQuaternion:
    @given(st.floats(1, 1.0004), st.integers(0, 2))
    def test_length_over_one_by_rounding_is_normalised(self, length: float, axis: int) -> None:
        header = header_of(qform=LEFT)
        for name in "bcd":
            header[f"quatern_{name}"] = 0
        header[f"quatern_{'bcd'[axis]}"] = length
        affine, _ = affine_of(header, SHAPE)
        signs = -np.ones(3)
        signs[axis] = 1
        np.testing.assert_allclose(np.diag(affine)[:3], signs * header.get_zooms(), rtol=1e-6)

    @pytest.mark.parametrize("number", [np.nan, np.inf, 2.0])
    def test_no_rotation_is_passed_over(self, number: float) -> None:
        header = header_of(qform=LEFT)
        header["quatern_b"] = number
        assert affine_of(header, SHAPE)[1]["affine"].startswith("orientation is not known")


class TestUnusedAxis:
    @given(st.integers(0, 2), st.sampled_from(["zero", "nan", "parallel"]))
    def test_is_completed_at_a_right_angle(self, axis: int, how: str) -> None:
        sform = LEFT.copy()
        sform[:3, axis] = {"zero": 0, "nan": np.nan, "parallel": sform[:3, (axis + 1) % 3]}[how]
        shape = [4, 5, 6]
        shape[axis] = 1
        affine, notes = affine_of(header_of(sform=sform), (shape[0], shape[1], shape[2]))
        others = [other for other in range(3) if other != axis]
        np.testing.assert_allclose(affine[:3, others], LEFT[:3, others], atol=1e-6)
        assert np.abs(affine[:3, axis] @ affine[:3, others]).max() < 1e-6
        assert "right angle" in notes["affine"]

    def test_a_used_axis_is_not(self) -> None:
        sform = LEFT.copy()
        sform[:3, 2] = 0
        assert affine_of(header_of(sform=sform), SHAPE)[1]["affine"].startswith("orientation is not known")


class TestIsRegular:
    @given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 7))
    def test_rotations_and_mirrors_are(self, angles: list[float], signs: int) -> None:
        affine = np.eye(4)
        for turn, angle in enumerate(angles):
            rotation = np.eye(3)
            one, two = [axis for axis in range(3) if axis != turn]
            rotation[[one, one, two, two], [one, two, one, two]] = [
                np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
            ]  # fmt: skip
            affine[:3, :3] = rotation @ affine[:3, :3]
        affine[:3, :3] *= [-1 if signs >> axis & 1 else 1 for axis in range(3)]
        assert is_regular(affine)

    @given(st.integers(0, 2), st.floats(-2, 2), st.floats(-2, 2))
    def test_rank_two_is_not(self, axis: int, one: float, two: float) -> None:
        affine = LEFT.copy()
        affine[:3, axis] = one * affine[:3, (axis + 1) % 3] + two * affine[:3, (axis + 2) % 3]
        assert not is_regular(affine)


class TestFiles:
    def test_the_mask_has_the_files_own_header_but_a_quaternion_that_can_be_read(
        self, make_nifti: MakeNifti, tmp_path: Path
    ) -> None:
        def edit(header: nib.Nifti1Header) -> None:
            header["qform_code"], header["sform_code"] = 1, 1
            header["quatern_d"], header["quatern_b"], header["quatern_c"] = 1.0000005, 0, 0
            for axis in "xyz":
                header[f"srow_{axis}"] = 0

        path = tmp_path / "a.nii"
        image = nib.Nifti1Image(VOXELS, None)
        edit(image.header)
        path.write_bytes(image.to_bytes())
        scan = read_scan(path)
        assert isinstance(scan, Volume)
        assert "normalised" in scan.notes["quaternion"]
        np.testing.assert_allclose(np.diag(scan.geometry.affine), [-1, -1, 1, 1])
        written = write_mask(scan.values > 50, scan, tmp_path / "out")
        header = nib.load(written).header
        np.testing.assert_allclose(header.get_qform(), scan.geometry.affine)
        for name in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "dim"):
            np.testing.assert_array_equal(header[name], image.header[name])

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_an_intercept_that_is_no_number_is_zero(self, tmp_path: Path, number: float) -> None:
        content = bytearray(nib.Nifti1Image(VOXELS, LEFT).to_bytes())
        content[112:120] = np.array([2, number], "<f4").tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        scan = read_scan(tmp_path / "a.nii")
        assert isinstance(scan, Volume)
        np.testing.assert_array_equal(scan.values, 2 * VOXELS.T)
        assert scan.notes["intercept"] == "scl_inter is no number: 0"

    def test_padding_becomes_nan_with_a_note(self, make_nifti: MakeNifti) -> None:
        values = np.random.default_rng(1).integers(-100, 300, (20, 20, 4)).astype(np.int16)
        values[:5] = -3024
        scan = read_scan(make_nifti(values, LEFT))
        assert isinstance(scan, Volume)
        assert int(np.isnan(scan.values).sum()) == 400
        assert "400 of -3024" in scan.notes["sentinel"]
        low, high = np.percentile(values[5:], (0.5, 99.5))
        np.testing.assert_allclose(scan.planes().window.low, low)  # type: ignore[union-attr]
        assert high > 250

    def test_an_unknown_type_is_not_called_damage(self, tmp_path: Path) -> None:
        content = bytearray(nib.Nifti1Image(VOXELS, LEFT).to_bytes())
        content[70:72] = (999).to_bytes(2, "little")
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(Exception, match="a type, a size or an extension that NIfTI does not know"):
            read_scan(tmp_path / "a.nii")
