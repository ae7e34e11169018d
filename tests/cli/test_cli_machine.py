"""--threads, --batch and --precision in every command that runs models."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from lexiseg.cli.main import app
from lexiseg.pipelines.preset import load_preset
from lexiseg.serve.models import Models

ALL = {"threads", "batch", "precision"}
COMMANDS = {
    "segment": ALL, "demo": ALL, "retrieve": ALL, "benchmark": ALL, "pseudo-label": ALL, "train": ALL,
    "distill": ALL, "finetune": ALL, "predict": {"threads", "precision"}, "serve": ALL,
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_runs_models_has_them(name: str) -> None:
    found = {each.name: each.callback for each in app.registered_commands}
    assert COMMANDS[name] <= set(inspect.signature(found[name]).parameters)


def test_threads_are_those_of_torch_and_of_what_is_not_loaded_yet(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["segment", "--threads", "1", "--out", str(tmp_path / "out")])
    assert told.exit_code == 2  # no scan was given
    assert torch.get_num_threads() == 1
    assert {os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"1"}


@pytest.mark.parametrize(("command", "place"), [("segment", "lexiseg.runs.segment.segment_files"),
                                                ("demo", "lexiseg.runs.demo.segment_files")])  # fmt: skip
def test_what_is_asked_reaches_the_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, place: str
) -> None:
    seen: list[Any] = []

    def stop(request: Any, **_: Any) -> None:
        seen.append(request)
        raise SystemExit(9)

    monkeypatch.setattr(place, stop)
    arguments = [command, "--batch", "3", "--precision", "float32", "--out", str(tmp_path / "out")]
    CliRunner().invoke(app, arguments + (["x.png", "--text", "tumor"] if command == "segment" else ["--count", "1"]))
    assert (seen[0].batch, seen[0].precision) == (3, "float32")


def test_a_precision_that_is_none_is_told_before_a_model_is_loaded(cli: Any, scans: Path, tmp_path: Path) -> None:
    result = cli.segment(tmp_path / "out", scans, "--precision", "float8")
    assert result.exit_code == 2
    assert "unknown precision 'float8'" in result.stderr


def test_a_server_computes_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("lexiseg.serve.run.serve", lambda settings, told: seen.append(settings))
    CliRunner().invoke(app, ["serve", "--batch", "3", "--precision", "float32"])
    asked: list[Any] = []
    monkeypatch.setattr("lexiseg.pipelines.loading.load", lambda preset, **how: asked.append((preset, how)))
    models = Models(seen[0].preset, device="cpu", precision=seen[0].precision, batch=seen[0].batch)
    models._load("demo")
    ((preset, how),) = asked
    assert preset["volume"].batch == preset["saliency"].batch == 3
    assert how == {"device": "cpu", "precision": "float32"}


def test_a_server_refuses_a_precision_that_is_none() -> None:
    told = CliRunner().invoke(app, ["serve", "--precision", "float8"])
    assert told.exit_code == 2 and "unknown precision 'float8'" in told.stderr


def test_every_command_that_computes_is_in_the_list() -> None:
    """Whoever adds a command says here what it takes; these read files, tables and headers alone."""
    reading = {"info", "evaluate"}
    assert {each.name for each in app.registered_commands} == {*COMMANDS, *reading}


@pytest.mark.parametrize("name", ["demo", "demo-salip", "medclip-sam", "salip"])
def test_a_batch_is_that_of_every_section(name: str) -> None:
    preset = load_preset(name).at_once(3)
    sizes = {
        getattr(section, key)
        for section in preset.sections.values()
        for key in ("batch", "points_per_batch")
        if hasattr(section, key)
    }
    assert sizes == {3}
