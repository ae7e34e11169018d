from __future__ import annotations

from pathlib import Path
from typing import Any


def test_prints_a_table_and_writes_the_overview(cli: Any, tmp_path: Path) -> None:
    result = cli("demo", "--out", tmp_path / "demo", "--count", 1)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("phrase", "presence", "confidence", "Dice", "seconds"))
    assert result.stdout.count("brain tumor") == 2
    assert (tmp_path / "demo" / "demo.png").exists()


def test_a_folder_of_somebody_else_is_left_alone(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "manifest.csv").write_text("id,image\n")
    result = cli("demo", "--out", tmp_path, "--count", 1)
    assert result.exit_code == 2
    assert "it holds files that no demo wrote" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["scans", "manifest.csv"]


def test_a_second_demo_replaces_the_first(cli: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert cli("demo", "--out", tmp_path / "demo", "--count", 1).exit_code == 0


def test_a_file_is_refused(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert cli("demo", "--out", tmp_path / "file").exit_code == 2


def test_an_unknown_preset_is_one_line(cli: Any, tmp_path: Path) -> None:
    result = cli("demo", "--out", tmp_path / "demo", "--preset", "nonesuch")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
