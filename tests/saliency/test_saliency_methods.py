"""What holds for every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder

from lexiseg.errors import BrokenWeights, UsageError
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import SaliencyMethod
from lexiseg.saliency.settings import METHODS, SALIENCY_SETTINGS, explain, make_method, method_class
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray

NAMES = sorted(METHODS)


def test_every_method_has_its_settings() -> None:
    assert set(SALIENCY_SETTINGS) == set(METHODS)
    for name, settings in SALIENCY_SETTINGS.items():
        assert settings.method == name
        assert issubclass(method_class(name), settings)


def test_the_fake_is_an_encoder(encoder: FakeEncoder) -> None:
    assert isinstance(encoder, Encoder)


@pytest.mark.parametrize("name", NAMES)
class TestEveryMethod:
    @pytest.mark.parametrize("framing", ["letterbox", "stretch", "tile", "pyramid"])
    def test_map(
        self, name: str, framing: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        found = explain(encoder, scan, phrases, method=name, framing=framing)
        assert [saliency.phrase for saliency in found] == ["tumor", "heart", "lungs"]
        for saliency in found:
            assert saliency.map.shape == scan.shape
            assert saliency.map.dtype == np.float32
            assert 0 <= saliency.map.min() <= saliency.map.max() <= 1
            assert saliency.layer == ("dense" if name == "dense" else "conv2")

    def test_together_is_one_by_one(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        settings = {"k": 5} if name == "gscorecam" else {}
        together = explain(encoder, scan, phrases, method=name, **settings)
        for phrase, saliency in zip(phrases, together, strict=True):
            (alone,) = explain(encoder, scan, [phrase], method=name, **settings)
            np.testing.assert_allclose(saliency.map, alone.map, atol=1e-5)
            assert saliency.evidence == pytest.approx(alone.evidence, rel=1e-5)

    def test_repeats_to_the_bit(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        first, second = (explain(encoder, scan, phrases, method=name) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert a.map.tobytes() == b.map.tobytes()
            assert a.score == b.score

    def test_grey_is_its_own_colour(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        grey = explain(encoder, scan, phrases, method=name)
        colour = explain(encoder, np.repeat(scan[..., None], 3, axis=2), phrases, method=name)
        for a, b in zip(grey, colour, strict=True):
            np.testing.assert_allclose(a.map, b.map, atol=1e-5)

    def test_evidence_by_hand(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        found = explain(encoder, scan, phrases, method=name, framing="stretch")[1]
        embedding = encoder.embed(frame(encoder, scan))[0]
        scale = encoder.logit_scale
        logit = scale * float(embedding @ encoder.vector("heart"))
        negative = scale * float(embedding @ encoder.vector("background"))
        assert found.evidence["logit"] == pytest.approx(logit, abs=1e-3)
        assert found.score == found.evidence["margin"] == pytest.approx(logit - negative, abs=1e-3)
        share = np.exp(logit) / (np.exp(logit) + np.exp(negative))
        assert found.evidence["global"] == pytest.approx(share, abs=1e-4)

    def test_sigmoid_trained_evidence(self, name: str, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        found = explain(FakeEncoder(bias=-3.0), scan, phrases, method=name)[0]
        assert found.score == found.evidence["logit"]
        assert found.evidence["global"] == pytest.approx(1 / (1 + np.exp(-found.score)))

    def test_no_negatives_no_margin(self, name: str, encoder: FakeEncoder, scan: FloatArray) -> None:
        (found,) = explain(encoder, scan, [PhraseSet("heart", ("heart",))], method=name)
        assert set(found.evidence) == {"logit"}
        assert found.score == found.evidence["logit"]

    def test_embedded_once_for_many_scans(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        embedded = embed_phrases(encoder, phrases)
        fresh = explain(encoder, scan, phrases, method=name)
        encoder.text_calls.clear()
        reused = explain(encoder, scan, embedded, method=name)
        assert encoder.text_calls == []
        np.testing.assert_array_equal(fresh[0].map, reused[0].map)

    def test_text_in_one_call(
        self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        explain(encoder, scan, phrases, method=name, framing="tile")
        assert len(encoder.text_calls) == 1
        assert len(set(encoder.text_calls[0])) == len(encoder.text_calls[0])

    def test_weights_that_are_not_numbers(self, name: str, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        encoder = FakeEncoder()
        encoder.projection[0, 0] = torch.nan
        with pytest.raises(BrokenWeights, match="finite"):
            explain(encoder, scan, phrases, method=name)

    def test_unknown_setting(self, name: str, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        with pytest.raises(UsageError, match=r"'colour'.*framing"):
            explain(encoder, scan, phrases, method=name, colour=1)
        assert encoder.image_calls == encoder.text_calls == []

    def test_is_made_of_its_settings(self, name: str) -> None:
        settings = SALIENCY_SETTINGS[name](framing="tile", tile=40, overlap=0.25, clip_percentile=99)
        method = make_method(settings)
        assert isinstance(method, SaliencyMethod)
        assert method == method_class(name)(framing="tile", tile=40, overlap=0.25, clip_percentile=99)
        assert method != make_method(SALIENCY_SETTINGS[name]())
        assert method.name == settings.method == name


def frame(encoder: FakeEncoder, scan: FloatArray) -> torch.Tensor:
    """The stretched view, by another route than the framing's own."""
    planes = torch.from_numpy(scan).expand(1, 3, *scan.shape)
    return torch.nn.functional.interpolate(planes, size=(encoder.input_size,) * 2, mode="bilinear", antialias=True)


def test_unknown_method() -> None:
    with pytest.raises(UsageError, match=r"'lime'.*gscorecam"):
        method_class("lime")


def test_mixed_phrases(encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
    mixed = [phrases[0], *embed_phrases(encoder, phrases[1:])]
    with pytest.raises(TypeError, match="mix"):
        explain(encoder, scan, mixed)  # type: ignore[arg-type]


def test_nowhere_positive_is_nothing_found(encoder: FakeEncoder, scan: FloatArray) -> None:
    method = method_class("gradcam")()
    (phrase,) = embed_phrases(encoder, [PhraseSet("heart", ("heart",))])
    assert not method.activate(encoder, torch.full((4, 5), -1.0), phrase).any()


class TestManyAtOnce:
    @pytest.mark.parametrize("framing", ["letterbox", "pyramid"])
    @pytest.mark.parametrize(("name", "options"), [("dense", {}), ("dense", {"shifts": 2}), ("gradcam", {})])
    def test_answers_are_those_of_one_by_one(
        self, encoder: FakeEncoder, phrases: list[PhraseSet], name: str, options: dict[str, Any], framing: str
    ) -> None:
        asking: SaliencyMethod = method_class(name)(framing=framing, **options)
        scans = list(np.random.default_rng(7).random((3, 45, 61), dtype=np.float32))
        embedded = embed_phrases(encoder, phrases)
        together = asking.explain_many(encoder, scans, embedded)
        for many, alone in zip(together, [asking.explain(encoder, scan, embedded) for scan in scans], strict=True):
            for first, second in zip(many, alone, strict=True):
                # The same sums in another order: some ulps of numbers in [0, 1].
                np.testing.assert_allclose(first.map, second.map, atol=1e-5)
                assert first.evidence == pytest.approx(second.evidence, abs=1e-4)
                assert (first.phrase, first.layer) == (second.phrase, second.layer)
        if name == "dense" and not options:
            assert encoder.dense_calls[: 1 if framing == "letterbox" else 3][-1] == 3

    def test_a_single_scan_takes_the_path_of_a_single_scan(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        embedded = embed_phrases(encoder, phrases)
        method: SaliencyMethod = method_class("dense")()
        ((first, *_),) = method.explain_many(encoder, [scan], embedded)
        assert first.map.tobytes() == method.explain(encoder, scan, embedded)[0].map.tobytes()

    def test_scans_of_several_shapes_are_refused(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        with pytest.raises(ValueError, match="several shapes"):
            method_class("dense")().explain_many(encoder, [scan, scan[1:]], embed_phrases(encoder, phrases))
