"""The private folders of zips: they go with their holder, and after a kill with the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from lexiseg.io.find import describe_inputs
from lexiseg.io.zips import PrivateFolder, extract_zip, remove_abandoned


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test, of programs that it starts too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def packed(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "x")
    return path


def test_a_folder_goes_with_its_holder(base: Path, tmp_path: Path) -> None:
    folder = extract_zip(packed(tmp_path / "s.zip"))
    assert (folder.path / "a" / "b.txt").read_text() == "x"
    if os.name == "posix":
        assert folder.path.stat().st_mode & 0o777 == 0o700
    del folder
    assert list(base.iterdir()) == []
    with PrivateFolder() as path:
        assert path.is_dir()
    assert list(base.iterdir()) == []


def test_one_that_is_held_stays(base: Path) -> None:
    with PrivateFolder() as one, PrivateFolder() as two:
        remove_abandoned()
        assert one.is_dir() and two.is_dir()


@pytest.mark.skipif(os.name != "posix", reason="kills a process as POSIX does")
def test_what_a_killed_process_left_goes_at_the_next_start(base: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from lexiseg.io.zips import extract_zip;"
        "folder = extract_zip(Path(sys.argv[1])); print(folder.path, flush=True); time.sleep(60)"
    )
    archive = packed(tmp_path / "s.zip")
    running = subprocess.Popen([sys.executable, "-c", program, str(archive)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    left = Path(running.stdout.readline().strip())
    try:
        # It lives, and so does its folder.
        describe_inputs([tmp_path])
        assert (left / "a" / "b.txt").exists()
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stdout.close()
    assert (left / "a" / "b.txt").exists()
    describe_inputs([tmp_path])
    assert list(base.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="makes links as POSIX does")
def test_nothing_else_is_touched(base: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "kept").mkdir()
    (base / "lexiseg-zip-1.lock").symlink_to(precious)
    (base / "lexiseg-zip-1").mkdir()
    (base / "lexiseg-zip-2.lock").touch()
    (base / "lexiseg-zip-2").symlink_to(tmp_path / "kept")
    (base / "lexiseg-zip-3.lock").touch()
    remove_abandoned()
    assert precious.read_text() == "mine" and (tmp_path / "kept").is_dir()
    assert len(list(base.iterdir())) == 5
