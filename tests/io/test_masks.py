from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from lexiseg.errors import FormatMismatch, UnwritableResult, UsageError
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.names import OUTPUT_SUFFIXES
from lexiseg.io.read import read_scan
from lexiseg.io.write import WRITERS, Writer, default_formats, write_map, write_mask, writer_of
from lexiseg.values import scans
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import Mask

MakeNifti = Callable[..., Path]


def scan_of(shape: tuple[int, ...], **more: Any) -> scans.Image:
    return scans.Image(pixels=np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape), **more)


def read_volume(path: Path) -> scans.Volume:
    scan = read_scan(path)
    assert isinstance(scan, scans.Volume)
    return scan


def oblique() -> np.ndarray:
    turn = np.deg2rad(17)
    affine = np.eye(4)
    affine[:3, :3] = [
        [0.7 * np.cos(turn), -0.8 * np.sin(turn), 0],
        [0.7 * np.sin(turn), 0.8 * np.cos(turn), 0],
        [0, 0, 3.3],
    ]
    affine[:3, 3] = (-91.123456, 126.654321, -72.1)
    return affine


class TestImages:
    @settings(max_examples=40, deadline=None)
    @given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
    def test_what_is_written_is_read(self, mask: np.ndarray) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = write_mask(mask, scan_of(mask.shape), folder)
            with Image.open(path) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.asarray(image), np.where(mask, 255, 0))
            assert [p.name for p in Path(folder).iterdir()] == ["scan_mask.png"]

    def test_one_phrase_of_uint8(self, tmp_path: Path) -> None:
        labels = np.eye(5, dtype=np.uint8)
        path = write_mask(labels, scan_of((5, 5, 3), id="a b (1)"), tmp_path)
        assert path == tmp_path / "a b (1)_mask.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), labels * 255)

    def test_several_phrases(self, tmp_path: Path) -> None:
        labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
        path = write_mask(labels, scan_of((3, 4)), tmp_path, stem="x")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.where(labels > 0, 255, 0))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x_labels.png")), labels)

    def test_of_several_phrases_only_the_first_is_there(self, tmp_path: Path) -> None:
        """The files do not depend on what was found."""
        labels = np.eye(4, dtype=np.uint8)
        write_mask(Mask(labels, ("lung", "heart")), scan_of((4, 4)), tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["scan_labels.png", "scan_mask.png"]

    def test_refuses_another_grid(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"shape \(4, 5\), expected the scan's \(5, 4\)"):
            write_mask(np.zeros((4, 5), bool), scan_of((5, 4)), tmp_path)

    def test_refuses_other_types(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="float64, expected uint8 or bool"):
            write_mask(np.zeros((5, 4)), scan_of((5, 4)), tmp_path)  # type: ignore[arg-type]

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UnwritableResult, match="No space left on device"):
            write_mask(np.ones((4, 5), bool), scan_of((4, 5)), tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestVolumes:
    @settings(max_examples=30, deadline=None)
    @given(
        arrays.arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)),
        st.sampled_from(["auto", "axial", "coronal", "sagittal"]),
    )
    def test_what_is_written_is_read(self, mask: np.ndarray, plane: str) -> None:
        """The mask, marked in the file's own voxels, survives the way through planes and back."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source.nii")
            voxels = np.arange(mask.size + 1, dtype=np.int16)[1:].reshape(mask.shape)
            if mask.size == 1:
                return
            nib.save(nib.Nifti1Image(voxels, oblique()), source)
            scan = read_volume(source)
            planes = scan.planes(plane)  # type: ignore[arg-type]
            path = write_mask(planes.assemble(list(planes.cut(mask.T))), scan, folder)
            assert path.name == "source_mask.nii.gz"
            written = nib.load(path)
            np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
            assert written.get_data_dtype() == np.uint8

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0), (0, 0), (4, 3)])
    def test_geometry_is_kept_to_the_bit(
        self,
        make_nifti: MakeNifti,
        tmp_path: Path,
        rng: np.random.Generator,
        kind: type,
        codes: tuple[int, int],
    ) -> None:
        def edit(header: Any) -> None:
            header.set_sform(oblique(), codes[0])
            header.set_qform(oblique() if codes[0] != 4 else np.diag([2.0, 2, 2, 1]), codes[1])
            header.set_xyzt_units("micron", "sec")
            header["descrip"] = b"Doe^Jane"
            if kind is nib.Nifti1Image:
                header["data_type"] = header["db_name"] = b"Doe^Jane"
            header["cal_max"] = 500
            header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))

        path = make_nifti(rng.random((4, 5, 6)), kind=kind, edit=edit)
        scan = read_scan(path)
        written = nib.load(write_mask(np.ones(scan.shape, bool), scan, tmp_path / "out"))
        source = nib.load(path)
        assert type(written) is type(source)
        assert written.affine.tobytes() == source.affine.tobytes()
        fields = [name for name in source.header if name.startswith(("srow", "quatern", "qoffset", "pixdim"))]
        for name in [*fields, "sform_code", "qform_code", "xyzt_units", "dim"]:
            assert written.header[name].tobytes() == source.header[name].tobytes(), name
        assert b"Doe" not in written.to_bytes()
        assert written.header["cal_max"] == 0

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 6, 1), (1, 5, 6)])
    def test_shape_and_byte_order_are_the_sources(
        self, tmp_path: Path, rng: np.random.Generator, order: str, shape: tuple[int, ...]
    ) -> None:
        source = tmp_path / "source.nii"
        nib.save(nib.Nifti1Image(rng.random(shape), oblique(), nib.Nifti1Header(endianness=order)), source)
        scan = read_scan(source)
        written = nib.load(write_mask(np.ones(scan.shape, bool), scan, tmp_path))
        assert written.shape == shape
        assert written.header.endianness == order

    def test_scaling_does_not_touch_the_mask(self, make_nifti: MakeNifti, tmp_path: Path) -> None:
        voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        scan = read_scan(make_nifti(voxels, edit=lambda header: header.set_slope_inter(0.001, -1000)))
        written = nib.load(write_mask(np.ones(scan.shape, bool), scan, tmp_path / "out"))
        np.testing.assert_array_equal(written.get_fdata(), 1)

    def test_labels_of_several_phrases(self, make_nifti: MakeNifti, tmp_path: Path) -> None:
        voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        scan = read_scan(make_nifti(voxels))
        labels = (voxels % 3).astype(np.uint8)
        mask = Mask(np.ascontiguousarray(labels.T), ("a", "b"))
        written = nib.load(write_mask(mask, scan, tmp_path / "out"))
        np.testing.assert_array_equal(np.asarray(written.dataobj), labels)

    def test_equal_masks_are_equal_bytes(self, make_nifti: MakeNifti, tmp_path: Path) -> None:
        scan = read_volume(make_nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5)))
        paths = [write_mask(scan.values > 30, scan, tmp_path / name) for name in ("one", "two")]
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_of_memory_reads_back_as_the_same_planes(self, tmp_path: Path) -> None:
        values = np.linspace(0, 1, 60).reshape(3, 4, 5)
        scan = scans.Volume(values, Geometry.of_spacing((3, 4, 5), (4.0, 0.5, 0.25)))
        again = read_volume(write_mask(scan.values > 0.6, scan, tmp_path))
        np.testing.assert_array_equal(again.values, scan.values > 0.6)
        assert again.spacing == scan.spacing
        np.testing.assert_array_equal(again.geometry.affine, scan.geometry.affine)
        before, after = (each.planes("auto", "0.6,1") for each in (scan, again))
        assert (before.axes, len(before)) == (after.axes, len(after))


class TestMaps:
    def test_of_an_image(self, tmp_path: Path) -> None:
        saliency = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
        path = write_map(saliency, scan_of((4, 5)), tmp_path, stem="a", kind="saliency")
        assert path == tmp_path / "a_saliency.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.rint(saliency * 255))
        path = write_map(saliency > 0.5, scan_of((4, 5)), tmp_path, stem="a", kind="region")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.where(saliency > 0.5, 255, 0))

    @pytest.mark.parametrize(("kind", "dtype"), [("saliency", np.float32), ("region", np.uint8)])
    def test_of_a_volume(self, make_nifti: MakeNifti, tmp_path: Path, kind: str, dtype: type) -> None:
        scan = read_volume(make_nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5), oblique()))
        values = np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 4, 3)
        given = values if kind == "saliency" else values > 0.5
        path = write_map(given, scan, tmp_path, stem="a", kind=kind)
        assert path == tmp_path / f"a_{kind}.nii.gz"
        written = nib.load(path)
        assert written.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asarray(written.dataobj), given.T)
        np.testing.assert_array_equal(written.affine, scan.geometry.affine)

    def test_refuses_another_grid(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"shape \(5, 4\), expected the scan's \(4, 5\)"):
            write_map(np.zeros((5, 4), np.float32), scan_of((4, 5)), tmp_path, stem="a", kind="saliency")


class TestWriters:
    def test_each_is_a_writer_of_its_suffix(self) -> None:
        writers = [writer_of(name) for name in WRITERS]
        assert all(isinstance(writer, Writer) for writer in writers)
        assert tuple(writer.suffix for writer in writers) == OUTPUT_SUFFIXES

    def test_an_unknown_format_is_named_with_those_there_are(self) -> None:
        with pytest.raises(UsageError, match=r"no format 'mgz'; expected one of png, nifti, nrrd, dicom-seg"):
            writer_of("mgz")

    def test_follow_the_kind_of_scan(self) -> None:
        def volume(**more: Any) -> scans.Volume:
            return scans.Volume(np.zeros((3, 4, 5)), Geometry.of_spacing((3, 4, 5)), **more)

        assert default_formats(scan_of((4, 5, 3))) == ("png",)
        assert default_formats(volume()) == ("nifti",)
        assert default_formats(volume(notes={"format": "NRRD"})) == ("nrrd", "nifti")
        assert default_formats(volume(header=DicomInstances(()))) == ("nifti", "dicom-seg")
        # A DICOM file that is named is one picture, as it has always been.
        assert default_formats(scan_of((4, 5), header=DicomInstances(()))) == ("png",)

    def test_an_array_format_that_cannot_hold_the_slices_is_an_error(self, tmp_path: Path) -> None:
        geometry = Geometry((3, 4, 5), np.eye(4), positions=(0.0, 1.0, 5.0))
        with pytest.raises(FormatMismatch, match="nifti cannot hold its mask: its slices have unequal distances"):
            write_mask(np.ones((3, 4, 5), bool), scans.Volume(np.zeros((3, 4, 5)), geometry), tmp_path)
        with pytest.raises(UsageError, match="the format stl holds no arrays"):
            write_mask(np.ones((4, 5), bool), scan_of((4, 5)), tmp_path, format="stl")
        assert not list(tmp_path.iterdir())
