from __future__ import annotations

import errno
import resource
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write, remove_torn, sha256_of


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


class TestRemoveTorn:
    def test_what_kills_left_goes_and_nothing_else(self, tmp_path: Path) -> None:
        def killed(file: BinaryIO) -> None:
            left.append(next(tmp_path.glob(".*.tmp")).name)

        left: list[str] = []
        atomic_write(tmp_path / "x", killed)
        (tmp_path / left[0]).write_bytes(b"half")
        (tmp_path / ".export-ab12_xyz").mkdir()
        (tmp_path / ".export-ab12_xyz" / "model.safetensors").write_bytes(b"half")
        others = ("x.tmp", ".mine.tmp", ".0123456789abcdef.tmp.txt", ".export-notes-of-mine", "sub")
        for name in others[:-1]:
            (tmp_path / name).touch()
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / ".0123456789abcdef.tmp").touch()
        assert remove_torn(tmp_path, tmp_path / "gone") == 2
        assert {path.name for path in tmp_path.iterdir()} == {"x", *others}
        assert remove_torn(tmp_path / "sub") == 1

    def test_a_link_loses_the_link_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").touch()
        (tmp_path / ".export-abcdefgh").symlink_to(tmp_path / "mine")
        assert remove_torn(tmp_path) == 1
        assert (tmp_path / "mine" / "file").exists()

    def test_what_cannot_be_removed_is_passed_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / f".{'a' * 16}.tmp").touch()

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "in use")

        monkeypatch.setattr(Path, "unlink", refuse)
        assert remove_torn(tmp_path) == 0


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
