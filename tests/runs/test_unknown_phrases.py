"""What a pipeline and a run make of phrases that the encoder was not taught."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from scans_of import dense_preset, volume_of
from torch import Tensor

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import Preset
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions, RunRequest, RunSummary, segment_files, wanted_threshold, with_threshold
from lexiseg.runs.table import COLUMNS, read_results
from lexiseg.saliency.thresholds import Seen
from lexiseg.values.scans import Image

PRESET = dense_preset()


class Reddish(NamedColours):
    """Whatever is asked for, it is what is red."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.weights = WeightsInfo(name=name, path=Path("weights"), sha256="0" * 64)

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        asked = [any(word in text for word in ("heart", "prostate", "lung")) for text in phrases]
        return torch.tensor([(1.0, 0.0, 0.0) if each else (-0.6, -0.6, -0.6) for each in asked])


class Listening(Reddish):
    """One that was taught English: "ticker" sounds like the heart, "gut" like nothing that can be drawn."""

    judges_words = True
    words: frozenset[str] = frozenset()

    def names(self, phrase: str) -> str | None:
        return {"ticker": "heart", "gut": ""}.get(phrase)


def pipeline(encoder: str = "bundled") -> MedclipSam:
    return MedclipSam(PRESET, Reddish(encoder), FakeSegmenter())


@pytest.fixture
def scan() -> Image:
    pixels = np.zeros((64, 64, 3), np.float32)
    pixels[16:48, 16:32] = (1, 0, 0)
    return Image(pixels, id="s")


class TestPipeline:
    def test_an_unknown_phrase_is_no_finding_and_has_no_confidence(self, scan: Image) -> None:
        heart, prostate = pipeline()(scan, ["heart", "prostate"], keep_stages=True).targets
        assert (heart.verdict, prostate.verdict) == ("present", "unknown")
        assert not prostate.present and not prostate.mask.any()
        assert math.isnan(prostate.confidence)
        assert prostate.presence == pytest.approx(heart.presence)  # as measured
        assert prostate.saliency and all(each.empty for each in prostate.prompts)

    def test_the_mask_of_a_known_phrase_is_what_it_is_alone(self, scan: Image) -> None:
        alone = pipeline()(scan, "heart")
        beside = pipeline()(scan, ["prostate", "heart"])
        np.testing.assert_array_equal(beside["heart"].mask, alone["heart"].mask)
        np.testing.assert_array_equal(beside.mask.labels, 2 * alone.mask.labels)

    def test_phrases_of_other_encoders_are_never_unknown(self, scan: Image) -> None:
        result = pipeline("hf-hub:org/model")(scan, ["prostate", "heart and lungs"])
        assert [target.verdict for target in result.targets] == ["present", "present"]

    def test_a_list_of_targets_is_refused(self, scan: Image) -> None:
        with pytest.raises(BadPhrase, match="names 2 targets"):
            pipeline()(scan, "heart and lungs")

    def test_what_a_phrase_is_read_as_is_in_the_result(self, scan: Image) -> None:
        segment = MedclipSam(PRESET, Listening("bundled"), FakeSegmenter())
        result = segment(scan, ["heart", "ticker", "gut", "bicycle"])
        assert [target.read_as for target in result.targets] == [None, "heart", "", None]
        assert [target.verdict for target in result.targets] == ["present", "present", "absent", "unknown"]
        np.testing.assert_array_equal(result["ticker"].mask, result["heart"].mask)

    def test_a_volume(self) -> None:
        volume = volume_of(np.random.default_rng(0).random((3, 32, 32), dtype=np.float32))
        result = pipeline()(volume, ["prostate", "heart"])
        assert result["prostate"].verdict == "unknown"
        assert result["prostate"].mask.shape == volume.shape and not result["prostate"].mask.any()
        assert result["heart"].verdict in ("present", "absent")


class TestRun:
    @pytest.fixture
    def folder(self, tmp_path: Path, scan: Image) -> Path:
        for name in "ab":
            Pillow.fromarray((scan.pixels * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
        return tmp_path

    def test_is_said_once_counted_and_written_down(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        phrases, out = ["heart", "prostate"], folder / "out"
        with caplog.at_level(logging.WARNING, "lexiseg"):
            summary = run_batch(pipeline(), gather_items([folder], phrases=phrases), out, phrases=phrases)
        assert [record.message.split(",")[0] for record in caplog.records] == [
            "'prostate' is unknown to the bundled models"
        ]
        rows = read_results(out / "results.csv")
        assert [(row.verdict, row.present) for row in rows] == [("present", "true"), ("unknown", "false")] * 2
        assert all((row.confidence == "") == (row.verdict == "unknown") and row.presence for row in rows)
        assert (summary.done, summary.absent, summary.unknown) == (2, 0, 2)
        assert str(summary).startswith("2 done, 0 absent, 2 unknown, 0 failed in")
        assert json.loads((out / "run.json").read_text())["counts"]["unknown"] == 2
        assert not np.asarray(Pillow.open(out / "a_mask_prostate.png")).any()

    def test_what_a_phrase_is_read_as_is_said_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        phrases, segment = ["ticker", "gut"], MedclipSam(PRESET, Listening("bundled"), FakeSegmenter())
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run_batch(segment, gather_items([folder], phrases=phrases), folder / "out", phrases=phrases)
        heart, gut = [record.message for record in caplog.records if "is read as" in record.message]
        assert heart.startswith("'ticker' is read as 'heart'")
        assert gut.startswith("'gut' is read as none of the targets") and "absent everywhere" in gut

    def test_what_a_phrase_is_read_as_is_in_the_table(self, folder: Path) -> None:
        phrases, segment = (
            ["heart", "ticker", "gut", "bicycle"],
            MedclipSam(PRESET, Listening("bundled"), FakeSegmenter()),
        )
        run_batch(segment, gather_items([folder], phrases=phrases), folder / "out", phrases=phrases)
        rows = read_results(folder / "out" / "results.csv")
        assert [row.read_as for row in rows] == ["", "heart", "", ""] * 2

    def test_a_run_from_before_the_column_is_resumed(self, folder: Path) -> None:
        out, table = folder / "out", folder / "out" / "results.csv"

        def run(inputs: Sequence[Path], *, resume: bool = False) -> RunSummary:
            segment = MedclipSam(PRESET, Listening("bundled"), FakeSegmenter())
            items = gather_items(inputs, phrases=["ticker"])
            return run_batch(segment, items, out, phrases=["ticker"], options=RunOptions(resume=resume))

        run([folder / "a.png"])
        before = read_results(table)
        lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
        table.write_text("".join(f"{line}\n" for line in lines))
        summary = run([folder / "a.png", folder / "b.png"], resume=True)
        assert (summary.done, summary.skipped) == (2, 1)
        assert table.read_text().splitlines()[0] == ",".join(COLUMNS)
        a, b = read_results(table)
        assert a == replace(before[0], read_as="") and b.read_as == "heart"

    def test_unknown_is_not_counted_as_absent(self, folder: Path) -> None:
        items = gather_items([folder], phrases=["prostate"])
        summary = run_batch(pipeline(), items, folder / "out", phrases=["prostate"])
        assert (summary.absent, summary.unknown) == (0, 2)

    def test_a_list_is_refused_before_any_model_is_loaded(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lexiseg.pipelines.loading.load", lambda *_, **__: pytest.fail("loaded"))
        request = RunRequest(out=folder / "out", inputs=[folder], phrases=["heart and lungs"])
        with pytest.raises(BadPhrase, match='--text "heart" --text "lungs"'):
            segment_files(request)
        assert not (folder / "out").exists()

    def test_a_list_in_a_manifest_costs_its_row(self, folder: Path) -> None:
        (folder / "m.csv").write_text("id,image,text\na,a.png,heart and lungs\nb,b.png,heart\n")
        summary = run_batch(pipeline(), gather_items(manifest=folder / "m.csv"), folder / "out")
        assert (summary.done, summary.failed) == (1, 1)
        assert "names 2 targets" in read_results(folder / "out" / "results.csv")[0].error

    @pytest.mark.parametrize(
        ("encoder", "verdict", "told"),
        [
            ("bundled", "unknown", "'no heart' asks for what is not there, so nothing is drawn"),
            ("hf-hub:org/model", "present", "'no heart' denies what it names, and encoders read past that"),
        ],
    )
    def test_a_denial_is_told_once_and_drawn_by_no_bundled_model(
        self, folder: Path, caplog: pytest.LogCaptureFixture, encoder: str, verdict: str, told: str
    ) -> None:
        phrases = ["no heart"]
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run_batch(pipeline(encoder), gather_items([folder], phrases=phrases), folder / "out", phrases=phrases)
        assert [record.message.startswith(told) for record in caplog.records] == [True]
        assert [row.verdict for row in read_results(folder / "out" / "results.csv")] == [verdict] * 2


class Shut:
    """No kind of scan in view can hold a heart."""

    def share(self, embeddings: Tensor, text: str) -> float:
        return 0.02 if text == "heart" else 1.0

    def holders(self, text: str) -> None:
        """Of a whole volume nothing is said."""


class TestKindsOfScan:
    @pytest.fixture(autouse=True)
    def shut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MedclipSam, "kinds", Shut())

    def test_what_no_kind_in_view_can_hold_is_absent(self, scan: Image) -> None:
        heart, lungs = pipeline()(scan, ["heart", "lungs"]).targets
        assert (heart.verdict, lungs.verdict) == ("absent", "present")
        assert (heart.other_kind, lungs.other_kind) == (True, False)
        assert heart.presence == pytest.approx(0.02) and heart.confidence == pytest.approx(0.98)

    def test_a_volume_is_judged_slice_by_slice(self) -> None:
        volume = volume_of(np.random.default_rng(0).random((3, 32, 32), dtype=np.float32))
        heart = pipeline()(volume, "heart").targets[0]
        assert heart.verdict == "absent" and heart.other_kind

    def test_a_run_says_it_once(self, tmp_path: Path, scan: Image, caplog: pytest.LogCaptureFixture) -> None:
        for name in "ab":
            Pillow.fromarray((scan.pixels * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
        items = gather_items([tmp_path], phrases=["heart", "lungs"])
        with caplog.at_level(logging.WARNING, "lexiseg"):
            run_batch(pipeline(), items, tmp_path / "out", phrases=["heart", "lungs"])
        kinds = [record.message for record in caplog.records if "kind" in record.message]
        assert kinds == [
            "'heart' is absent from 2 of 2 scans because of their kind: they look like none that can hold it"
        ]

    def test_a_gate_that_was_fitted_to_other_weights_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert pipeline().kinds is None and pipeline("hf-hub:org/model").kinds is None


class TestThresholds:
    """`--threshold auto:...` is the number of the target that the loaded encoder reads a phrase as."""

    SEEN: ClassVar = {"heart": Seen(present=(0.4, 0.6, 0.8, 0.9), absent=(0.1, 0.2))}

    @pytest.fixture
    def encoder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "encoder"
        folder.mkdir()
        record = {name: {"present": seen.present, "absent": seen.absent} for name, seen in self.SEEN.items()}
        (folder / "presence.yaml").write_text(json.dumps({"targets": record}))
        return folder

    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[Preset]:
        """The presets that a model was loaded for."""
        found: list[Preset] = []

        def load(preset: Preset, **_: Any) -> MedclipSam:
            found.append(preset)
            own = PRESET.override(presence={"global_weight": preset["presence"].global_weight})
            return MedclipSam(own, Listening("bundled"), FakeSegmenter())

        monkeypatch.setattr("lexiseg.pipelines.loading.load", load)
        return found

    def request(self, encoder: Path, threshold: object, *phrases: str) -> RunRequest:
        changes = {"encoder": str(encoder), "presence": {"threshold": threshold, "global_weight": 0.25}}
        return RunRequest(out=encoder / "out", inputs=[encoder], phrases=phrases, changes=changes)

    @pytest.mark.parametrize("phrase", ["heart", "ticker"])
    def test_a_run_has_the_targets_however_it_is_worded(
        self, encoder: Path, loaded: list[Preset], scan: Image, phrase: str
    ) -> None:
        Pillow.fromarray((scan.pixels * 255).astype(np.uint8)).save(encoder / "a.png")
        segment_files(self.request(encoder, "auto:sensitivity=0.75", phrase))
        made = json.loads((encoder / "out" / "run.json").read_text())["preset"]["presence"]
        assert (made["threshold"], made["global_weight"]) == (0.6, 0.25)
        assert len(loaded) == 1

    @pytest.mark.parametrize("phrase", ["krontium", "gut", "no heart", "lungs"])
    def test_what_has_none_is_told_in_one_line(self, encoder: Path, loaded: list[Preset], phrase: str) -> None:
        segment = MedclipSam(PRESET, Listening("bundled"), FakeSegmenter())
        with pytest.raises(UsageError, match=rf"is not known for '{phrase}'.*these there were: heart\); give a number"):
            with_threshold(segment, [phrase], self.SEEN, "auto:sensitivity=0.9")

    def test_words_decide_where_the_encoder_hears_nothing(self) -> None:
        segment = pipeline("hf-hub:org/model")
        made = with_threshold(segment, ["the heart"], self.SEEN, "auto:sensitivity=1")
        assert made.threshold == 0.4 and segment.threshold == 0.5
        assert (made.encoder, made.segmenter) == (segment.encoder, segment.segmenter)

    def test_a_number_stays(self, encoder: Path) -> None:
        request = self.request(encoder, 0.25, "heart")
        assert wanted_threshold(request) == (request.changes, None)
        assert wanted_threshold(RunRequest(out=encoder)) == ({}, None)

    @pytest.mark.parametrize(
        ("threshold", "phrases", "told"),
        [
            ("high", ["heart"], "threshold is 'high'; expected 0 to 1, auto:sensitivity=X"),
            ("auto:sensitivity=0.9", [], "needs --text"),
        ],
    )
    def test_what_cannot_be_read_is_told_before_anything_else(
        self, encoder: Path, loaded: list[Preset], threshold: str, phrases: list[str], told: str
    ) -> None:
        with pytest.raises(UsageError, match=told):
            segment_files(self.request(encoder, threshold, *phrases))
        assert not loaded and not (encoder / "out").exists()

    def test_an_encoder_without_a_record_has_none(self, encoder: Path, loaded: list[Preset]) -> None:
        (encoder / "presence.yaml").unlink()
        with pytest.raises(UsageError, match="carries no record of scans that were kept back; give a number"):
            segment_files(self.request(encoder, "auto:specificity=0.9", "heart"))
        assert not loaded and not (encoder / "out").exists()
