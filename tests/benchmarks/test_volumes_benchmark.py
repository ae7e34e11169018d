"""The benchmark of volumes counts what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_saliency_encoder import NamedColours
from scans_of import preset_of, volume_of
from seeing_segmenter import SeeingSegmenter

import volumes
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.runs.partial import PartialVolume

TRUE = (2, 3, 4)


@pytest.fixture
def case() -> volumes.Case:
    """Eight slices with a square in three, and a smaller one elsewhere that is not the target."""
    pixels, truth = np.zeros((8, 64, 64), np.float32), np.zeros((8, 64, 64), np.bool_)
    for k in TRUE:
        pixels[k, 16:48, 16:40] = 0.9
        truth[k, 16:48, 16:40] = True
    pixels[6, 0:16, 48:64] = 0.9
    return volumes.Case("a group", volume_of(pixels, spacing=(5.0, 2.0, 1.0)), "bright", truth)


def models() -> MedclipSam:
    preset = preset_of(
        "test",
        saliency={"method": "dense"},
        regions={"method": "threshold"},
        presence={"threshold": 0.5, "global_weight": 0.0},
    )
    return MedclipSam(preset, NamedColours(), SeeingSegmenter())


def test_slices_and_millilitres_are_counted_step_by_step(
    case: volumes.Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("lexiseg.load_preset", lambda name: models().preset)
    found = volumes.answers(case, models(), "test")
    assert set(found) == set(volumes.STEPS)
    plain, pieces = found["slice by slice"], found["pieces of two slices or more"]
    assert (plain["true drawn"], plain["false slices"], pieces["false slices"]) == (3, 1, 0)
    # 16 x 16 pixels of 5 x 2 x 1 mm: 2.56 ml.
    assert plain["false ml"] == pytest.approx(2.56) and pieces["false ml"] == 0
    assert pieces["dice"] == 1 and 0 < plain["dice"] < 1
    volumes.print_steps({"a group": [found]})
    line = next(line for line in capsys.readouterr().out.splitlines() if "pieces of two" in line)
    assert [cell.strip() for cell in line.split("|")[3:9]] == ["1", "1.000", "1.000", "0.0", "3 of 3", "0"]


def test_written_slices_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert volumes.written_slices(path) == 0
    journal = PartialVolume(path, "k", announce=lambda: None, every=1)
    for k in range(3):
        journal.keep(k, (b"a",))
    assert volumes.written_slices(path) == 3
