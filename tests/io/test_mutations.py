from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mutations import FAULTS, OUTCOMES, Worker, campaign, mutated, outcome, valid_files

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mutations.py"


class TestFiles:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "DICOM", "NIfTI"])
    def test_unchanged_files_are_read(self, kind: str, tmp_path: Path) -> None:
        for content in valid_files()[kind]:
            (tmp_path / "scan.bin").write_bytes(content)
            assert outcome(tmp_path / "scan.bin") == ("read", "")

    def test_a_seed_makes_the_same_file(self) -> None:
        content = valid_files()["PNG"][0]
        one, same, other = (mutated(content, "PNG", np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one == same != other


class TestOutcomes:
    def test_a_hang_and_a_crash_are_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = Worker()
        try:
            assert worker.read(b"no scan")[0] == "refused"
            # A stopped process cannot answer, however fast the machine is.
            os.kill(worker._process.pid, signal.SIGSTOP)
            monkeypatch.setattr("mutations.SECONDS", 0.1)
            assert worker.read(b"no scan")[0] == "hang"
            monkeypatch.setattr("mutations.SECONDS", 10.0)
            assert worker.read(b"no scan")[0] == "refused"
            worker._process.kill()
            worker._process.join()
            assert worker.read(b"no scan")[0] == "refused"
        finally:
            worker.close()

    def test_anything_but_one_line_is_a_traceback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object, **options: object) -> None:
            raise KeyError("x")

        monkeypatch.setattr("lexiseg.io.read.read_scan", broken)
        assert outcome(tmp_path)[0] == "traceback"


def test_a_few_of_each_format() -> None:
    for _, counts in campaign(20, 7, list(valid_files())):
        assert sum(counts.values()) == 20
        assert not any(counts[name] for name in FAULTS)


@pytest.mark.fullsize
def test_five_hundred_of_each_format() -> None:
    """The command that CI runs: no traceback, crash, hang or memory beyond the bound."""
    command = [sys.executable, str(SCRIPT), "--count", "500", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[1:-1] == list(OUTCOMES)
    assert [int(row.split()[1]) + int(row.split()[2]) for row in rows] == [500] * 5
