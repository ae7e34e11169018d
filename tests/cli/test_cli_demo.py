from __future__ import annotations

from pathlib import Path
from typing import Any


def test_prints_a_table_and_writes_the_overview(cli: Any, tmp_path: Path) -> None:
    result = cli("demo", "--out", tmp_path / "demo", "--count", 1)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("phrase", "presence", "confidence", "Dice", "seconds"))
    assert result.stdout.count("brain tumor") == 2
    assert (tmp_path / "demo" / "demo.png").exists()


def test_an_unknown_preset_is_one_line(cli: Any, tmp_path: Path) -> None:
    result = cli("demo", "--out", tmp_path / "demo", "--preset", "nonesuch")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
