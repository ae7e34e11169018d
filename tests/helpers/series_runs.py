"""Runs over series that are on disk, through a pipeline without models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import FakePipeline

from lexiseg.runs import batch
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.segment import RunOptions, RunSummary
from lexiseg.values.scans import Scan


def run_scans(
    monkeypatch: pytest.MonkeyPatch,
    scans: Mapping[Path, Scan],
    out: Path,
    *phrases: str,
    pipeline: FakePipeline | None = None,
    **options: Any,
) -> RunSummary:
    """A run of scans, each in the place of a file: what a reader would make of it.

    Args:
        monkeypatch: of the test.
        scans: file -> what it is read as.
        out: the run's folder.
        phrases: asked of all.
        pipeline: without models; a plain one when None.
        options: of the run.
    """
    asked: Sequence[str] = phrases or ("tumor",)
    items = gather_items(list(scans), phrases=asked)

    def read(item: RunItem) -> Scan:
        return dataclasses.replace(scans[item.path], id=item.id)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "_read", read)
        return batch.run_batch(pipeline or FakePipeline(), items, out, phrases=asked, options=RunOptions(**options))
