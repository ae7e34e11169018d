"""NRRD, NIfTI of DICOM, and surfaces, read by other programs than the ones that wrote them."""

from __future__ import annotations

import gzip
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import PLANS, volume_of_series, write_series

from lexiseg.io.names import OUTPUT_SUFFIXES
from lexiseg.io.nifti import nifti_bytes
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.io.surface import StlWriter, stl_bytes, surface_of
from lexiseg.io.write_grids import NrrdWriter, nrrd_bytes
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume

LPS = np.diag([-1.0, -1, 1, 1])
MASK = np.random.default_rng(1).random((4, 5, 6)) > 0.5


def volume(affine: np.ndarray, shape: tuple[int, int, int] = MASK.shape, **more: Any) -> Volume:
    return Volume(np.zeros(shape, np.float32), Geometry(shape, affine, **more))


def awkward() -> np.ndarray:
    """Numbers that no short decimal says."""
    affine = np.eye(4)
    affine[:3] = np.random.default_rng(2).normal(size=(3, 4)) * [1 / 3, 0.7, np.pi, 1e3 / 7]
    return affine


def header_of(content: bytes) -> dict[str, str]:
    """An NRRD header, by its definition: lines of name and value up to an empty one."""
    lines = content[: content.index(b"\n\n")].decode("ascii").split("\n")
    assert lines[0].startswith("NRRD000")
    return dict(line.split(": ", 1) for line in lines[1:])


class TestNrrd:
    @pytest.mark.parametrize("affine", [awkward(), *(PLANS[name].affine for name in PLANS)])
    def test_the_affine_is_equal_to_the_bit(self, affine: np.ndarray) -> None:
        content = nrrd_bytes(MASK.astype(np.uint8), volume(affine))
        header = header_of(content)
        assert header["space"] == "left-posterior-superior"
        vectors = [
            [float(number) for number in vector.split(",")]
            for vector in re.findall(r"\(([^)]*)\)", header["space directions"] + header["space origin"])
        ]
        found = np.eye(4)
        found[:3] = np.array(vectors).T
        np.testing.assert_array_equal(LPS @ found, affine)
        raw = gzip.decompress(content[content.index(b"\n\n") + 2 :])
        np.testing.assert_array_equal(np.frombuffer(raw, np.uint8).reshape(MASK.shape), MASK)

    @pytest.mark.parametrize("name", [name for name in PLANS if name != "sheared"])
    def test_simpleitk_reads_it_at_the_same_place(self, name: str, tmp_path: Path) -> None:
        scan = volume(PLANS[name].affine)
        (tmp_path / "a.nrrd").write_bytes(nrrd_bytes(MASK.astype(np.uint8), scan))
        image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), MASK)
        direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        # It keeps length and direction apart, which rounds once more.
        np.testing.assert_allclose(direction, (LPS @ scan.geometry.affine)[:3, :3], rtol=0, atol=1e-14)
        np.testing.assert_array_equal(image.GetOrigin(), (LPS @ scan.geometry.affine)[:3, 3])

    def test_equal_masks_are_equal_files_without_a_date(self) -> None:
        one, two = (nrrd_bytes(MASK.astype(np.uint8), volume(np.eye(4))) for _ in range(2))
        assert one == two
        assert b"#" not in one[: one.index(b"\n\n")]

    def test_maps_are_floats(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).random(MASK.shape).astype(np.float32)
        (tmp_path / "a.nrrd").write_bytes(NrrdWriter().map(values, volume(np.eye(4))))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nrrd"))), values)


class TestNiftiOfDicom:
    @pytest.mark.parametrize("name", PLANS)
    def test_the_affine_is_the_series_in_single_precision(self, name: str, tmp_path: Path) -> None:
        plan = PLANS[name]
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        image = nib.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(np.ones(scan.shape, np.uint8), scan)))
        np.testing.assert_array_equal(image.affine, scan.geometry.affine.astype(np.float32))
        header: Any = image.header
        assert (int(header["sform_code"]), header.get_xyzt_units()[0]) == (1, "mm")
        assert int(header["qform_code"]) == (0 if name == "sheared" else 1)
        if name != "sheared":
            # A quaternion of single precision: some parts in ten million of a length of 40 mm.
            np.testing.assert_allclose(image.get_qform(), scan.geometry.affine, rtol=0, atol=1e-4)


class TestSurface:
    def scan(self, name: str = "oblique") -> Volume:
        return volume(PLANS[name].affine, (6, 7, 8))

    @pytest.mark.parametrize("name", PLANS)
    def test_is_closed_faces_outwards_and_holds_the_masks_volume(self, name: str) -> None:
        scan = self.scan(name)
        mask = np.zeros(scan.shape, bool)
        mask[1:5, 1:6, 2:7] = True
        triangles = surface_of(mask, scan.geometry)
        edges: dict[tuple[bytes, bytes], int] = {}
        for triangle in triangles:
            keys = [corner.tobytes() for corner in triangle]
            for start, end in ((0, 1), (1, 2), (2, 0)):
                edges[keys[start], keys[end]] = edges.get((keys[start], keys[end]), 0) + 1
        assert all(count == 1 and edges.get((end, start)) == 1 for (start, end), count in edges.items())
        middle = triangles - triangles.reshape(-1, 3).mean(axis=0)
        inside = np.einsum("ij,ij->i", middle[:, 0], np.cross(middle[:, 1], middle[:, 2])).sum() / 6
        whole = mask.sum() * abs(np.linalg.det(scan.geometry.affine[:3, :3]))
        # Edges and corners are cut half-way to the next voxel: of a side of n voxels, at most a part 1 / n each.
        assert 0.9 * whole < inside < whole

    def test_places_are_lps_mm(self) -> None:
        scan = volume(np.diag([0.5, 2.0, 3.0, 1.0]), (5, 5, 5))
        mask = np.zeros(scan.shape, bool)
        mask[2, 1:3, 1:4] = True
        corners = surface_of(mask, scan.geometry).reshape(-1, 3)
        np.testing.assert_allclose(corners.min(axis=0), [-0.5 * 3.5, -2 * 2.5, 3 * 1.5])
        np.testing.assert_allclose(corners.max(axis=0), [-0.5 * 0.5, -2 * 0.5, 3 * 2.5])

    def test_uneven_slices_lie_where_they_are(self) -> None:
        scan = volume(np.diag([1.0, 1, 3, 1]), (4, 3, 3), positions=(0.0, 1.0, 5.0, 9.0))
        mask = np.zeros(scan.shape, bool)
        mask[1:3, 1, 1] = True
        heights = surface_of(mask, scan.geometry)[..., 2]
        assert (heights.min(), heights.max()) == (0.5, 7.0)

    def test_the_file_is_binary_stl(self) -> None:
        scan = self.scan()
        mask = np.zeros(scan.shape, bool)
        mask[2:4, 2:5, 2:6] = True
        content = stl_bytes(mask, scan.geometry)
        count = int.from_bytes(content[80:84], "little")
        assert len(content) == 84 + 50 * count
        assert b"LPS" in content[:80]
        first = np.frombuffer(content, "<f4", 12, 84).reshape(4, 3)
        np.testing.assert_allclose(first[1:], surface_of(mask, scan.geometry)[0], rtol=1e-6)
        normal = np.cross(first[2] - first[1], first[3] - first[1])
        np.testing.assert_allclose(first[0], normal / np.linalg.norm(normal), atol=1e-5)

    def test_each_target_has_one_and_what_is_absent_has_none(self) -> None:
        scan = self.scan()
        masks = [np.zeros(scan.shape, bool) for _ in range(3)]
        masks[0][1:3, 1:3, 1:3] = masks[1][3:5, 3:5, 3:5] = True
        labels = (masks[0] + 2 * masks[1]).astype(np.uint8)
        items = tuple(Segment(name, name, mask) for name, mask in zip("abc", masks, strict=True))
        notes: dict[str, str] = {}
        files = dict(StlWriter().files(Segments(scan, items, labels), WriteOptions(), notes))
        assert list(files) == ["mask_a", "mask_b", "mask"]
        assert notes == {"stl": "no surface of what was not found: c"}
        assert len({len(content) for content in files.values()}) == 2

    def test_an_image_has_no_surface(self) -> None:
        assert StlWriter().why_not(Image(np.zeros((4, 5), np.float32))) == "it is an image"


def test_no_two_formats_share_a_suffix() -> None:
    assert not any(one.endswith(two) for one, two in combinations(OUTPUT_SUFFIXES, 2))
