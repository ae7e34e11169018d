"""A data folder, and pipelines that count what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import FakePipeline
from suite_data import make_data, write_suite

from lexiseg.benchmark.run import BenchmarkRequest, BenchmarkSummary, run_benchmark
from lexiseg.pipelines.preset import Preset


class Machine:
    """Stands for `lexiseg.load`: what it loads, and which scans were asked of it since the last look."""

    def __init__(self) -> None:
        self.weights = "0" * 64
        self.stop_after = -1
        self.fails: Exception | None = None
        self._seen: list[tuple[str, str, tuple[str, ...]]] = []

    def load(self, preset: Preset, **_: Any) -> FakePipeline:
        if self.fails is not None:
            raise self.fails
        pipeline = FakePipeline(preset, weights=self.weights)
        answer, machine = FakePipeline.__call__, self

        class Watched(FakePipeline):
            def __call__(self, scan: Any, phrases: Any, **options: Any) -> Any:
                if len(machine._seen) == machine.stop_after:
                    raise KeyboardInterrupt
                machine._seen.append((preset.name, scan.id, tuple(phrases)))
                return answer(self, scan, phrases, **options)

        pipeline.__class__ = Watched
        return pipeline

    def look(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """(preset, scan, phrases) of every call since the last look."""
        seen, self._seen = self._seen, []
        return seen


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    # Hundreds of tiny files: waiting for the disk each time tests nothing here.
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("lexiseg.pipelines.loading.load", found.load)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


@pytest.fixture
def bench(machine: Machine, data: Path, tmp_path: Path) -> Callable[..., BenchmarkSummary]:
    """Run a suite (given by its fields) into tmp_path/out; options are `BenchmarkRequest`'s."""

    def run(fields: Any = None, **options: Any) -> BenchmarkSummary:
        suite = write_suite(tmp_path / "tiny.yaml", fields)
        return run_benchmark(BenchmarkRequest(**{"suite": suite, "data": data, "out": tmp_path / "out", **options}))

    return run
