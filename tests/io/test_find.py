from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lexiseg.errors import UsageError
from lexiseg.io.names import find_scans


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


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
        assert self.found(tmp_path) == ["a.png"]

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"gone\.png: no such file or folder"):
            find_scans([tmp_path / "gone.png"])
        assert find_scans([tmp_path / "gone.png"], keep_missing=True) == [tmp_path / "gone.png"]

    def test_a_folder_without_scans(self, tmp_path: Path) -> None:
        touch(tmp_path, "readme.txt", "a_mask.png")
        with pytest.raises(UsageError, match="no scan in this folder"):
            find_scans([tmp_path])

    def test_no_input(self) -> None:
        with pytest.raises(UsageError, match="no scan was given"):
            find_scans([])
