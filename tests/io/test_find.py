from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.find import describe_inputs, find_sources
from lexiseg.io.read import read_scan


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def find_scans(inputs: Sequence[Path], *, keep_missing: bool = False) -> list[Path]:
    return [source.path for source in find_sources(inputs, keep_missing=keep_missing)]


class TestFindScans:
    def found(self, folder: Path) -> list[str]:
        return [path.relative_to(folder).as_posix() for path in find_scans([folder])]

    def test_folders_at_any_depth_in_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.PNG", "a/z.nii.gz", "a/b/c.dcm", "a/b.jpg", "notes.txt", "x.gz", "results.csv")
        assert self.found(tmp_path) == ["a/b/c.dcm", "a/b.jpg", "a/z.nii.gz", "b.PNG"]

    def test_hidden_files_and_own_outputs_are_passed_over(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", ".b.png", ".git/c.png", "._a.png")
        touch(tmp_path, *(f"a_{kind}.png" for kind in ("mask", "labels", "overlay", "saliency", "region")))
        touch(tmp_path, "v_mask.nii.gz", "a_mask.jpg")
        assert self.found(tmp_path) == ["a.png", "a_mask.jpg"]

    def test_dicom_without_a_suffix(self, tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
        make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 4), "IM0001")
        make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 4), "1.2.840.4711")
        touch(tmp_path, "README", "LICENSE.1")
        assert self.found(tmp_path) == ["1.2.840.4711", "IM0001"]

    @pytest.mark.parametrize("name", ["IM0001", "1.2.840.4711", "x.dcm", "IM0002.XYZ"])
    @pytest.mark.parametrize("preamble", [True, False])
    def test_dicom_by_content(self, tmp_path: Path, make_dicom: Callable[..., Path], name: str, preamble: bool) -> None:
        path = make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 4), name)
        if not preamble:
            bare = pydicom.dcmread(path)
            bare.preamble = None
            del bare.file_meta
            bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
            assert path.read_bytes()[128:132] != b"DICM"
        touch(tmp_path, "README", "notes.txt")
        if name == "IM0002.XYZ" and not preamble:  # nothing in its name or its beginning says what it is
            touch(tmp_path, "a.png")
            assert self.found(tmp_path) == ["a.png"]
            return
        assert self.found(tmp_path) == [name]
        assert read_scan(tmp_path / name).shape == (3, 4)

    def test_a_disc_is_read_and_what_is_no_image_is_counted_by_kind(
        self, tmp_path: Path, make_dicom: Callable[..., Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        def of(name: str, sop_class: str, *, meta: bool = True) -> None:
            path = make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 4), name)
            dataset = pydicom.dcmread(path)
            dataset.SOPClassUID = sop_class
            if meta:
                dataset.file_meta.MediaStorageSOPClassUID = sop_class
                dataset.save_as(path, enforce_file_format=True)
            else:
                dataset.preamble = None
                del dataset.file_meta
                dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)

        of("IM0001", "1.2.840.10008.5.1.4.1.1.2")
        of("RT0001", "1.2.840.10008.5.1.4.1.1.481.1")
        of("DICOMDIR", "1.2.840.10008.1.3.10")
        of("PR0001", "1.2.840.10008.5.1.4.1.1.11.1")
        of("PR0002.dcm", "1.2.840.10008.5.1.4.1.1.11.2", meta=False)
        of("SR0001", "1.2.840.10008.5.1.4.1.1.88.33")
        of("SEG1.dcm", "1.2.840.10008.5.1.4.1.1.66.4")
        of("RS0001", "1.2.840.10008.5.1.4.1.1.481.3")
        of("PDF", "1.2.840.10008.5.1.4.1.1.104.1")
        of("ECG", "1.2.840.10008.5.1.4.1.1.9.1.1")
        assert self.found(tmp_path) == ["IM0001", "RT0001"]
        assert [record.message for record in caplog.records] == [
            "passed over: 1 DICOMDIR, 1 encapsulated document, 2 presentation states, "
            "1 radiotherapy structure set, 1 segmentation, registration or raw data object, 1 structured report, "
            "1 waveform"
        ]
        assert find_scans([tmp_path / "PR0001"]) == [tmp_path / "PR0001"]

    def test_a_disc_without_an_image_says_what_it_holds(self, tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
        make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 4), "DICOMDIR")
        with pytest.raises(UsageError, match=r"no scan in this folder.*; passed over: 1 DICOMDIR"):
            find_scans([tmp_path])

    @pytest.mark.parametrize("content", [b"", b"\x08\x00", b"\x08\x00\x05\x00junk" * 99, bytes(range(256)) * 20])
    def test_what_begins_as_dicom_and_is_none_is_passed_over(self, tmp_path: Path, content: bytes) -> None:
        touch(tmp_path, "a.png")
        (tmp_path / "IM0001").write_bytes(content)
        assert self.found(tmp_path) == ["a.png"]

    def test_named_files_are_kept_whatever_they_are(self, tmp_path: Path) -> None:
        touch(tmp_path, "x.txt", "a_mask.png")
        assert find_scans([tmp_path / "x.txt", tmp_path / "a_mask.png"]) == [
            tmp_path / "x.txt",
            tmp_path / "a_mask.png",
        ]

    def test_nothing_twice(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", "b.png")
        assert find_scans([tmp_path / "b.png", tmp_path, tmp_path / "sub" / ".." / "a.png"], keep_missing=True) == [
            tmp_path / "b.png",
            tmp_path / "a.png",
        ]

    def test_a_loop_of_links_ends(self, tmp_path: Path) -> None:
        touch(tmp_path, "sub/a.png")
        (tmp_path / "sub" / "loop").symlink_to(tmp_path)
        assert self.found(tmp_path) == ["sub/a.png"]

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png")
        os.mkfifo(tmp_path / "pipe.png")
        assert self.found(tmp_path) == ["a.png", "pipe.png"]
        with pytest.raises(UnreadableScan, match=r"pipe\.png: it is a pipe"):
            read_scan(tmp_path / "pipe.png")

    @pytest.mark.parametrize("name", ["x.png", "x.nii.gz", "IM0001", "1.2.840.1"])
    def test_links_that_lead_nowhere_or_round_are_kept_and_fail_with_their_reason(
        self, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        (tmp_path / "a" / name).symlink_to(tmp_path / "gone")
        (tmp_path / "b" / name).symlink_to(tmp_path / "b" / name)
        (tmp_path / "notes.txt").symlink_to(tmp_path / "gone")
        assert self.found(tmp_path) == [f"a/{name}", f"b/{name}"]
        with pytest.raises(UnreadableScan, match="it is a link that leads nowhere"):
            read_scan(tmp_path / "a" / name)
        with pytest.raises(UnreadableScan, match="symbolic links"):
            read_scan(tmp_path / "b" / name)

    def test_links_to_folders_are_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        touch(tmp_path, "a.png", "sub/b.png")
        (tmp_path / "sub" / "loop").symlink_to(tmp_path)
        (tmp_path / "other").symlink_to(tmp_path / "sub")
        assert self.found(tmp_path) == ["a.png", "sub/b.png"]
        assert [record.message for record in caplog.records] == ["passed over: 2 links to folders"]

    def test_pictures_of_kinds_that_are_not_read_are_counted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(tmp_path, "a.png", "b.gif", "c.GIF", "d.npy", "notes.txt")
        assert self.found(tmp_path) == ["a.png"]
        assert [record.message for record in caplog.records] == ["passed over: 2 .gif files, 1 .npy file"]

    def test_a_mask_by_its_name_is_counted_where_no_run_is(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(tmp_path, "a.png", "a_mask.png", "run/results.csv", "run/a_mask.png")
        assert self.found(tmp_path) == ["a.png"]
        assert [record.message for record in caplog.records] == ["passed over: 1 file with a mask's name"]

    def test_a_picture_without_an_ending_is_a_scan(self, tmp_path: Path) -> None:
        Pillow.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "export", format="PNG")
        Pillow.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "thumb.cache", format="PNG")
        touch(tmp_path, "README")
        assert self.found(tmp_path) == ["export"]

    def test_what_a_review_keeps_is_passed_over_beside_its_run(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", "out/results.csv", "out/reviewed/images/a.png", "mine/reviewed/b.png")
        assert self.found(tmp_path) == ["a.png", "mine/reviewed/b.png"]
        # Who names it means it.
        assert self.found(tmp_path / "out" / "reviewed") == ["images/a.png"]

    def test_a_phrases_own_mask_is_passed_over_beside_the_mask_of_all(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", "a_mask.png", "a_mask_left-lung.png", "v_mask.nii.gz", "v_mask_heart.nii.gz")
        touch(tmp_path, "b_mask_one.png", "c_mask_one_two.png")
        assert self.found(tmp_path) == ["a.png", "b_mask_one.png", "c_mask_one_two.png"]

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"gone\.png: no such file or folder"):
            find_scans([tmp_path / "gone.png"])
        assert find_scans([tmp_path / "gone.png"], keep_missing=True) == [tmp_path / "gone.png"]

    def test_a_folder_without_scans(self, tmp_path: Path) -> None:
        touch(tmp_path, "readme.txt", "a_mask.png")
        with pytest.raises(UsageError, match="no scan in this folder"):
            find_scans([tmp_path])
        # `info` refuses nothing, and says it all the same.
        (told,) = describe_inputs([tmp_path])
        assert (told.kind, told.status) == ("not-an-image", "refused")
        assert told.error.startswith(f"{tmp_path}: no scan in this folder; expected .png")

    def test_no_input(self) -> None:
        with pytest.raises(UsageError, match="no scan was given"):
            find_scans([])
