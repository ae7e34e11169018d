"""`lexiseg dataset` at the terminal: lines and exit statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trees import mask_file, picture
from typer.testing import CliRunner

from lexiseg.cli.main import app
from lexiseg.datasets.manifest import read_manifest


def dataset(*arguments: object) -> Any:
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    assert "Traceback" not in result.stderr + result.stdout
    return result


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(30):
        picture(tmp_path / "images" / f"{number}.png")
    mask_file(tmp_path / "masks" / "0.png")
    return tmp_path


class TestImport:
    def test_missing_masks_are_listed_and_no_failure(self, pairs: Path) -> None:
        result = dataset("import", "plain", pairs, "--out", pairs / "m.csv", "--split", "80/20")
        assert result.exit_code == 0, result.stderr
        lines = result.stderr.splitlines()
        assert lines[0].startswith("the data set names no patients")
        assert lines[1] == "1: no mask"
        assert lines[-2] == "... and 9 more scans without a mask"
        assert lines[-1].startswith("30 scans, 29 without a mask, ")
        assert "24 train" in lines[-1] and "6 test" in lines[-1]
        assert len(read_manifest(pairs / "m.csv")) == 30

    def test_what_is_left_out_is_exit_status_1(self, pairs: Path) -> None:
        (pairs / "images" / "out.png").symlink_to(Path(__file__))
        result = dataset("import", "plain", pairs, "--out", pairs / "m.csv", "--quiet")
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            "out: left out: images/out.png: a link out of the data set; copy the file in"
        ]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("busi",), "looked for folders benign, malignant and normal"),
            (("nonesuch",), "no layout 'nonesuch'"),
            (("plain", "--split", "a lot"), "expected such as 70/15/15"),
        ],
    )
    def test_bad_usage_is_one_line_and_exit_status_2(self, pairs: Path, arguments: tuple[str, ...], says: str) -> None:
        layout, *options = arguments
        result = dataset("import", layout, pairs, "--out", pairs / "m.csv", *options)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert says in result.stderr
        assert not (pairs / "m.csv").exists()


def test_layouts_are_listed() -> None:
    result = dataset("layouts")
    assert result.exit_code == 0
    assert "covid-qu-ex" in result.stdout and "infection, lungs" in result.stdout
