from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from suite_data import make_data, suite_fields, write_suite


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """A suite, its data, and where results go."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    return write_suite(tmp_path / "tiny.yaml"), make_data(tmp_path / "data"), tmp_path / "out"


def arguments(tiny: tuple[Path, Path, Path]) -> list[object]:
    suite, data, out = tiny
    return ["benchmark", suite, "--data", data, "--out", out]


class TestBenchmark:
    def test_prints_the_leaderboard(self, cli: Any, tiny: Any) -> None:
        result = cli(*arguments(tiny), "--limit", 2, "--date", "2026-01-02")
        assert result.exit_code == 0, result.stderr
        assert "tiny, prompts: generic" in result.stdout
        assert "tiny, sensitivity to the text" in result.stdout
        assert "5 cells, 5 of them run now, 0 scans failed" in result.stderr
        text = (tiny[2] / "leaderboard.md").read_text()
        assert "lexiseg benchmark tiny.yaml --data DIR --out DIR --limit 2\n" in text
        assert "Date: 2026-01-02" in text

    def test_a_second_call_runs_nothing(self, cli: Any, tiny: Any) -> None:
        cli(*arguments(tiny))
        result = cli(*arguments(tiny), "--resume")
        assert "0 of them run now" in result.stderr
        assert "0 of them run now" not in cli(*arguments(tiny), "--no-resume").stderr

    def test_quiet(self, cli: Any, tiny: Any) -> None:
        result = cli(*arguments(tiny), "--quiet", "--only", "cheng/demo")
        assert result.stdout + result.stderr == ""

    def test_a_failed_scan_is_exit_1(self, cli: Any, tiny: Any) -> None:
        (tiny[1] / "cheng" / "images" / "cheng_0000.png").write_bytes(b"no picture")
        assert cli(*arguments(tiny)).exit_code == 1

    def test_the_command_repeats_what_decides_the_numbers(self, cli: Any, tiny: Any) -> None:
        cli(*arguments(tiny), "--only", "cheng/demo", "--precision", "float32", "--batch", 2, "--device", "cpu")
        text = (tiny[2] / "leaderboard.md").read_text()
        assert "--only cheng/demo --device cpu --precision float32 --batch 2\n" in text


class TestFoldersOfOthers:
    @pytest.mark.parametrize("name", ["leaderboard.csv", "leaderboard.md", "leaderboard.json", "sensitivity.csv"])
    def test_what_no_benchmark_wrote_is_kept(self, cli: Any, tiny: Any, name: str) -> None:
        tiny[2].mkdir()
        (tiny[2] / name).write_text("mine\n")
        result = cli(*arguments(tiny))
        assert result.exit_code == 2
        assert f"{name} is there and lexiseg did not write it" in result.stderr
        assert [each.name for each in tiny[2].iterdir()] == [name]

    def test_a_file(self, cli: Any, tiny: Any) -> None:
        tiny[2].write_text("")
        result = cli(*arguments(tiny))
        assert (result.exit_code, "it is a file; expected a folder" in result.stderr) == (2, True)


class TestBadUsage:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"presets": {"nonesuch": {}}}, "nonesuch"),
            ({"sets": {"busi": {"manifest": "../m.csv", "prompts": {"generic": "x"}}}}, "data folder"),
            ({"sets": {"busi": {"manifest": "gone/m.csv", "prompts": {"generic": "x"}}}}, "no such file"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_of_the_suite(self, cli: Any, tiny: Any, change: dict[str, Any], told: str) -> None:
        fields = {**suite_fields(), **change}
        fields.pop("sensitivity")
        write_suite(tiny[0], fields)
        result = cli(*arguments(tiny))
        assert result.exit_code == 2
        assert told in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not tiny[2].exists()

    @pytest.mark.parametrize("extra", [["--only", "lgg/demo"], ["--limit", "0"], ["--device", "abacus"]])
    def test_of_an_option(self, cli: Any, tiny: Any, extra: list[str]) -> None:
        assert cli(*arguments(tiny), *extra).exit_code == 2

    def test_no_such_data(self, cli: Any, tiny: Any, tmp_path: Path) -> None:
        result = cli("benchmark", tiny[0], "--data", tmp_path / "no", "--out", tiny[2])
        assert (result.exit_code, "no such folder" in result.stderr) == (2, True)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom lexiseg.cli.main import app\n"
        "app(['benchmark', '--help'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'scipy', 'yaml') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"
