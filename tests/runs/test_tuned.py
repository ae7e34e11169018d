from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from fake_saliency_encoder import FakeEncoder
from fake_segmenter import FakeSegmenter
from regions_of import filled, proposal
from scans_of import preset_of, volume_of

from lexiseg.errors import UsageError
from lexiseg.pipelines import salip
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.salip import RegionEvidence, Salip
from lexiseg.pipelines.tuning import default_grid, sureness, tune_label_free
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Match, Matches
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions, RunProgress, tunes
from lexiseg.runs.table import read_record
from lexiseg.runs.tuned import tuned_pipeline
from lexiseg.values.scans import Image

SHAPE = (24, 32)
PRESET = preset_of("tuned", pipeline="salip", proposals={"pred_iou_threshold": 0.4, "stability_threshold": 0.6})


def regions(*each: tuple[float, float]) -> Proposals:
    """Boxes side by side with (iou, stability)."""
    return Proposals(
        SHAPE,
        tuple(
            proposal(filled(SHAPE, (8 * k, 0, 8 * k + 6, 9)), iou=iou, stability=stability)
            for k, (iou, stability) in enumerate(each)
        ),
    )


def region_evidence(proposals: Proposals, probabilities: list[float], *taken: int) -> tuple[RegionEvidence, Matches]:
    items = tuple(Match(k, proposals[k], probabilities[k]) for k in taken)
    values = np.array(probabilities)
    matches = Matches("x", items, values, values)
    return RegionEvidence(proposals, (matches,), (), ()), matches


class TestSureness:
    def test_is_margin_times_iou_times_stability(self) -> None:
        found = region_evidence(regions((0.5, 0.8), (0.9, 0.9)), [0.9, 0.3], 0)
        assert sureness(*found) == pytest.approx((0.9 - 0.3) * 0.5 * 0.8)

    def test_of_two_regions_their_means(self) -> None:
        found = region_evidence(regions((0.5, 0.8), (0.7, 0.6), (1.0, 1.0)), [0.9, 0.7, 0.2], 0, 1)
        assert sureness(*found) == pytest.approx((0.8 - 0.2) * 0.6 * 0.7)

    def test_a_region_that_is_the_same_thing_is_no_rival(self) -> None:
        twice = regions((0.5, 0.8))
        twice = Proposals(SHAPE, (*twice.items, proposal(filled(SHAPE, (0, 0, 5, 9)))))
        assert sureness(*region_evidence(twice, [0.9, 0.89], 0)) == pytest.approx(0.9 * 0.5 * 0.8)

    @pytest.mark.parametrize(
        ("probabilities", "taken"), [([0.9, 0.3], ()), ([0.3, 0.9], (0,)), ([np.nan, np.nan], (0,))]
    )
    def test_nothing_or_no_margin_is_nought(self, probabilities: list[float], taken: tuple[int, ...]) -> None:
        assert sureness(*region_evidence(regions((0.5, 0.8), (0.9, 0.9)), probabilities, *taken)) == 0


class TestGrid:
    def test_begins_with_the_presets_own_settings_and_none_twice(self) -> None:
        grid = default_grid(PRESET)
        assert grid[0] == {}
        assert len({repr(changes) for changes in grid}) == len(grid) == 9
        assert {"proposals": {"pred_iou_threshold": 0.3, "stability_threshold": 0.45}} in grid
        for changes in grid:
            Salip(PRESET.override(**changes), FakeEncoder(bias=-3.0), FakeSegmenter())

    def test_without_crops_no_visual_prompt_is_tried(self) -> None:
        assert len(default_grid(load_preset("demo-salip"))) == 3


@pytest.fixture
def stable(monkeypatch: pytest.MonkeyPatch) -> list[ProposalSettings]:
    """The stricter the thresholds, the surer the one proposal of every scan; counts calls."""
    asked: list[ProposalSettings] = []

    def propose(segmenter: Any, pixels: np.ndarray, settings: ProposalSettings) -> Proposals:
        asked.append(settings)
        mask = filled((pixels.shape[0], pixels.shape[1]), (2, 2, 12, 12))
        one = proposal(mask, iou=settings.pred_iou_threshold, stability=settings.stability_threshold)
        return Proposals(mask.shape, (one,))

    monkeypatch.setattr(salip, "propose", propose)
    return asked


def pipeline() -> Salip:
    return Salip(PRESET, FakeEncoder(bias=-3.0), FakeSegmenter())


class TestTune:
    def test_the_surest_setting_is_chosen(self, stable: list[ProposalSettings]) -> None:
        scan = Image(np.random.default_rng(0).random(SHAPE, dtype=np.float32), id="a")
        told: list[float] = []
        tuning = tune_label_free(pipeline(), [(scan, ["lungs", "heart"])], progress=told.append)
        assert tuning.choice["proposals"] == {"pred_iou_threshold": 0.55, "stability_threshold": 0.7}
        assert tuning.scans == ("a",) and told[-1] == 1
        assert max(trial.score for trial in tuning.trials) > tuning.trials[0].score
        assert len(stable) == 3  # each pair of thresholds once, whatever the visual prompts

    def test_equal_scores_keep_the_presets_own(self, stable: list[ProposalSettings]) -> None:
        scan = Image(np.zeros(SHAPE, np.float32))
        tuning = tune_label_free(pipeline(), [(scan, ["lungs"])], grid=[{}, {"mask": {"fill_holes": True}}])
        assert tuning.choice == {}

    def test_a_volume_is_looked_at_in_its_middle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[np.ndarray] = []
        monkeypatch.setattr(salip, "propose", lambda _, pixels, __: seen.append(pixels) or Proposals(SHAPE))
        volume = volume_of(np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32), id="v")
        assert tune_label_free(pipeline(), [(volume, ["lungs"])], grid=[{}]).scans == ("v",)
        np.testing.assert_array_equal(seen, volume.values[2:3])

    def test_no_scan(self) -> None:
        with pytest.raises(UsageError, match="no readable scan"):
            tune_label_free(pipeline(), [])

    def test_what_cannot_be_tuned(self) -> None:
        fake: Any = FakePipeline()
        with pytest.raises(UsageError, match="'demo' has no settings that can be tuned"):
            tune_label_free(fake, [])
        with pytest.raises(UsageError, match="'sam-unprompted' has no settings that can be tuned"):
            tunes("label-free", load_preset("sam-unprompted"))
        with pytest.raises(UsageError, match="no tuning 'dice'; expected fixed, label-free or auto"):
            tunes("dice", load_preset("demo-salip"))

    def test_auto_tunes_what_a_few_forwards_tell(self) -> None:
        chosen = {name: tunes("auto", load_preset(name)) for name in ("demo", "demo-salip", "sam-unprompted")}
        assert chosen == {"demo": True, "demo-salip": False, "sam-unprompted": False}
        assert tunes("label-free", load_preset("demo-salip"))
        assert not tunes("fixed", load_preset("demo"))


class TestRun:
    def test_the_record_says_what_was_tried_and_chosen(
        self, scans: Path, tmp_path: Path, stable: list[ProposalSettings]
    ) -> None:
        out = tmp_path / "out"
        (scans / "0.png").write_bytes(b"")  # cannot be read: not tuned on
        items = gather_items([scans], phrases=["lungs"])
        told: list[RunProgress] = []
        chosen, tuned = tuned_pipeline(pipeline(), items, out, resume=False, progress=told.append)
        run_batch(chosen, items, out, phrases=["lungs"], tuned=tuned)
        record = read_record(out)
        assert record is not None
        assert record["tuning"] == "label-free"
        assert record["tuned"]["scans"] == ["a", "b", "c"]
        assert len(record["tuned"]["grid"]) == 9
        assert record["tuned"]["choice"]["proposals"].items() <= record["preset"]["proposals"].items()
        assert told[0].scan == "choosing settings, 0%" and {each.total for each in told} == {4}

        before = len(stable)
        again, kept = tuned_pipeline(pipeline(), items, out, resume=True)
        assert (again.preset, kept) == (chosen.preset, tuned) and len(stable) == before
        summary = run_batch(again, items, out, phrases=["lungs"], tuned=kept, options=RunOptions(resume=True))
        assert summary.skipped == 3

    def test_a_run_with_the_presets_settings_says_fixed(self, scans: Path, tmp_path: Path) -> None:
        run_batch(FakePipeline(), gather_items([scans], phrases=["lungs"]), tmp_path / "out")
        record = read_record(tmp_path / "out")
        assert record is not None and record["tuning"] == "fixed" and "tuned" not in record
