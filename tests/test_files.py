from __future__ import annotations

import errno
import resource
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write


def _fail(file: BinaryIO) -> None:
    file.write(b"half of")
    raise OSError(errno.ENOSPC, "No space left on device")


class TestAtomicWrite:
    def test_writes_and_makes_folders(self, tmp_path: Path) -> None:
        path = atomic_write(tmp_path / "a" / "b" / "x.bin", lambda file: file.write(b"new"))
        assert path.read_bytes() == b"new"
        assert [p.name for p in path.parent.iterdir()] == ["x.bin"]

    def test_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        path.write_bytes(b"old, and longer")
        atomic_write(path, lambda file: file.write(b"new"))
        assert path.read_bytes() == b"new"

    def test_is_readable_as_any_new_file(self, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.write_bytes(b"")
        path = atomic_write(tmp_path / "x", lambda file: file.write(b"x"))
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)

    def test_failure_keeps_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        path.write_bytes(b"old")
        with pytest.raises(UnwritableResult, match=r"x\.bin: could not be written \(No space left"):
            atomic_write(path, _fail)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_writer_that_fails_otherwise_leaves_nothing(self, tmp_path: Path) -> None:
        def interrupt(file: BinaryIO) -> None:
            file.write(b"half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            atomic_write(tmp_path / "x", interrupt)
        assert list(tmp_path.iterdir()) == []

    def test_the_system_runs_out_of_room(self, tmp_path: Path) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(UnwritableResult, match="File too large"):
                atomic_write(tmp_path / "x", lambda file: file.write(bytes(100_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        with pytest.raises(UnwritableResult):
            atomic_write(tmp_path / "x", lambda file: file.write(b"new"))
        assert [p.name for p in tmp_path.iterdir()] == ["x"]

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(UnwritableResult):
            atomic_write(tmp_path / "file" / "x", lambda file: file.write(b"new"))

    def test_the_longest_name_a_file_system_allows(self, tmp_path: Path) -> None:
        assert atomic_write(tmp_path / ("n" * 255), lambda file: file.write(b"new")).exists()
