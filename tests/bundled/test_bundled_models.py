"""The weights that ship: ordinary folders, small, intact, and able to do what the README says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selftest import selftest

import lexiseg
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.errors import UsageError
from lexiseg.models.loading import load_encoder, load_segmenter
from lexiseg.models.weights.records import bundled_folder
from lexiseg.models.weights.status import check_model
from lexiseg.runs.segment import seen_by, with_threshold
from lexiseg.saliency.settings import method_class
from lexiseg.values.overlap import dice

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"


@pytest.fixture(scope="module")
def segment() -> lexiseg.TextSegmenter:
    return lexiseg.load("demo", device="cpu")


class TestFolders:
    def test_together_they_stay_small(self) -> None:
        files = bundled_folder("encoder").parent.rglob("*.safetensors")
        assert sum(f.stat().st_size for f in files) < 64e6

    def test_what_lies_there_is_what_was_recorded(self) -> None:
        check = check_model("bundled")
        assert check.ok
        assert {Path(f.name).name for f in check.files} >= {
            "open_clip_model.safetensors",
            "model.safetensors",
        }

    def test_the_encoder_is_a_model_of_open_clip(self) -> None:
        import open_clip

        ours: Any = load_encoder("bundled", device="cpu")
        assert isinstance(ours.model, open_clip.CustomTextCLIP)
        rows = ours.encode_text(["breast tumor", "a lump in my breast", "liver"])
        assert np.allclose(rows[0], rows[1]) and not np.allclose(rows[0], rows[2])

    def test_transformers_loads_the_segmenter_once_its_tower_is_known(self) -> None:
        import torch
        from transformers import SamProcessor

        from lexiseg.models.segmenters.sam_folder import TowerSam

        folder = bundled_folder("segmenter")
        theirs = TowerSam.from_pretrained(folder, dtype=torch.float32).eval()
        ours: Any = load_segmenter("bundled", device="cpu", precision="float32")
        pixels = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
        assert torch.equal(theirs.get_image_embeddings(pixels), ours.model.get_image_embeddings(pixels))
        SamProcessor.from_pretrained(folder)


class TestPhantoms:
    @pytest.mark.parametrize(
        ("modality", "least"),
        [
            ("breast-ultrasound", 0.6),
            ("chest-xray", 0.85),
            ("fetal-ultrasound", 0.85),
            ("fundus-photograph", 0.6),
            ("abdominal-ct", 0.8),
        ],
    )
    def test_targets_are_outlined(self, segment: lexiseg.TextSegmenter, modality: str, least: float) -> None:
        scores = []
        for seed in range(100, 104):
            phantom = generate(modality, seed, target=True)
            finding = segment(phantom.scan, phantom.phrase)[phantom.phrase]
            scores.append(dice(finding.mask, phantom.mask(phantom.phrase)))
        assert np.mean(scores) > least

    @pytest.mark.parametrize("phrase", ["fetal head", "left kidney", "glimmering teapot", "zorblax"])
    def test_what_is_not_there_is_absent(self, segment: lexiseg.TextSegmenter, phrase: str) -> None:
        finding = segment(generate("chest-xray", 100).scan, phrase)[phrase]
        assert finding.presence < 0.3
        assert finding.verdict == ("absent" if phrase in ("fetal head", "left kidney") else "unknown")
        assert not finding.present
        assert not finding.mask.any()

    def test_left_and_right_lung_are_told_apart(self, segment: lexiseg.TextSegmenter) -> None:
        phantom = generate("chest-xray", 103, target=False)
        result = segment(phantom.scan, ["left lung", "right lung"])
        for own, other in (("left lung", "right lung"), ("right lung", "left lung")):
            assert dice(result[own].mask, phantom.mask(own)) > 0.6
            assert dice(result[own].mask, phantom.mask(other)) < 0.3

    @pytest.mark.parametrize("method", ["dense", "gradcam", "gscorecam"])
    def test_every_saliency_method_sees_something(self, method: str) -> None:
        settings = {"k": 16} if method == "gscorecam" else {}
        selftest(load_encoder("bundled", device="cpu"), method_class(method)(**settings))


class TestThresholds:
    WANTED = "auto:sensitivity=0.95"

    @pytest.mark.parametrize(
        ("phrase", "target"),
        [("lump in my breast", "breast tumor"), ("blood highway from the heart", "aorta"), ("the lungs", "lungs")],
    )
    def test_wordings_that_nobody_taught_have_the_targets(
        self, segment: lexiseg.TextSegmenter, phrase: str, target: str
    ) -> None:
        seen = seen_by(segment.pipeline.preset, self.WANTED)
        made = with_threshold(segment.pipeline, [phrase], seen, self.WANTED)
        assert made.threshold == seen[target].threshold("sensitivity", 0.95)

    @pytest.mark.parametrize("phrase", ["zorblax", "no breast tumor"])
    def test_what_is_unknown_has_none(self, segment: lexiseg.TextSegmenter, phrase: str) -> None:
        with pytest.raises(UsageError, match=f"is not known for '{phrase}': no scan of it was kept back"):
            with_threshold(segment.pipeline, [phrase], seen_by(segment.pipeline.preset, self.WANTED), self.WANTED)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real scans at {SHARED}: set LEXISEG_SHARED")
class TestRealScans:
    @pytest.mark.parametrize(("name", "phrase", "least"), [("cxr", "lungs", 0.85), ("hc18", "fetal head", 0.85)])
    def test_patients_that_were_never_trained_on(
        self, segment: lexiseg.TextSegmenter, name: str, phrase: str, least: float
    ) -> None:
        from lexiseg.io.masks import read_mask
        from recipe.data import split_rows

        scores = []
        for row in split_rows(SHARED / name, validation=True)[::12]:
            scan = lexiseg.read_scan(SHARED / name / row["image"])
            truth = read_mask(SHARED / name / row["mask"], scan)
            scores.append(dice(segment(scan, phrase)[phrase].mask, truth))
        assert np.mean(scores) > least
