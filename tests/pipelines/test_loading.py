"""What a preset may say, and what is loaded for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_sam_folder
from fake_saliency_encoder import FakeEncoder
from fake_segmenter import FakeSegmenter
from scans_of import preset_of
from towers import make_tower_folder

from lexiseg.errors import UsageError
from lexiseg.pipelines import loading
from lexiseg.pipelines.loading import PIPELINES, load
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import load_preset, preset_names
from lexiseg.pipelines.salip import Salip
from lexiseg.saliency.settings import DenseSettings
from lexiseg.values.scans import Image, Scan

SHIPPED = [name for name in preset_names() if load_preset(name).pipeline == "medclip-sam"]
PRESET = preset_of("test", saliency={"method": "dense"}, regions={"method": "threshold"}, prompts={"boxes": "all"})


@pytest.fixture
def scan() -> Scan:
    """Noise."""
    return Image(np.random.default_rng(0).random((40, 56), dtype=np.float32), id="noise")


class TestSettings:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_a_shipped_preset_fits_its_stages(self, name: str, scan: Scan) -> None:
        asked = MedclipSam(load_preset(name), FakeEncoder(bias=-3.0), FakeSegmenter())
        assert asked(scan, "breast tumor").targets[0].mask.shape == scan.shape

    @pytest.mark.parametrize(
        ("section", "settings", "words"),
        [
            ("phrases", {"ensembles": True}, "phrases has no setting 'ensembles'; expected among ensemble"),
            ("phrases", {"library": "x"}, "phrases has no setting 'library'"),
            ("phrases", {"ensemble": "yes"}, "phrases: ensemble is 'yes'; expected true or false"),
            ("saliency", {"method": "cam"}, "saliency has no method 'cam'; expected one of gscorecam"),
            ("saliency", {"method": ["dense"]}, "saliency has no method ['dense']"),
            ("saliency", {"k": 5}, "saliency has no setting 'k'"),
            ("saliency", {"shifts": "two"}, "saliency: {'shifts': 'two'} holds"),
            ("saliency", {"shifts": 0}, "shifts is 0"),
            ("saliency", {"clip_percentile": 10}, "dense: clip_percentile is 10; expected a percentile, 50 to 100"),
            ("saliency", {"clip_percentile": "99"}, "saliency: {'clip_percentile': '99'} holds"),
            ("saliency", {"framing": "crop"}, "unknown framing 'crop'"),
            ("saliency", {"framing": "tile", "tile": 0}, "tile is 0 pixels"),
            ("regions", {"method": "snake"}, "regions has no method 'snake'; expected one of crf"),
            ("regions", {"tau": 1}, "regions has no setting 'tau'; expected among threshold"),
            ("regions", {"threshold": 2}, "threshold is 2, expected"),
            ("regions", {"threshold": "half"}, "regions: {'threshold': 'half'} holds"),
            ("regions", {"pixels": 1}, "regions has no setting 'pixels'"),
            ("prompts", {"box": "all"}, "prompts has no setting 'box'; expected among boxes, margin"),
            ("prompts", {"region": 1}, "prompts has no setting 'region'"),
            ("prompts", {"levels": [0.2, 1.5]}, "prompts: levels is (0.2, 1.5); expected numbers between"),
            ("prompts", {"levels": "low"}, "prompts: levels is 'low'; expected numbers between 0 and 1"),
            ("prompts", {"boxes": "most"}, "boxes is 'most', expected"),
            ("prompts", {"margin": "wide"}, "prompts: {'margin': 'wide'} holds"),
            ("mask", {"smooth": 1}, "mask has no setting 'smooth'; expected among fusion, segmenter_weight"),
            ("mask", {"fusion": "sam"}, "mask: fusion is 'sam'; expected segmenter, region or average"),
            ("mask", {"min_area": "tiny"}, "mask: {'min_area': 'tiny'} holds"),
            ("mask", {1: 2}, "mask has no setting 1"),
            ("presence", {"slope": 1}, "presence has no setting 'slope'; expected among threshold"),
            ("presence", {"threshold": 1.5}, "presence: threshold is 1.5; expected 0 to 1, or null"),
            ("presence", {"threshold": "high"}, "presence: threshold is 'high'"),
            ("presence", {"threshold": True}, "presence: threshold is True"),
            ("presence", {"threshold": math.nan}, "presence: threshold is nan"),
            ("presence", {"global_weight": 2}, "global_weight is 2"),
            ("presence", {"a": "steep"}, "presence: "),
        ],
    )
    def test_a_wrong_one_is_told_before_the_first_scan(
        self, section: str, settings: dict[Any, Any], words: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            MedclipSam(PRESET.override(**{section: settings}), FakeEncoder(), FakeSegmenter())
        assert words in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


class TestLoad:
    @pytest.fixture
    def fakes(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        loaded: list[tuple[str, str]] = []

        def give(model: type[Any], ref: str, device: str, **_: Any) -> Any:
            loaded.append((ref, device))
            return model()

        monkeypatch.setattr(loading, "load_encoder", lambda ref, **rest: give(FakeEncoder, ref, **rest))
        monkeypatch.setattr(loading, "load_segmenter", lambda ref, **rest: give(FakeSegmenter, ref, **rest))
        return loaded

    def test_a_preset_by_name_with_changes(self, fakes: list[tuple[str, str]]) -> None:
        made = load("demo", device="cpu", encoder="org/clip", presence={"threshold": 0.25})
        assert fakes == [("org/clip", "cpu"), ("bundled", "cpu")]
        assert (made.threshold, made.preset.name) == (0.25, "demo")

    @pytest.mark.parametrize("name", PIPELINES)
    def test_a_preset_says_of_its_pipeline_what_the_pipeline_says(self, name: str) -> None:
        preset, kind = preset_of("test", pipeline=name), PIPELINES[name]
        assert (preset.needs_encoder, preset.needs_truth) == (kind.needs_encoder, kind.needs_truth)
        assert preset.tunable == issubclass(kind, Salip | MedclipSam)

    def test_a_preset_of_ones_own(self, fakes: list[tuple[str, str]]) -> None:
        made = load(PRESET, device="cpu", saliency={"shifts": 3})
        assert made.preset["saliency"] == DenseSettings(shifts=3)

    def test_no_such_pipeline_loads_no_model(self, fakes: list[tuple[str, str]]) -> None:
        with pytest.raises(UsageError, match="no pipeline 'sam-only'; expected one of medclip-sam"):
            load("demo", pipeline="sam-only")
        assert fakes == []

    def test_no_such_field(self, fakes: list[tuple[str, str]]) -> None:
        with pytest.raises(UsageError, match="no field 'encodr'"):
            load("demo", encodr="x")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("tiny")
    return make_tower_folder(made / "clip", "CLIP ViT"), make_sam_folder(made / "sam", size="tiny")


class TestTinyModels:
    """The shipped presets with real towers of random weights, in the folders' published layouts."""

    @pytest.mark.parametrize("name", SHIPPED)
    def test_a_scan_runs_to_the_end(self, name: str, folders: tuple[Path, Path], scan: Scan) -> None:
        clip, sam = folders
        made = load(name, encoder=str(clip), segmenter=str(sam), device="cpu", presence={"threshold": None})
        first, again = (made(scan, ["breast tumor", "lungs"]) for _ in range(2))
        assert first.mask.labels.shape == (40, 56)
        assert all(0 <= found.presence <= 1 and 0 <= found.confidence <= 1 for found in first.targets)
        np.testing.assert_array_equal(first.mask.labels, again.mask.labels)
        for role in ("encoder", "segmenter"):
            assert len(first.provenance[role]["sha256"]) == 64
