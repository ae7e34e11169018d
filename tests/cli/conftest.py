"""The command line in this process, small scans on disk, and helpers on the path."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexiseg.cli.main import app

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from fake_pipeline import FakePipeline


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command line sets up logging for its process; here other tests share it."""
    ours, root = logging.getLogger("lexiseg"), logging.getLogger()
    before = (ours.handlers[:], ours.level, ours.propagate, root.level)
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    yield
    ours.handlers[:], ours.propagate = before[0], before[2]
    ours.setLevel(before[1])
    root.setLevel(before[3])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three grey images of 24 x 32 pixels: a.png, b.png, c.png."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for index, name in enumerate("abc"):
        values = np.random.default_rng(index).integers(0, 256, (24, 32)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
    return folder


@dataclass(frozen=True)
class Cli:
    """Runs the real command line in this process, on a pipeline without models."""

    runner: CliRunner

    def __call__(self, *arguments: object) -> Any:
        result = self.runner.invoke(app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stdout + result.stderr
        return result

    def segment(self, out: Path, *arguments: object, text: tuple[str, ...] = ("breast tumor",)) -> Any:
        """`lexiseg segment ... --text ... --out OUT`."""
        phrases = [part for each in text for part in ("--text", each)]
        return self("segment", *arguments, *phrases, "--out", out)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a fake pipeline; presets, devices and files are looked at for real."""
    monkeypatch.setattr("lexiseg.pipelines.loading.load", lambda preset, **_: FakePipeline(preset))
    return Cli(CliRunner())
