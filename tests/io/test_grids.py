"""NRRD and MetaImage: written by SimpleITK or by hand, read to the last digit; headers that lie."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from orientations import turned

from lexiseg.errors import UnreadableScan
from lexiseg.io.deflated import inflated
from lexiseg.io.find import describe_inputs, find_sources
from lexiseg.io.read import read_scan
from lexiseg.values.scans import Volume

SHAPE = (4, 5, 6)
VALUES = np.random.default_rng(5).integers(-900, 900, SHAPE).astype(np.int16)
ENDINGS = ("nrrd", "nhdr", "mha", "mhd")
SHEARED = turned(20.0) @ np.array([[0.7, 0, 0.4], [0, 0.8, 0], [0, 0, 3.1]])


def image(values: np.ndarray = VALUES, *, vector: bool = False) -> Any:
    made = sitk.GetImageFromArray(values, isVector=vector)
    if made.GetDimension() == 3:
        made.SetSpacing((0.75, 0.5, 2.5))
        made.SetOrigin((-10.1, 20.2, 30.3))
        made.SetDirection(turned(30.0).ravel().tolist())
    return made


def read(path: Path, **options: Any) -> Volume:
    scan = read_scan(path, **options)
    assert isinstance(scan, Volume)
    return scan


def nrrd(path: Path, values: np.ndarray = VALUES, **fields: Any) -> Path:
    """A NRRD of three axes, as text; `None` takes a field away."""
    directions = " ".join("(" + ",".join(repr(float(number)) for number in column) + ")" for column in SHEARED.T)
    header = {
        "type": "short", "dimension": 3, "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape[::-1])), "space directions": directions,
        "kinds": "domain domain domain", "endian": "little", "encoding": "raw", "space origin": "(1.5,-2.25,1e1)",
    }  # fmt: skip
    header |= {name.replace("_", " "): value for name, value in fields.items()}
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in header.items() if value is not None), "", ""]
    path.write_bytes("\n".join(lines).encode() + (b"" if "data_file" in fields else values.tobytes()))
    return path


class TestValues:
    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("packed", [False, True])
    def test_are_those_of_the_file_where_itk_puts_them(self, tmp_path: Path, ending: str, packed: bool) -> None:
        made = image()
        sitk.WriteImage(made, str(tmp_path / f"a.{ending}"), useCompression=packed)
        volume = read(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(volume.values, VALUES)
        assert volume.values.dtype == np.int16
        assert volume.notes == {"format": "NRRD" if ending[0] == "n" else "MetaImage"}
        for index in [(0, 0, 0), (5, 4, 3)]:
            place = np.array(made.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
            np.testing.assert_allclose((volume.geometry.affine @ [*index, 1])[:3], place, atol=1e-9)

    def test_a_sheared_grid_is_the_headers_to_the_bit(self, tmp_path: Path) -> None:
        volume = read(nrrd(tmp_path / "a.nrrd"))
        np.testing.assert_array_equal(volume.values, VALUES)
        np.testing.assert_array_equal(volume.geometry.affine[:3, :3], np.diag([-1.0, -1, 1]) @ SHEARED + 0.0)
        np.testing.assert_array_equal(volume.geometry.affine[:3, 3], [-1.5, 2.25, 10])

    @pytest.mark.parametrize(
        ("space", "signs"),
        [("right-anterior-superior", (1, 1, 1)), ("LAS", (-1, 1, 1)), ("left-posterior-superior", (-1, -1, 1))],
    )
    def test_spaces(self, tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
        affine = read(nrrd(tmp_path / "a.nrrd", space=space)).geometry.affine
        np.testing.assert_array_equal(affine[:3, :3], np.diag(np.array(signs, float)) @ SHEARED + 0.0)

    def test_units(self, tmp_path: Path) -> None:
        plain = read(nrrd(tmp_path / "a.nrrd")).geometry.affine
        centimetres = read(nrrd(tmp_path / "b.nrrd", space_units='"cm" "cm" "cm"')).geometry.affine
        np.testing.assert_allclose(centimetres[:3], plain[:3] * 10)

    def test_a_header_that_names_no_space_is_said(self, tmp_path: Path) -> None:
        path = nrrd(tmp_path / "a.nrrd", space=None, space_directions=None, space_origin=None, spacings="1 2 3")
        volume = read(path)
        assert volume.spacing == (3, 2, 1)
        assert "orientation is not known" in volume.notes["affine"]

    def test_two_dimensions_are_one_slice(self, tmp_path: Path) -> None:
        for ending in ("nrrd", "mha"):
            made = sitk.GetImageFromArray(VALUES[0])
            sitk.WriteImage(made, str(tmp_path / f"a.{ending}"))
            np.testing.assert_array_equal(read(tmp_path / f"a.{ending}").values, VALUES[:1])

    @pytest.mark.parametrize("ending", ["nrrd", "mha"])
    def test_colour(self, tmp_path: Path, ending: str) -> None:
        colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
        sitk.WriteImage(image(colours, vector=True), str(tmp_path / f"a.{ending}"))
        volume = read(tmp_path / f"a.{ending}")
        assert volume.colour
        np.testing.assert_array_equal(volume.values, colours)

    @pytest.mark.parametrize("ending", ["nrrd", "mha"])
    def test_several_volumes_are_chosen_by_number(self, tmp_path: Path, ending: str) -> None:
        both = np.stack([VALUES, VALUES + 1], axis=-1)
        sitk.WriteImage(image(both, vector=True), str(tmp_path / f"a.{ending}"))
        with pytest.raises(UnreadableScan, match="it holds 2 volumes; choose one of them with --volume 1 to 2"):
            read_scan(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(read(tmp_path / f"a.{ending}", volume=2).values, VALUES + 1)
        assert describe_inputs([tmp_path / f"a.{ending}"])[0].status == "refused"

    @pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
    @pytest.mark.parametrize("big", [False, True])
    def test_numbers_of_metaimage_in_either_byte_order(self, tmp_path: Path, kind: str, big: bool) -> None:
        values = VALUES.astype(kind)
        sitk.WriteImage(image(values), str(tmp_path / "a.mha"))
        header, mark, _ = (tmp_path / "a.mha").read_bytes().partition(b"LOCAL\n")
        header = header.replace(b"ByteOrderMSB = False", f"ByteOrderMSB = {big}".encode())
        (tmp_path / "a.mha").write_bytes(header + mark + values.astype((">" if big else "<") + kind).tobytes())
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.mha")))
        np.testing.assert_array_equal(read(tmp_path / "a.mha").values, theirs)
        np.testing.assert_array_equal(theirs, values)

    @pytest.mark.parametrize("skipped", [-1, 11])
    def test_a_header_size_of_metaimage(self, tmp_path: Path, skipped: int) -> None:
        sitk.WriteImage(image(), str(tmp_path / "a.mhd"))
        raw = (tmp_path / "a.raw").read_bytes()
        (tmp_path / "a.raw").write_bytes(b"hello world" + raw)
        text = (tmp_path / "a.mhd").read_text()
        (tmp_path / "a.mhd").write_text(text.replace("DimSize", f"HeaderSize = {skipped}\nDimSize"))
        np.testing.assert_array_equal(read(tmp_path / "a.mhd").values, VALUES)

    def test_a_fourth_axis_of_metaimage(self, tmp_path: Path) -> None:
        sitk.WriteImage(image(np.stack([VALUES, VALUES + 1])), str(tmp_path / "a.mha"))
        np.testing.assert_array_equal(read(tmp_path / "a.mha", volume=2).values, VALUES + 1)

    def test_both_files_are_watched(self, tmp_path: Path) -> None:
        sitk.WriteImage(image(), str(tmp_path / "a.mhd"))
        (source,) = find_sources([tmp_path])
        assert [file.name for file in source.files] == ["a.mhd", "a.raw"]
        (found,) = describe_inputs([tmp_path])
        assert (found.kind, found.shape, found.files) == ("volume", SHAPE, 2)


class TestRefused:
    def reason(self, path: Path, **options: Any) -> str:
        with pytest.raises(UnreadableScan) as caught:
            read_scan(path, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"sizes": "6 5"}, "the number of axes"),
            ({"sizes": "6 5 0"}, "the number of axes"),
            ({"sizes": "6 5 four"}, "a word where a whole number belongs"),
            ({"sizes": "60000 60000 60000"}, "over the limit"),
            ({"sizes": "6 5 900"}, "it is truncated"),
            ({"type": "block"}, "its type is none that is supported"),
            ({"encoding": "zstd"}, "its encoding is none"),
            ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "zero, singular or not finite"),
            ({"space_directions": "(0,0,0) (0,1,0) (0,0,1)"}, "zero, singular or not finite"),
            ({"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"}, "zero, singular or not finite"),
            ({"space_origin": "(inf,0,0)"}, "zero, singular or not finite"),
            ({"space_directions": "(1,0,0) none none"}, "1 of them in space"),
        ],
    )
    def test_nrrd(self, tmp_path: Path, fields: dict[str, str], reason: str) -> None:
        assert reason in self.reason(nrrd(tmp_path / "a.nrrd", **fields))

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("../secret.raw", "leads out of its folder"),
            ("/etc/passwd", "leads out of its folder"),
            ("link.raw", "leads out of its folder"),
            ("gone.raw", "is not beside it"),
            ("LIST", "in several files"),
            ("a%03d.raw 1 4 1", "in several files"),
        ],
    )
    def test_data_elsewhere(self, tmp_path: Path, name: str, reason: str) -> None:
        (tmp_path / "secret.raw").write_bytes(VALUES.tobytes())
        folder = tmp_path / "scans"
        folder.mkdir()
        (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
        assert reason in self.reason(nrrd(folder / "a.nhdr", data_file=name))
        meta = (
            f"ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
            f"ElementDataFile = {name}\n"
        )
        (folder / "b.mhd").write_text(meta)
        assert reason in self.reason(folder / "b.mhd")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (("DimSize = 6 5 4", "DimSize = 6 5"), "the number of axes"),
            (("DimSize = 6 5 4", "DimSize = 60000 60000 60000"), "over the limit"),
            (("DimSize = 6 5 4", "DimSize = 6 5 400"), "it is truncated"),
            (("MET_SHORT", "MET_STRING"), "its element type"),
            (("ElementSpacing = 0.75 0.5 2.5", "ElementSpacing = 0.75 -0 2.5"), "zero, singular or not finite"),
            (("ElementSpacing = 0.75 0.5 2.5", "ElementSpacing = 0.75 nan 2.5"), "zero, singular or not finite"),
        ],
    )
    def test_metaimage(self, tmp_path: Path, change: tuple[str, str], reason: str) -> None:
        sitk.WriteImage(image(), str(tmp_path / "a.mha"))
        content = (tmp_path / "a.mha").read_bytes()
        assert change[0].encode() in content
        (tmp_path / "a.mha").write_bytes(content.replace(change[0].encode(), change[1].encode(), 1))
        assert reason in self.reason(tmp_path / "a.mha")

    def test_a_bomb_is_no_more_than_it_claims(self, tmp_path: Path) -> None:
        packed = gzip.compress(bytes(10**7))
        path = nrrd(tmp_path / "a.nrrd", encoding="gzip")
        header = path.read_bytes().partition(b"\n\n")[0]
        path.write_bytes(header + b"\n\n" + packed)
        assert "its compressed voxels are not as many as its header claims" in self.reason(path)

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda packed: packed[: len(packed) // 2], "its compressed voxels are cut off"),
            (lambda packed: packed[:-3], "its compressed voxels are cut off"),
            (lambda packed: packed[:60] + bytes(60) + packed[120:], "its compressed voxels are damaged"),
            (lambda packed: packed[:-4] + b"abcd", "its compressed voxels are damaged"),
            (lambda packed: bytes(len(packed)), "its compressed voxels are damaged"),
        ],
    )
    def test_damaged_voxels_are_never_given_out_and_nothing_is_printed(
        self, tmp_path: Path, ending: str, damage: Callable[[bytes], bytes], reason: str,
        capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """ITK takes some of these for sound, and gives what its memory held before."""
        sitk.WriteImage(image(), str(tmp_path / f"a.{ending}"), useCompression=True)
        files = sorted(tmp_path.iterdir())
        path = next(file for file in files if "raw" in file.name or len(files) == 1)
        begin = {"nrrd": b"\n\n", "mha": b"LOCAL\n"}.get(ending, b"")
        header, mark, packed = path.read_bytes().partition(begin) if begin else (b"", b"", path.read_bytes())
        path.write_bytes(header + mark + damage(packed))
        assert reason in self.reason(tmp_path / f"a.{ending}")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("ending", ["nrrd", "mha"])
    @pytest.mark.parametrize("depth", [3, 5])
    def test_a_header_of_other_sizes_than_its_compressed_voxels(self, tmp_path: Path, ending: str, depth: int) -> None:
        sitk.WriteImage(image(), str(tmp_path / f"a.{ending}"), useCompression=True)
        content = (tmp_path / f"a.{ending}").read_bytes()
        changed = content.replace(b"6 5 4\n", f"6 5 {depth}\n".encode(), 1)
        assert changed != content
        (tmp_path / f"a.{ending}").write_bytes(changed)
        assert "its compressed voxels are not as many as its header claims" in self.reason(tmp_path / f"a.{ending}")

    @pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
    def test_what_shrinks_to_nothing_is_whole(self, tmp_path: Path, size: int) -> None:
        (tmp_path / "a").write_bytes(b"xy" + zlib.compress(bytes(size)))
        assert inflated(tmp_path / "a", 2, size) == bytes(size)

    def test_a_header_that_metaio_does_not_read(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        sitk.WriteImage(image(), str(tmp_path / "a.mha"))
        content = (tmp_path / "a.mha").read_bytes()
        (tmp_path / "a.mha").write_bytes(content.replace(b"DimSize", b"no sign of equality\nDimSize"))
        np.testing.assert_array_equal(read(tmp_path / "a.mha").values, VALUES)
        assert capfd.readouterr() == ("", "")

    def test_nothing_of_the_header_is_printed(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = nrrd(tmp_path / "a.nrrd", content="Doe Jane", space_directions="(1,0,0) (0,1,0) (0,0,1)")
        path.write_bytes(path.read_bytes()[:-20])
        assert "it is truncated" in self.reason(path)
        assert capfd.readouterr() == ("", "")
