from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from orientations import CODES, affine_of

from lexiseg.errors import UnreadableScan
from lexiseg.io.find import find_sources
from lexiseg.io.read import read_scan
from lexiseg.io.write import write_mask
from lexiseg.values.geometry import PlaneName
from lexiseg.values.scans import Volume

MakeNifti = Callable[..., Path]

# Axial slices as read: columns grow to the patient's left, rows to the back, slices to the head.
AXIAL = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def voxels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 1000, (7, 6, 5)).astype(np.int16)


def read_volume(path: Path) -> Volume:
    scan = read_scan(path)
    assert isinstance(scan, Volume)
    return scan


def shown(volume: Volume) -> np.ndarray:
    """(D, H, W): the axial planes."""
    return np.stack([plane.pixels for plane in volume.planes("axial")])


def unit(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5))
    return np.nan_to_num(np.clip((values - low) / (high - low), 0, 1))


class TestVoxels:
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_are_the_files(self, make_nifti: MakeNifti, voxels: np.ndarray, name: str, kind: type) -> None:
        scan = read_volume(make_nifti(voxels, AXIAL, name, kind=kind))
        assert (scan.shape, scan.id, scan.unit, scan.window) == ((5, 6, 7), "scan", "", None)
        np.testing.assert_array_equal(scan.values, voxels.T)
        np.testing.assert_array_equal(scan.geometry.affine, AXIAL)
        np.testing.assert_allclose(shown(scan), unit(voxels).transpose(2, 1, 0), atol=1e-6)

    @pytest.mark.parametrize("name", ["scan.nii", "wrong.png", "wrong.dcm", "noextension"])
    def test_content_counts_not_the_name(
        self, make_nifti: MakeNifti, voxels: np.ndarray, tmp_path: Path, name: str
    ) -> None:
        zipped = make_nifti(voxels, AXIAL)
        (tmp_path / name).write_bytes(zipped.read_bytes())
        first, second = read_volume(tmp_path / name), read_volume(zipped)
        np.testing.assert_array_equal(first.values, second.values)
        np.testing.assert_array_equal(shown(first), shown(second))

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
    def test_of_every_type(self, make_nifti: MakeNifti, voxels: np.ndarray, dtype: type) -> None:
        values = (voxels // 4).astype(dtype)
        image = nib.Nifti1Image(values, AXIAL, dtype=dtype)
        path = make_nifti(voxels, AXIAL)
        nib.save(image, path)
        scan = read_volume(path)
        np.testing.assert_array_equal(scan.values, values.T)
        np.testing.assert_allclose(shown(scan), unit(values).transpose(2, 1, 0), atol=1e-6)

    def test_big_endian(self, make_nifti: MakeNifti, voxels: np.ndarray, tmp_path: Path) -> None:
        image = nib.Nifti1Image(voxels, AXIAL, nib.Nifti1Header(endianness=">"))
        nib.save(image, tmp_path / "big.nii")
        big, small = read_volume(tmp_path / "big.nii"), read_volume(make_nifti(voxels, AXIAL))
        np.testing.assert_array_equal(big.values, small.values)
        np.testing.assert_array_equal(shown(big), shown(small))

    @pytest.mark.parametrize(("slope", "inter"), [(0.5, -100), (-2, 7), (1e-3, 0)])
    def test_scaling_is_applied(self, make_nifti: MakeNifti, voxels: np.ndarray, slope: float, inter: float) -> None:
        path = make_nifti(voxels, AXIAL, edit=lambda header: header.set_slope_inter(slope, inter))
        expected = unit(voxels * slope + inter).transpose(2, 1, 0)
        scan = read_volume(path)
        # Voxels of 16 bits are scaled in single precision.
        np.testing.assert_allclose(scan.values, (voxels * slope + inter).T, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(shown(scan), expected, atol=1e-5)

    def test_not_finite_voxels(self, make_nifti: MakeNifti, voxels: np.ndarray) -> None:
        values = voxels.astype(np.float32)
        values[0], values[1, 0, 0], values[1, 0, 1] = np.nan, np.inf, -np.inf
        scan = read_volume(make_nifti(values, AXIAL))
        np.testing.assert_array_equal(scan.values, values.T)
        pixels = shown(scan)
        assert np.isfinite(pixels).all()
        assert not pixels[:, :, 0].any()
        assert (pixels[0, 0, 1], pixels[1, 0, 1]) == (1, 0)
        assert scan.notes["not_finite"].startswith("32 voxels")

    @pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 1), (7, 6, 5, 1)])
    def test_axes_of_one(self, make_nifti: MakeNifti, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        values = rng.random(shape, np.float32)
        scan = read_volume(make_nifti(values, AXIAL))
        depth = (*shape, 1)[2]
        assert scan.shape == (depth, 6, 7)
        np.testing.assert_allclose(shown(scan), unit(values).reshape(7, 6, depth).transpose(2, 1, 0), atol=1e-6)


class TestSpacing:
    @pytest.mark.parametrize(("units", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
    def test_is_in_mm_along_slice_row_column(
        self, make_nifti: MakeNifti, voxels: np.ndarray, units: str, factor: float
    ) -> None:
        affine = np.diag([-0.5, -0.75, 3, 1])
        path = make_nifti(voxels, affine, edit=lambda header: header.set_xyzt_units(units))
        assert read_volume(path).spacing == pytest.approx((3 * factor, 0.75 * factor, 0.5 * factor))

    def test_of_an_oblique_volume(self, make_nifti: MakeNifti, voxels: np.ndarray) -> None:
        turn = np.deg2rad(20)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = rotation @ np.diag([-0.5, -0.75, 3])
        assert read_scan(make_nifti(voxels, affine)).spacing == pytest.approx((3, 0.75, 0.5))


class TestOrientations:
    @pytest.mark.parametrize("plane", ["auto", "axial", "coronal", "sagittal"])
    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_a_marked_voxel_comes_back_in_world_space(
        self, make_nifti: MakeNifti, tmp_path: Path, rng: np.random.Generator, codes: tuple[str, ...], plane: PlaneName
    ) -> None:
        # Under 200 voxels, so that a single dark one is the only one beyond the 0.5 percentile.
        shape = (4, 5, 6)
        # Bright everywhere but for one voxel, which is the only one clipped to 0.
        voxels = rng.uniform(10, 11, shape).astype(np.float32)
        target = tuple(int(i) for i in rng.integers(0, shape))
        voxels[target] = 0
        path = make_nifti(voxels, affine_of(codes, shape), "scan.nii")
        scan = read_volume(path)
        planes = scan.planes(plane)
        darkest = min(each.pixels.min() for each in planes)
        mask = planes.assemble([each.pixels == darkest for each in planes])
        assert mask.sum() == 1
        written = nib.load(write_mask(mask, scan, tmp_path / "out"))
        source = nib.load(path)
        found = np.argwhere(np.asarray(written.dataobj) == 1)
        assert found.tolist() == [list(target)]
        np.testing.assert_array_equal(
            nib.affines.apply_affine(written.affine, found[0]),
            nib.affines.apply_affine(source.affine, target),
        )


class TestUnits:
    def test_ct_without_a_unit_takes_a_named_window(self, make_nifti: MakeNifti, rng: np.random.Generator) -> None:
        hounsfield = rng.integers(-1000, 2000, (7, 6, 5)).astype(np.int16)
        planes = read_volume(make_nifti(hounsfield, AXIAL)).planes("axial", "lung")
        expected = np.clip((hounsfield.T + 600.5) / 1499 + 0.5, 0, 1)
        np.testing.assert_allclose(np.stack([plane.pixels for plane in planes]), expected, atol=1e-6)
        assert planes.record() == {"plane": "axial", "window": "lung window, centre -600, width 1500"}

    def test_mr_is_refused_one(self, make_nifti: MakeNifti, voxels: np.ndarray) -> None:
        scan = read_volume(make_nifti(voxels, AXIAL))
        with pytest.raises(UnreadableScan, match="scan: the brain window is of Hounsfield units"):
            scan.planes(window="brain")
        with pytest.raises(UnreadableScan, match="scan: it names no window of its own"):
            scan.planes(window="file")

    @pytest.mark.parametrize(
        ("dtype", "held"),
        [
            *((each, np.float32) for each in (np.uint8, np.int16, np.uint16, np.float32)),
            *((each, np.float64) for each in (np.int32, np.uint32, np.float64)),
        ],
    )
    def test_values_are_held_exactly(self, make_nifti: MakeNifti, dtype: type, held: type) -> None:
        """2**24 + 1 is the first whole number that float32 cannot hold."""
        most = 2**24 + 1 if held is np.float64 else int(np.iinfo(dtype).max) if dtype is not np.float32 else 2**24
        values = np.arange(most - 59, most + 1).astype(dtype).reshape(3, 4, 5)
        scan = read_volume(make_nifti(values, AXIAL))
        np.testing.assert_array_equal(scan.values, values.T)
        assert scan.values.dtype == held


class TestRefused:
    def test_a_time_series_of_which_no_volume_is_chosen(self, make_nifti: MakeNifti) -> None:
        with pytest.raises(UnreadableScan, match="it holds 3 volumes; choose one of them with --volume 1 to 3"):
            read_scan(make_nifti(np.zeros((4, 4, 4, 3), np.int16)))
        with pytest.raises(UnreadableScan, match="there is no volume 4 in it"):
            read_scan(make_nifti(np.zeros((4, 4, 4, 3), np.int16)), volume=4)

    def test_colour(self, make_nifti: MakeNifti) -> None:
        rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(UnreadableScan, match="colour or complex"):
            read_scan(make_nifti(rgb))

    @pytest.mark.parametrize("value", [0, np.nan])
    def test_nothing_to_see(self, make_nifti: MakeNifti, value: float) -> None:
        with pytest.raises(UnreadableScan, match=r"all pixels are equal|no pixel is a finite"):
            read_scan(make_nifti(np.full((4, 4, 4), value, np.float32)))

    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_a_header_that_claims_too_much(self, tmp_path: Path, name: str, kind: type) -> None:
        side = 30_000 if kind is nib.Nifti1Image else 100_000
        header = kind.header_class()
        header.set_data_shape((side, side, side))
        header["vox_offset"] = 352 if kind is nib.Nifti1Image else 544
        content = header.binaryblock + bytes(10_000)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        with pytest.raises(UnreadableScan, match="over the limit"):
            read_scan(tmp_path / name)
        with pytest.raises(UnreadableScan, match="truncated"):
            read_scan(tmp_path / name, max_voxels=10**18)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    def test_truncated(self, make_nifti: MakeNifti, rng: np.random.Generator, name: str, share: float) -> None:
        path = make_nifti(rng.random((9, 9, 9)), AXIAL, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UnreadableScan):
            read_scan(path)

    def test_a_negative_axis(self, make_nifti: MakeNifti, voxels: np.ndarray) -> None:
        path = make_nifti(voxels, AXIAL, "scan.nii")
        content = bytearray(path.read_bytes())
        content[42:44] = (-7).to_bytes(2, "little", signed=True)
        path.write_bytes(content)
        with pytest.raises(UnreadableScan):
            read_scan(path)

    def test_another_gzip_file(self, tmp_path: Path) -> None:
        (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(b"text" * 500))
        with pytest.raises(UnreadableScan, match="a gzip file that holds no NIfTI"):
            read_scan(tmp_path / "scan.nii.gz")

    def test_half_of_a_pair(self, tmp_path: Path, voxels: np.ndarray) -> None:
        nib.save(nib.Nifti1Pair(voxels, AXIAL), tmp_path / "scan.hdr")
        (tmp_path / "scan.img").unlink()
        with pytest.raises(UnreadableScan, match=r"scan\.img is not beside it"):
            read_scan(tmp_path / "scan.hdr")

    def test_analyze_does_not_say_which_side_is_left(self, tmp_path: Path, voxels: np.ndarray) -> None:
        nib.save(nib.analyze.AnalyzeImage(voxels, AXIAL), tmp_path / "scan.hdr")
        with pytest.raises(UnreadableScan, match="it is Analyze"):
            read_scan(tmp_path / "scan.hdr")

    def test_a_truncated_pair(self, tmp_path: Path, voxels: np.ndarray) -> None:
        nib.save(nib.Nifti1Pair(voxels, AXIAL), tmp_path / "scan.hdr")
        (tmp_path / "scan.img").write_bytes(b"1234")
        with pytest.raises(UnreadableScan, match="it is truncated"):
            read_scan(tmp_path / "scan.hdr")

    def test_repairs_of_the_header_print_nothing(
        self, make_nifti: MakeNifti, voxels: np.ndarray, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = make_nifti(voxels, AXIAL, "scan.nii")
        content = bytearray(path.read_bytes())
        content[76:80] = np.float32(5).tobytes()  # qfac must be 1 or -1
        path.write_bytes(content)
        read_scan(path)
        captured = capfd.readouterr()
        assert captured.err + captured.out == ""


class TestSeveral:
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    def test_one_volume_of_a_series(self, make_nifti: MakeNifti, voxels: np.ndarray, name: str) -> None:
        series = np.stack([voxels, voxels + 1, voxels + 2], axis=3)
        path = make_nifti(series, AXIAL, name)
        for number in (1, 2, 3):
            volume = read_scan(path, volume=number)
            np.testing.assert_array_equal(volume.values, series[..., number - 1].T)
            np.testing.assert_array_equal(volume.geometry.affine, AXIAL)
            assert volume.notes["volume"] == f"{number} of 3"
            # A mask of it is one volume.
            assert volume.header.shape == voxels.shape

    @pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
    @pytest.mark.parametrize("named", ["scan.hdr", "scan.img"])
    def test_a_pair_by_either_half(self, tmp_path: Path, voxels: np.ndarray, kind: type, named: str) -> None:
        nib.save(kind(voxels, AXIAL), tmp_path / "scan.hdr")
        volume = read_scan(tmp_path / named)
        np.testing.assert_array_equal(volume.values, voxels.T)
        np.testing.assert_array_equal(volume.geometry.affine, AXIAL)
        (source,) = find_sources([tmp_path])
        assert {file.name for file in source.files} == {"scan.hdr", "scan.img"}
