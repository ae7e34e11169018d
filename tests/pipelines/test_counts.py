"""What a scan costs, counted: forwards, encodings and decodings must not grow unseen. Times are no tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_saliency_encoder import FakeEncoder
from fake_segmenter import FakeSegmenter
from scans_of import preset_of
from torch import Tensor

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.fpn import FPNTower
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.loading import load
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.values.scans import Image


class Counted:
    """A model whose calls are counted by what goes through it; it is put back as it was."""

    def __init__(self, pipeline: TextPipeline, patch: pytest.MonkeyPatch) -> None:
        self.images: Counter[str] = Counter()
        for name in ("encode_image", "encode_dense", "encode_dense_and_image"):
            self._count(patch, pipeline.encoder, name, len)
        self._count(patch, pipeline.encoder, "encode_text", len)
        self._count(patch, pipeline.segmenter, "encode_many", len)
        self._count(patch, pipeline.segmenter, "decode", lambda _: 1)
        self._count(patch, pipeline.segmenter, "decode_many", len)

    def _count(self, patch: pytest.MonkeyPatch, model: Any, name: str, size: Any) -> None:
        real = getattr(model, name)

        def counting(first: Any, *args: Any, **options: Any) -> Any:
            self.images[name] += size(first)
            return real(first, *args, **options)

        patch.setattr(model, name, counting, raising=True)


@pytest.fixture(scope="module")
def demo() -> Iterator[TextPipeline]:
    yield load("demo", device="cpu", precision="float32")


def counts(pipeline: TextPipeline, patch: pytest.MonkeyPatch, *phrases: str) -> Counter[str]:
    pipeline.embed(phrases)  # wordings are embedded once for many scans
    counted = Counted(pipeline, patch)
    assert pipeline(generate("breast-ultrasound", 0, target=True).scan, phrases).targets[0].present
    return Counter(counted.images)


def test_demo_sees_a_scan_once_and_the_segmenter_each_window_once(
    demo: TextPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = counts(demo, monkeypatch, "breast tumor")
    assert found == {"encode_dense_and_image": 1, "encode_many": 1, "decode_many": 3}


def test_windows_and_boxes_go_through_the_segmenter_together(
    demo: TextPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan with several pieces: seven windows of 192 pixels at once, and no box by itself."""
    forwards: list[int] = []
    segmenter: Any = demo.segmenter
    embed = segmenter._embed
    monkeypatch.setattr(segmenter, "_embed", lambda batch: (forwards.append(len(batch)), embed(batch))[1])
    counted = Counted(demo, monkeypatch)
    for seed in range(4):
        forwards.clear()
        counted.images.clear()
        demo(generate("breast-ultrasound", seed, target=True).scan, ["breast tumor"])
        assert len(forwards) == -(-sum(forwards) // 7)
        assert counted.images["decode"] == 0 and counted.images["decode_many"] <= 3 * sum(forwards)
        assert counted.images["encode_dense_and_image"] == 1


def test_a_further_phrase_that_is_absent_costs_no_forward(demo: TextPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(demo, monkeypatch, "breast tumor", "fetal head") == counts(demo, monkeypatch, "breast tumor")


@pytest.mark.parametrize("phrases", [("breast tumor",), ("breast tumor", "lungs", "fetal head")])
def test_a_masked_view_of_gscorecam_is_seen_once_for_all_phrases(phrases: tuple[str, ...]) -> None:
    settings = {"saliency": {"method": "gscorecam", "batch": 5}, "regions": {"method": "threshold"}}
    encoder = FakeEncoder(channels=12)
    asked = MedclipSam(preset_of("test", **settings, presence={"threshold": None}), encoder, FakeSegmenter())
    scan = Image(np.random.default_rng(0).random((24, 32), np.float32), id="noise")
    for scans in (1, 2):
        asked(scan, phrases)
        assert encoder.activation_calls == scans
        assert encoder.image_calls == scans * [5, 5, 2]
    assert len(encoder.text_calls) == 1


@pytest.mark.parametrize(("phrases", "asked"), [(("lungs",), [1, 0, 0]), (("lungs", "breast tumor"), [1, 1, 1])])
def test_towers_that_no_phrase_looks_at_are_not_asked(
    demo: TextPipeline, monkeypatch: pytest.MonkeyPatch, phrases: tuple[str, ...], asked: list[int]
) -> None:
    scan = generate("chest-xray", 0, target=True).scan
    expected = demo(scan, ["lungs", "breast tumor"])["lungs"]
    calls = [0, 0, 0]
    real = FPNTower.forward_features

    def counting(tower: FPNTower, x: Tensor) -> Tensor:
        if tower.num_classes:  # the segmenter has such a tower too, without a projection
            calls[
                ("EfficientNetFeatures", "FeatureListNet", "FeatureGetterNet").index(type(tower.backbone).__name__)
            ] += 1
        return real(tower, x)

    monkeypatch.setattr(FPNTower, "forward_features", counting)
    found = demo(scan, phrases)["lungs"]
    assert calls == asked
    # The whole scan's embedding is a mean over maps that lie otherwise in memory: a rounding of float32.
    assert found.presence == pytest.approx(expected.presence, abs=1e-6)
    np.testing.assert_array_equal(found.mask, expected.mask)
