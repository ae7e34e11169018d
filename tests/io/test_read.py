"""What goes wrong before and between the readers, and files damaged at random."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.read import Reader, quiet, read_scan, readers
from lexiseg.values.scans import Scan

GREY = np.random.default_rng(3).integers(0, 256, (40, 50)).astype(np.uint8)


LIMITS = {"max_pixels": 10**6, "max_voxels": 10**6}


def reason(path: Path, **options: int) -> str:
    """Why a file is refused: one line that begins with its name."""
    with pytest.raises(UnreadableScan) as caught:
        read_scan(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < len(str(path)) + 200
    return text.removeprefix(f"{path}: ")


def shown(scan: Scan) -> np.ndarray:
    """(N, h, w) or (1, h, w, 3): all planes of a scan."""
    return np.stack([plane.pixels for plane in scan.planes()])


class TestNoFile:
    def test_missing(self, tmp_path: Path) -> None:
        assert reason(tmp_path / "gone.png") == "no such file"

    def test_broken_link(self, tmp_path: Path) -> None:
        (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
        assert reason(tmp_path / "link.png") == "it is a link that leads nowhere"

    def test_loop_of_links(self, tmp_path: Path) -> None:
        (tmp_path / "link.png").symlink_to(tmp_path / "link.png")
        assert reason(tmp_path / "link.png").startswith("it cannot be opened")

    @pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.nii.gz"])
    def test_empty(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        assert reason(tmp_path / name) == "the file is empty (0 bytes)"

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no scan in this folder"):
            read_scan(tmp_path)

    @pytest.mark.timeout(10)
    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        assert reason(tmp_path / "pipe.png").startswith("it is a pipe")

    def test_device(self) -> None:
        assert reason(Path("/dev/zero")).startswith("it is a pipe, socket or device")

    def test_forbidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.png").write_bytes(b"x")

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        assert reason(tmp_path / "a.png") == "no permission to read it"

    def test_a_line_break_in_the_name(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableScan) as caught:
            read_scan(tmp_path / "a\nb.png")
        assert "a?b.png: no such file" in str(caught.value)

    def test_a_null_byte_in_the_name(self) -> None:
        with pytest.raises(UnreadableScan):
            read_scan("a\0.png")


class TestWrongNames:
    @pytest.mark.parametrize("name", ["a.dcm", "a.nii.gz", "a.jpg", "a.txt", "a"])
    def test_an_image_is_read_all_the_same(self, tmp_path: Path, name: str) -> None:
        Image.fromarray(GREY).save(tmp_path / name, format="PNG")
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), GREY)
        assert scan.notes["format"] == "PNG"

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.dcm", "a.nii", "a.nii.gz", "a.tif"])
    @pytest.mark.parametrize("content", [b"id,image\n1,a.png\n", b"<html>", bytes(5000), b"x"])
    def test_something_else_is_refused(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        assert "content is not PNG, JPEG, TIFF, BMP, WebP, DICOM, NIfTI, NRRD or MetaImage" in reason(tmp_path / name)

    def test_another_image_format(self, tmp_path: Path) -> None:
        Image.fromarray(GREY).save(tmp_path / "a.png", format="GIF")
        assert reason(tmp_path / "a.png").startswith("its name ends in .png but its content is not")


class TestArguments:
    def test_id(self, tmp_path: Path) -> None:
        Image.fromarray(GREY).save(tmp_path / "a.png")
        assert read_scan(str(tmp_path / "a.png"), id="case 7").id == "case 7"

    def test_readers_are_readers(self) -> None:
        assert all(isinstance(reader, Reader) for reader in readers())


@pytest.fixture(params=["png", "jpg", "tif", "lzw.tif", "bmp", "webp", "dcm", "nii", "nii.gz"])
def sound_file(request: pytest.FixtureRequest, tmp_path: Path, make_dicom: Callable[..., Path]) -> Path:
    kind = request.param
    path = tmp_path / f"sound.{kind}"
    if kind == "dcm":
        make_dicom(GREY, path.name, WindowCenter=128, WindowWidth=256, PixelSpacing=[1, 2])
    elif kind.startswith("nii"):
        nib.save(nib.Nifti1Image(GREY.reshape(10, 10, 20), np.diag([1.0, 2, 3, 1])), path)
    elif kind == "lzw.tif":
        Image.fromarray(GREY).save(path, compression="tiff_lzw")
    else:
        Image.fromarray(GREY).save(path)
    assert shown(read_scan(path)).size > 0
    return path


@pytest.mark.timeout(60)
class TestDamage:
    """Nothing but UnreadableScan ever comes out, and never more memory than the limit allows."""

    @pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9])
    def test_truncated(self, sound_file: Path, share: float) -> None:
        content = sound_file.read_bytes()
        sound_file.write_bytes(content[: max(1, int(len(content) * share))])
        reason(sound_file, **LIMITS)

    def test_mutated(self, sound_file: Path) -> None:
        content = sound_file.read_bytes()
        dice = random.Random(11)
        for _ in range(80):
            damaged = bytearray(content)
            # Mostly in the header, where the damage is most inventive.
            reach = dice.choice((64, 400, len(content)))
            for _ in range(dice.randint(1, 6)):
                damaged[dice.randrange(min(reach, len(content)))] = dice.randrange(256)
            sound_file.write_bytes(damaged)
            try:
                pixels = shown(read_scan(sound_file, **LIMITS))
            except UnreadableScan as error:
                assert str(error).isprintable()
            else:
                assert pixels.size <= 3 * 10**6
                assert 0 <= pixels.min() <= pixels.max() <= 1


class TestQuiet:
    def test_one_thread_is_silent_and_others_are_heard(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("tifffile")
        with quiet("tifffile"):
            logger.error("of this thread")
            other = threading.Thread(target=logger.error, args=("of another",))
            other.start()
            other.join()
        logger.error("afterwards")
        assert caplog.messages == ["of another", "afterwards"]
