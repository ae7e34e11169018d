"""Encoders of every kind come out of training as folders that load offline and answer as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import make_biomedclip_folder
from safetensors.torch import save_file
from towers import make_tower_folder

from lexiseg.models.encoders.open_clip_known import FILE, pack_known
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.records import read_record
from lexiseg.models.weights.status import check_model
from lexiseg.training.finetuning.export import export_encoder
from lexiseg.training.finetuning.finetune import finetune
from lexiseg.training.finetuning.settings import FinetuneSettings

PHRASES = ["breast tumor", "left lung"]


def assert_alike(first: Any, second: Any) -> None:
    assert torch.equal(first.encode_text(PHRASES), second.encode_text(PHRASES))
    pixels = torch.rand(1, 3, first.input_size, first.input_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.encode_image(pixels), second.encode_image(pixels))
    assert torch.equal(first.mean, second.mean)
    assert first.logit_scale == second.logit_scale


class TestExport:
    @pytest.mark.parametrize("kind", ["CLIP ResNet", "timm ViT, class token", "timm ConvNeXt"])
    def test_open_clips_own_text_tower(self, kind: str, tmp_path: Path) -> None:
        encoder = load_encoder(str(make_tower_folder(tmp_path / "a", kind)), device="cpu", precision="float32")
        export_encoder(encoder, encoder.model, tmp_path / "b")
        assert_alike(encoder, load_encoder(str(tmp_path / "b"), device="cpu", precision="float32"))
        assert check_model(str(tmp_path / "b")).ok

    def test_biomedclips_layout_offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        source = make_biomedclip_folder(tmp_path / "a", size="tiny")
        encoder = load_encoder(str(source), device="cpu", precision="float32")
        export_encoder(encoder, encoder.model, tmp_path / "b")
        (tmp_path / "b").rename(tmp_path / "moved")
        assert_alike(encoder, load_encoder(str(tmp_path / "moved"), device="cpu", precision="float32"))

    def test_biomedclips_layout_can_be_trained(self, pairs_csv: Path, tmp_path: Path) -> None:
        source = make_biomedclip_folder(tmp_path / "a", size="tiny")
        settings = FinetuneSettings(epochs=1, batch=8, chunk=4, precision="float32", validation=0.3)
        finetune(pairs_csv, tmp_path / "b", encoder=str(source), settings=settings, device="cpu")
        found = load_encoder(str(tmp_path / "b"), device="cpu", offline=True)
        assert found.encode_text(PHRASES).isfinite().all()

    def test_known_wordings_are_left_behind_and_that_is_said(
        self, pairs_csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = make_biomedclip_folder(tmp_path / "a", size="tiny")
        tensors, about = pack_known(torch.eye(32), ["lungs"] * 32, least=0.5)
        save_file(tensors, tmp_path / "a" / FILE, metadata=about)
        settings = FinetuneSettings(epochs=1, batch=8, chunk=4, precision="float32", validation=0.3)
        finetune(pairs_csv, tmp_path / "b", encoder=str(source), settings=settings, device="cpu")
        assert sum("is not carried over" in record.getMessage() for record in caplog.records) == 1
        found: Any = load_encoder(str(tmp_path / "b"), device="cpu", offline=True)
        assert not found.judges_words

    @pytest.mark.fullsize
    def test_the_bundled_licence_goes_along(self, tmp_path: Path) -> None:
        encoder = load_encoder("bundled", device="cpu", precision="float32")
        export_encoder(encoder, encoder.model, tmp_path)
        record = read_record(tmp_path)
        assert record is not None and encoder.weights is not None
        assert record.licence == encoder.weights.licence != ""
        # Fresh: a model that was taken out to be trained answers without what is folded for answering only.
        fresh: Any = load_encoder("bundled", device="cpu", precision="float32")
        fresh._known = None  # which wordings it was taught is not carried over
        assert_alike(fresh, load_encoder(str(tmp_path), device="cpu", precision="float32"))
