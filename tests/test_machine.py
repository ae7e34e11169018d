"""How threads wait, how a program starts and how it ends."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lexiseg import machine

_THREADS = ("OMP_", "GOMP_", "KMP_", "PYTHONUNBUFFERED")


def in_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "PYTHONUN"))
    }
    paths = f"import sys; sys.path[:0] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-c", paths + code],
        capture_output=True, text=True, check=False, env={**kept, **environment}, timeout=120,
    )  # fmt: skip


def samples(monkeypatch: pytest.MonkeyPatch, *, all_programs: float, own: float, seconds: float = 1.0) -> None:
    """A machine on which programs took so many seconds of CPU in so much time."""
    found = iter([(0.0, 100.0, 5.0), (seconds, 100.0 + all_programs, 5.0 + own)])
    monkeypatch.setattr(machine, "_started", None)
    monkeypatch.setattr(machine, "_sample", lambda: next(found))
    monkeypatch.setattr(time, "sleep", lambda _: None)


class TestLoad:
    def test_is_what_others_took_in_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        samples(monkeypatch, all_programs=3.0, own=1.0, seconds=2.0)
        assert machine.other_load() == 1.0

    def test_own_work_is_no_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        samples(monkeypatch, all_programs=1.0, own=1.5)
        assert machine.other_load() == 0.0

    def test_is_0_where_the_system_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_started", None)
        monkeypatch.setattr(machine, "_sample", lambda: None)
        assert machine.other_load() == 0.0

    @pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system does not count the CPU of all programs")
    def test_the_kernel_counts_what_this_process_does(self) -> None:
        before = machine._sample()
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        after = machine._sample()
        assert before is not None and after is not None
        assert after[2] - before[2] >= 0.3
        # Of all programs this one is part; the kernel counts in hundredths of a second.
        assert after[1] - before[1] >= 0.3 - 0.05


class TestWaiting:
    @pytest.mark.parametrize(("others", "expected"), [(0.49, None), (0.5, "0"), (1.0, "0")])
    def test_is_asleep_where_half_a_core_is_taken(
        self, monkeypatch: pytest.MonkeyPatch, others: float, expected: str | None
    ) -> None:
        monkeypatch.setattr(os, "environ", {})
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.setattr(machine, "other_load", lambda: others)
        machine.choose_waiting()
        assert os.environ.get("GOMP_SPINCOUNT") == expected

    @pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
    def test_the_users_own_stays(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(os, "environ", {name: "7"})
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.setattr(machine, "other_load", lambda: 2.0)
        machine.choose_waiting()
        assert os.environ == {name: "7"}

    def test_nothing_is_set_once_torch_is_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "environ", {})
        monkeypatch.setitem(sys.modules, "torch", sys)
        monkeypatch.setattr(machine, "other_load", lambda: 2.0)
        machine.choose_waiting()
        assert os.environ == {}

    def test_is_chosen_before_torch_is_imported(self) -> None:
        code = (
            "import builtins, lexiseg.machine\n"
            "lexiseg.machine.other_load = lambda: 1.0\n"
            "import lexiseg.models, os\n"
            "print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
        )
        assert in_new_process(code).stdout.split() == ["False", "0"]


class TestStart:
    def test_nothing_is_collected_inside(self) -> None:
        with machine.starting():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        gc.unfreeze()

    def test_what_was_off_stays_off(self) -> None:
        gc.disable()
        try:
            with machine.starting():
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()
            gc.unfreeze()


class TestEnd:
    def test_what_was_registered_is_done_and_what_was_printed_is_written(self, tmp_path: Path) -> None:
        code = (
            "import atexit, lexiseg.machine\n"
            f"atexit.register(lambda: open({str(tmp_path / 'done')!r}, 'w').close())\n"
            "print('told', end='')\n"
            "lexiseg.machine.leave(3)"
        )
        ended = in_new_process(code)
        assert (ended.returncode, ended.stdout, ended.stderr) == (3, "told", "")
        assert (tmp_path / "done").exists()

    def test_threads_that_still_work_are_waited_for(self, tmp_path: Path) -> None:
        code = (
            "import threading, time, lexiseg.machine\n"
            f"def late():\n    time.sleep(0.2); open({str(tmp_path / 'done')!r}, 'w').close()\n"
            "threading.Thread(target=late).start()\n"
            "lexiseg.machine.leave(1)"
        )
        assert in_new_process(code).returncode == 1
        assert (tmp_path / "done").exists()

    def test_a_reader_that_has_gone_is_no_traceback(self) -> None:
        code = "import os, lexiseg.machine\nr, w = os.pipe(); os.close(r); os.dup2(w, 1)\nprint('x' * 9)\n"
        ended = in_new_process(code + "lexiseg.machine.leave(0)")
        assert "Traceback" not in ended.stderr
