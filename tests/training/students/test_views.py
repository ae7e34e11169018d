"""A teacher that looks twice, without models: what both views say together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lexiseg.errors import UsageError
from lexiseg.pipelines import loading
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.results import MaskEstimate, PlaneResults, SliceResult
from lexiseg.training.students.views import TwiceSeen, twice_seen
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Image, Plane

SQUARE = (slice(4, 12), slice(2, 10))


def answers(teacher: MedclipSam, planes: list[Plane], *rest: Any) -> list[PlaneResults]:
    """Where the plane is bright, with its own grey as probability; presence is its largest grey."""
    found = []
    for plane in planes:
        grey = np.ascontiguousarray(plane.pixels)
        presence = float(grey.max())
        shown = grey if presence >= 0.3 else np.zeros_like(grey)
        estimate = MaskEstimate(shown > 0.5, 0.9, shown)
        found.append(
            PlaneResults((
                SliceResult.of(
                    saliency=Saliency(grey, "disc", 1.0), region=Region(shown > 0.5, grey),
                    prompts=Prompts(boxes=np.array([[0, 0, 4, 4]], np.float32)), estimate=estimate,
                    presence=presence, agreement=0.8,
                ),
            ))
        )  # fmt: skip
    return found


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> TwiceSeen:
    monkeypatch.setattr(MedclipSam, "segment_planes", answers)

    class Model:
        device, precision, name = torch.device("cpu"), "float32", "model"

    # Nothing reads phrases here.
    monkeypatch.setattr(MedclipSam, "mask_for", lambda self, text: self.preset["mask"])
    return twice_seen(MedclipSam(load_preset("demo"), Model(), Model()))  # type: ignore[arg-type]


def one(teacher: TwiceSeen, pixels: np.ndarray) -> SliceResult:
    return teacher.segment_planes([Plane(pixels)], ("disc",), None, None)[0].items[0]  # type: ignore[arg-type]


def test_a_ring_keeps_its_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phrase's own way of cutting counts, as it does where a plane is looked at once: of others holes are filled."""
    monkeypatch.setattr(MedclipSam, "segment_planes", answers)
    teacher = twice_seen(loading.load("demo", device="cpu"))
    pixels = np.zeros((64, 64), np.float32)
    pixels[8:56, 8:56] = 0.9
    pixels[24:40, 24:40] = 0.0
    holes = {}
    for phrase in ("myocardium", "liver"):
        found = teacher.segment_planes([Plane(pixels)], (phrase,), None, None)  # type: ignore[arg-type]
        holes[phrase] = not found[0].items[0].estimate.mask[32, 32]
    assert holes == {"myocardium": True, "liver": False}


class TestFusion:
    def test_what_both_views_see_alike_is_as_it_was(self, teacher: TwiceSeen) -> None:
        pixels = np.zeros((16, 16), np.float32)
        pixels[SQUARE] = 0.9
        found = one(teacher, pixels)
        np.testing.assert_allclose(found.estimate.probability, pixels, atol=1e-6)
        np.testing.assert_array_equal(found.estimate.mask, pixels > 0.5)
        assert found.agreement == pytest.approx(0.8)
        assert len(found.weights) == found.estimate.mask.sum()

    def test_what_they_see_apart_is_trusted_less(self, teacher: TwiceSeen, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second look sees half of it."""
        pixels = np.zeros((16, 16), np.float32)
        pixels[SQUARE] = 0.9
        looks = iter([pixels, np.where(np.arange(16)[:, None] < 8, pixels, 0)[:, ::-1]])
        monkeypatch.setattr(
            MedclipSam, "segment_planes", lambda self, planes, *rest: answers(self, [Plane(next(looks))])
        )
        found = one(teacher, pixels)
        assert found.agreement == pytest.approx(0.8 * 2 * 32 / (64 + 32))
        assert found.presence == pytest.approx(0.9)
        assert found.estimate.probability is not None
        assert found.estimate.probability[10, 4] == pytest.approx(0.45)

    def test_absent_where_the_mean_presence_says_so(self, teacher: TwiceSeen) -> None:
        found = one(teacher, np.full((16, 16), 0.2, np.float32))
        assert not found.present
        assert found.presence == pytest.approx(0.2)

    def test_its_record_says_that_it_looked_twice(self, teacher: TwiceSeen) -> None:
        assert teacher.provenance["preset"]["mirrored"] is True

    def test_another_pipeline_cannot(self) -> None:
        class Other:
            preset = load_preset("demo-salip")

        with pytest.raises(UsageError, match="'demo-salip' cannot look twice"):
            twice_seen(Other())

    def test_an_image_goes_through(self, teacher: TwiceSeen, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = np.zeros((16, 16), np.float32)
        pixels[SQUARE] = 0.9
        result = teacher(Image(pixels), ["disc"])
        np.testing.assert_array_equal(result.targets[0].mask, pixels > 0.5)
