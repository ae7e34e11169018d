"""The command line on models that are loaded for real: tiny ones, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_sam_folder
from PIL import Image
from towers import make_tower_folder
from typer.testing import CliRunner

from lexiseg.cli.main import app


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return (
        make_tower_folder(folder / "clip", "timm ConvNeXt"),
        make_sam_folder(folder / "sam", size="tiny"),
    )


def segment(out: Path, models: tuple[Path, Path], *arguments: object) -> Any:
    encoder, segmenter = models
    given = ["--text", "breast tumor", "--encoder", encoder, "--segmenter", segmenter, "--threshold", 0]
    result = CliRunner().invoke(app, [str(each) for each in ("segment", *arguments, *given, "--out", out)])
    assert "Traceback" not in result.stderr + result.stdout
    return result


def test_two_runs_give_the_same_bytes_and_say_what_made_them(
    scans: Path, tmp_path: Path, models: tuple[Path, Path]
) -> None:
    for name in ("one", "two"):
        result = segment(tmp_path / name, models, scans, "--save-stages", "--overlay")
        assert result.exit_code == 0, result.stderr
    pictures = sorted(path.name for path in (tmp_path / "one").glob("*.png"))
    assert len(pictures) == 12
    for name in pictures:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert np.asarray(Image.open(tmp_path / "one" / "a_mask.png")).shape == (24, 32)
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["models"]["encoder"]["name"] == "clip"
    assert all(len(model["sha256"]) == 64 for model in record["models"].values())
    assert record["precision"] in ("float32", "bfloat16")
    assert str(tmp_path) not in json.dumps(record)


def test_truncated_weights_are_one_line(scans: Path, tmp_path: Path, models: tuple[Path, Path]) -> None:
    broken = make_sam_folder(tmp_path / "broken", size="tiny")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = segment(tmp_path / "out", (models[0], broken), scans)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "results.csv").exists()


def test_a_setting_that_a_stage_does_not_have_is_bad_usage(
    scans: Path, tmp_path: Path, models: tuple[Path, Path]
) -> None:
    result = segment(tmp_path / "out", models, scans, "--set", "mask.nonesuch=1")
    assert result.exit_code == 2
    assert "nonesuch" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
