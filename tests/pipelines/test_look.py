"""How grey levels are changed before models see them, and which change a pool of scans asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lexiseg.errors import UsageError
from lexiseg.pipelines.look import LookSettings
from lexiseg.pipelines.medclip_sam import MedclipSam, Sureness
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.tuning import LOOKS, Trial, Tuning, tune_label_free
from lexiseg.values.scans import Image, Plane


class TestLook:
    def test_as_they_are_unless_told(self) -> None:
        pixels = np.random.default_rng(0).random((4, 5), np.float32)
        assert LookSettings().apply(pixels) is pixels
        assert load_preset("demo")["look"].plain

    def test_a_negative_of_a_negative_is_the_scan(self) -> None:
        pixels = np.random.default_rng(1).random((4, 5), np.float32)
        twice = LookSettings(invert=True).apply(LookSettings(invert=True).apply(pixels))
        # 1 - (1 - p) in float32: half a unit in the last place of 1.
        np.testing.assert_allclose(twice, pixels, atol=6e-8)

    def test_a_plane_keeps_its_place(self) -> None:
        plane = Plane(np.full((2, 2), 0.25, np.float32), id="a", index=3, spacing=(1.0, 2.0))
        found = LookSettings(gamma=0.5).show(plane)
        np.testing.assert_allclose(found.pixels, 0.5)
        assert (found.id, found.index, found.spacing) == ("a", 3, (1.0, 2.0))

    def test_sharpening_a_step_makes_it_steeper_and_leaves_the_flat(self) -> None:
        edge = np.where(np.arange(100) < 50, np.float32(0.3), np.float32(0.7))
        blurred = gaussian_filter(np.repeat(edge[None], 80, 0), 1)
        found = LookSettings(sharpen=6.0).apply(blurred)
        assert np.diff(found, axis=1).max() > 1.5 * np.diff(blurred, axis=1).max()
        np.testing.assert_allclose(found[:, :20], blurred[:, :20], atol=1e-6)

    def test_each_channel_is_sharpened_by_itself(self) -> None:
        pixels = np.random.default_rng(2).random((30, 40, 3), np.float32)
        found = LookSettings(sharpen=2.0).apply(pixels)
        np.testing.assert_array_equal(found[..., 1], LookSettings(sharpen=2.0).apply(pixels[..., 1]))

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [({"invert": 1}, "invert is 1"), ({"gamma": 0}, "gamma is 0"), ({"sharpen": -1}, "sharpen is -1")],
    )
    def test_values_that_it_cannot_have(self, wrong: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            load_preset("demo", look=wrong)


class TestTuning:
    @pytest.fixture
    def teacher(self, monkeypatch: pytest.MonkeyPatch) -> MedclipSam:
        """Surest of scans whose mean is a quarter, as those that it knows."""

        def sureness(self: MedclipSam, plane: Plane, asked: tuple[str, ...]) -> Sureness:
            seen = self._look.show(plane).pixels
            return Sureness((1 - abs(float(seen.mean()) - 0.25),) * len(asked))

        monkeypatch.setattr(MedclipSam, "sureness", sureness)

        class Model:
            device, precision, name = "cpu", "float32", "model"

        return MedclipSam(load_preset("demo"), Model(), Model())  # type: ignore[arg-type]

    def chosen(self, teacher: MedclipSam, level: float) -> Any:
        scans = [(Image(np.full((4, 4), level, np.float32), id=f"s{k}"), ["disc"]) for k in range(3)]
        return tune_label_free(teacher, scans)

    def test_negatives_are_seen_as_what_they_are_of(self, teacher: MedclipSam) -> None:
        found = self.chosen(teacher, 0.75)
        assert found.choice == {"look": {"invert": True}}
        assert [trial.changes for trial in found.trials] == list(LOOKS)
        assert found.as_dict()["choice"] == {"look": {"invert": True}}

    @pytest.mark.parametrize(("negatives", "chosen"), [(8, {}), (10, {"look": {"invert": True}})])
    def test_a_few_scans_do_not_speak_for_all(self, teacher: MedclipSam, negatives: int, chosen: Any) -> None:
        # Negatives gain 0.5 each, others lose 0.2: the mean is surer with two of three of them already.
        levels = [0.75] * negatives + [0.4] * (12 - negatives)
        scans = [(Image(np.full((4, 4), level, np.float32), id=f"s{k}"), ["disc"]) for k, level in enumerate(levels)]
        found = tune_label_free(teacher, scans)
        assert found.trials[1].score > found.trials[0].score + found.margin
        assert found.trials[1].surer == pytest.approx(negatives / 12)
        assert found.choice == chosen

    def test_a_phrase_that_is_nowhere_does_not_speak(
        self, teacher: MedclipSam, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = MedclipSam.sureness
        monkeypatch.setattr(
            MedclipSam,
            "sureness",
            lambda self, plane, asked: Sureness((*own(self, plane, asked[:1]).phrases, 0.0, 0.0)),
        )
        scans = [(Image(np.full((4, 4), 0.75, np.float32), id=f"s{k}"), ["disc", "ring", "net"]) for k in range(4)]
        found = tune_label_free(teacher, scans)
        assert found.trials[1].surer == 1.0 and found.choice == {"look": {"invert": True}}

    @pytest.mark.parametrize(("kind", "chosen"), [(0.72, {}), (0.96, {"look": {"invert": True}})])
    def test_a_look_must_not_make_a_stranger_kind_of_scan(
        self, teacher: MedclipSam, monkeypatch: pytest.MonkeyPatch, kind: float, chosen: Any
    ) -> None:
        # A polyp is found in the negatives of moles, which are skin to the judge of kinds as long as they are none.
        own = MedclipSam.sureness

        def judged(self: MedclipSam, plane: Plane, asked: tuple[str, ...]) -> Sureness:
            return replace(own(self, plane, asked), kind=kind if self._look.invert else 1.0)

        monkeypatch.setattr(MedclipSam, "sureness", judged)
        found = self.chosen(teacher, 0.75)
        assert found.choice == chosen and found.trials[1].kind == pytest.approx(kind)

    def test_scans_that_are_as_they_should_be_stay(self, teacher: MedclipSam) -> None:
        assert self.chosen(teacher, 0.25).choice == {}

    def test_a_look_must_be_surer_by_more_than_chance(self) -> None:
        trials = (Trial({}, 0.8), Trial({"look": {"gamma": 2.0}}, 0.89))
        assert Tuning(trials, ("a",), margin=0.1).choice == {}
        assert Tuning(trials, ("a",), margin=0.05).choice == {"look": {"gamma": 2.0}}

    def test_a_look_must_be_sure_of_something(self) -> None:
        trials = (Trial({}, 0.02), Trial({"look": {"sharpen": 6.0}}, 0.23, surest=0.23))
        assert Tuning(trials, ("a",), margin=0.03, least=0.4).choice == {}


def test_the_bundled_models_are_surer_of_a_scan_than_of_its_negative() -> None:
    from lexiseg.datasets.phantoms.registry import generate
    from lexiseg.pipelines.loading import load

    scan = generate("chest-xray", 0).scan
    pipeline: Any = load("demo", device="cpu", precision="float32")
    negative = Image(1 - scan.pixels, id="negative")
    assert tune_label_free(pipeline, [(scan, ["lungs"])]).choice == {}
    assert tune_label_free(pipeline, [(negative, ["lungs"])]).choice == {"look": {"invert": True}}
