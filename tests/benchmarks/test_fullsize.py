"""Both sides of the full-size comparison, on tiny models in the published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import make_biomedclip_folder, make_sam_pth
from published_sam import published_sam

import fullsize
from lexiseg.models.loading import load_segmenter

CHANNELS = 64  # of the tiny tower


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = make_biomedclip_folder(folder / "biomedclip", size="tiny")
    return encoder, make_sam_pth(folder / "sam_vit_b.pth", size="tiny")


def test_ours_sees_all_channels_or_those_that_matter(models: tuple[Path, Path]) -> None:
    exact, near = (fullsize.ours(*models, tolerance) for tolerance in (0.0, 0.05))
    assert exact.forwards == CHANNELS
    assert near.forwards <= CHANNELS
    assert set(exact.seconds) >= {"saliency", "region", "segmenter", "mask"} and exact.total > 0
    assert fullsize.agreement({"ours": exact, "tolerance": near}) > 0.98


def test_the_released_procedure_ends_with_a_box_and_half_of_its_forwards_count_twice(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_anything: Any = pytest.importorskip("segment_anything")
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: it has no wheels")
    registry = {"vit_b": lambda checkpoint: published_sam(load_segmenter(checkpoint, device="cpu").model)}
    monkeypatch.setattr(segment_anything, "sam_model_registry", registry)
    clock = iter(range(1000))
    monkeypatch.setattr(fullsize.time, "perf_counter", lambda: float(next(clock)))
    cost = fullsize.released(*models, forwards=CHANNELS // 2)
    assert cost.forwards == CHANNELS // 2
    assert cost.seconds == {"gradient": 1, "masks": 1, "forwards": 2, "region": 1, "segmenter": 1, "mask": 1}
    x0, y0, x1, y1 = cost.box
    assert 0 <= x0 < x1 <= 500 and 0 <= y0 < y1 <= 400
