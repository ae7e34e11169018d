"""How the command ends: signals, at once and while it works, and a table that a full disk cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lexiseg.runs.table import read_results

HELPERS = Path(__file__).parents[1] / "helpers"
SLOW = (
    "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
    "import lexiseg.pipelines.loading\n"
    "from fake_pipeline import FakePipeline\n"
    "from lexiseg.cli.main import run\n"
    "lexiseg.pipelines.loading.load = lambda preset, **_: FakePipeline(preset, pause=0.5)\n"
    "run()\n"
)
# The handlers are set by the first thing that the command does; from there on no moment may print a traceback.
AT_ONCE = (
    "import os, signal, sys\n"
    "from lexiseg.cli import ends\n"
    "set_handlers = ends.watch_signals\n"
    "def watch():\n"
    "    set_handlers()\n"
    "    sys.stderr.write('ready\\n'); sys.stderr.flush()\n"
    "ends.watch_signals = watch\n"
    "from lexiseg.cli.main import run\n"
    "run()\n"
)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ.copy(), text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("pause", [0, 0.05, 0.2])
def test_a_signal_while_it_starts_is_one_line(
    scans: Path, tmp_path: Path, number: signal.Signals, status: int, pause: float
) -> None:
    process = start(AT_ONCE, "segment", scans, "--text", "lungs", "--out", tmp_path / "out")
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    time.sleep(pause)
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == status, told
    assert len(told.splitlines()) == 1 and told.startswith("stopped")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_works_leaves_what_can_be_resumed(
    cli: Any, scans: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "out"
    process = start(SLOW, HELPERS, "segment", scans, "--text", "lungs", "--out", out)
    deadline = time.monotonic() + 120
    while not (out / "a_mask.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == status, told
    assert len(told.splitlines()) == 1 and "--resume continues" in told
    done = [row.id for row in read_results(out / "results.csv")]
    assert done in ([], ["a"])
    assert not list(out.glob(".*"))
    assert cli.segment(out, scans, "--resume", text=("lungs",)).exit_code == 0
    assert [row.id for row in read_results(out / "results.csv")] == ["a", "b", "c"]


def test_nothing_that_takes_time_is_imported_before_signals_are_watched() -> None:
    code = "import sys, lexiseg.cli.main; print([m for m in ('typing', 're', 'typer', 'numpy') if m in sys.modules])"
    # -S and -I: what site and the environment import is not ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


class TestSummary:
    def test_a_fifo_and_a_broken_link_cost_a_row_each(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        os.mkfifo(scans / "pipe.png")
        (scans / "link.png").symlink_to(tmp_path / "gone.png")
        result = cli.segment(tmp_path / "out", scans)
        assert result.exit_code == 1
        rows = {row.id: row for row in read_results(tmp_path / "out" / "results.csv")}
        assert {name: row.status for name, row in rows.items()} == {
            "a": "ok", "b": "ok", "c": "ok", "link": "failed", "pipe": "failed"
        }  # fmt: skip
        assert rows["link"].error.endswith("link.png: it is a link that leads nowhere")
        assert "it is a pipe" in rows["pipe"].error

    def test_overlaps_are_said_once(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, text=("lungs", "left lung"))
        assert result.stderr.count("phrases overlap") == 1
        assert "3 done, 0 absent, 0 failed" in result.stderr

    def test_a_second_run_says_what_it_removes(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        cli.segment(tmp_path / "out", scans, "--overlay")
        result = cli.segment(tmp_path / "out", scans / "a.png", "--threshold", "0.9")
        assert "files of an earlier run are removed: 6, of 3 scans" in result.stderr
        assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a_mask.png"}

    def test_a_list_of_targets_is_refused(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, text=("heart and lungs",))
        assert result.exit_code == 2
        assert '--text "heart" --text "lungs"' in result.stderr
