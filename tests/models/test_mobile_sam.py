"""MobileSAM: read as published, answering as published, and shipped in 8 bits."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make_sam_pth
from mobile_sam_file import make_mobile_sam_pt
from PIL import Image as Picture

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.models.loading import load_segmenter
from lexiseg.models.segmenters.mobile_sam import PUBLISHED_SHA256
from lexiseg.models.segmenters.sam import SamImage, SamSegmenter
from lexiseg.models.segmenters.sam_pixels import PillowProcessor
from lexiseg.models.weights.records import BUNDLED, bundled_folder
from lexiseg.models.weights.status import list_models
from lexiseg.values.overlap import dice

# Of mobile_sam.pt, sha256 6dbb90523a35...: its 439 names and shapes, a line each, sorted.
PUBLISHED_LAYOUT = "d794ba6abcfafd91e08aa7d88d0d262661527cf678468f1d83fc4ade45680356"

AS_PUBLISHED = """
import sys, warnings
import torch
warnings.simplefilter("ignore")
from mobile_sam import sam_model_registry
model = sam_model_registry["vit_t"](checkpoint=sys.argv[1]).eval()
torch.manual_seed(0)
pixels = torch.rand(1, 3, 1024, 1024)
with torch.no_grad():
    embedding = model.image_encoder(pixels)
    box = torch.tensor([[100.0, 200.0, 600.0, 500.0]])
    sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
    logits, iou = model.mask_decoder(
        image_embeddings=embedding, image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True)
torch.save({"pixels": pixels, "embedding": embedding, "logits": logits, "iou": iou}, sys.argv[2])
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mobile_sam_pt(tmp_path_factory.mktemp("mobile") / "mobile_sam.pt")


@pytest.fixture(scope="module")
def loaded(published: Path) -> Any:
    return load_segmenter(str(published), device="cpu", precision="float32")


@pytest.fixture(scope="module")
def shipped() -> Any:
    return load_segmenter("mobile-sam", device="cpu", precision="float32")


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.float().contiguous().numpy().tobytes()).hexdigest()


class TestAsPublished:
    def test_the_layout_is_the_published_files(self, published: Path) -> None:
        state = torch.load(published, weights_only=True)
        lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
        assert len(lines) == 439
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_LAYOUT

    def test_every_tensor_is_read(self, published: Path, loaded: Any) -> None:
        idle = ("image_encoder.head.", "image_encoder.norm_head.")
        state = {k: v for k, v in torch.load(published, weights_only=True).items() if not k.startswith(idle)}
        held = {k: v for k, v in loaded.model.state_dict().items() if "prompt_encoder.shared_embedding" not in k}
        assert sorted(map(digest, held.values())) == sorted(map(digest, state.values()))
        tower = held["vision_encoder.tower.stages.3.downsample.conv2.conv.weight"]
        assert torch.equal(tower, state["image_encoder.layers.2.downsample.conv2.c.weight"])

    @pytest.mark.fullsize
    @pytest.mark.skipif(importlib.util.find_spec("mobile_sam") is None, reason="needs pip install mobilesam-mirror")
    def test_its_forward_is_that_of_its_package(self, published: Path, loaded: Any, tmp_path: Path) -> None:
        # In a process of its own: the package puts networks of its own under timm's names.
        out = tmp_path / "answers.pt"
        subprocess.run([sys.executable, "-c", AS_PUBLISHED, str(published), str(out)], check=True)
        theirs = torch.load(out, weights_only=True)
        with torch.no_grad():
            embedding = loaded.model.get_image_embeddings(theirs["pixels"])
        assert torch.allclose(embedding, theirs["embedding"], atol=1e-4)
        image = SamImage((1024, 1024), embedding, (1024, 1024))
        answered = loaded.decode(image, boxes=np.array([[100, 200, 600, 500]], np.float32), multimask=True)
        assert torch.allclose(answered.logits, theirs["logits"], atol=1e-4)
        assert torch.allclose(answered.iou, theirs["iou"], atol=1e-4)

    def test_a_file_that_is_not_the_published_one_is_noted(
        self, published: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="lexiseg"):
            load_segmenter(str(published), device="cpu")
        assert "is not the published mobile_sam.pt; its input is taken to be 1024 pixels" in caplog.text


class TestPixels:
    @pytest.mark.parametrize("shape", [(30, 50), (50, 30), (64, 64), (200, 3)])
    def test_they_are_pillows(self, shape: tuple[int, int]) -> None:
        grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        colour = np.repeat(grey[..., None], 3, axis=2)
        prepared = PillowProcessor(64)(torch.from_numpy(np.moveaxis(colour / np.float32(255), 2, 0)))
        (height, width) = prepared["reshaped_input_sizes"][0].tolist()
        assert max(height, width) == 64
        resized = np.asarray(Picture.fromarray(colour).resize((width, height), Picture.Resampling.BILINEAR))
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])  # as SAM publishes them
        seen = prepared["pixel_values"][0].permute(1, 2, 0).numpy()
        assert np.allclose(seen[:height, :width], (resized - mean) / std, atol=1e-5)
        assert not seen[height:].any()
        assert not seen[:, width:].any()


class TestBadFiles:
    def said(self, path: Path, error: type[Exception] = BrokenWeights) -> str:
        with pytest.raises(error) as raised:
            load_segmenter(str(path), device="cpu")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def changed(self, published: Path, path: Path, *, drop: str = "", add: str = "") -> Path:
        state = torch.load(published, weights_only=True)
        state.pop(drop, None)
        if add:
            state[add] = torch.zeros(1)
        torch.save(state, path)
        return path

    def test_truncated(self, published: Path, tmp_path: Path) -> None:
        (tmp_path / "cut.pt").write_bytes(published.read_bytes()[:100_000])
        assert "cut.pt is not a checkpoint of tensors" in self.said(tmp_path / "cut.pt")

    def test_a_sam_under_its_name_is_read_as_what_it_is(self, tmp_path: Path) -> None:
        renamed = make_sam_pth(tmp_path / "mobile_sam.pt", size="tiny")
        loaded = load_segmenter(str(renamed), device="cpu")
        assert isinstance(loaded, SamSegmenter)
        assert type(loaded.model).__name__ == "SamModel"

    def test_a_tensor_too_many(self, published: Path, tmp_path: Path) -> None:
        said = self.said(self.changed(published, tmp_path / "more.pt", add="image_encoder.extra"))
        assert "extra" in said

    @pytest.mark.parametrize(
        "name",
        ["prompt_encoder.not_a_point_embed.weight", "mask_decoder.mask_tokens.weight", "image_encoder.neck.0.weight"],
    )
    def test_a_tensor_too_few(self, published: Path, tmp_path: Path, name: str) -> None:
        said = self.said(self.changed(published, tmp_path / "less.pt", drop=name))
        assert name.split(".")[1] in said or "vision_encoder.tower.neck" in said

    def test_something_else_beside_the_tensors(self, published: Path, tmp_path: Path) -> None:
        state = torch.load(published, weights_only=True)
        torch.save({**state, "epoch": 3}, tmp_path / "epoch.pt")
        assert "'epoch' is a int" in self.said(tmp_path / "epoch.pt")

    def test_another_network(self, tmp_path: Path) -> None:
        torch.save({"backbone.conv.weight": torch.zeros(3)}, tmp_path / "mobile_sam.pt")
        said = self.said(tmp_path / "mobile_sam.pt", UnknownModel)
        assert "first keys are backbone.conv.weight" in said
        assert "MobileSAM (mobile_sam.pt)" in said


class TestShipped:
    def test_it_is_small_and_has_its_licence(self) -> None:
        folder = bundled_folder("segmenter", "mobile-sam")
        assert sum(file.stat().st_size for file in folder.iterdir()) < 11e6
        assert "Apache License" in (folder / "LICENSE").read_text()
        assert PUBLISHED_SHA256 in (folder / "NOTICE").read_text().replace("\n", " ")
        every = {folder for kind, names in BUNDLED.items() for folder in (bundled_folder(kind, n) for n in names)}
        assert sum(file.stat().st_size for each in every for file in each.rglob("*") if file.is_file()) < 64e6

    def test_it_is_listed(self) -> None:
        row = next(row for row in list_models() if row.id == "mobile-sam")
        assert (row.kind, row.state, row.licence) == ("segmenter", "bundled", "Apache-2.0")
        assert 9 < row.megabytes < 11

    @pytest.mark.parametrize("modality", ["chest-xray"])
    def test_it_draws_what_is_boxed(self, shipped: Any, modality: str) -> None:
        phantom = generate(modality, 100, target=True)
        pixels, name = phantom.scan.pixels, "left lung" if modality == "chest-xray" else phantom.phrase
        truth = phantom.mask(name)
        rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
        image = shipped.encode(pixels)
        decoded = shipped.decode(image, boxes=box)
        drawn = (shipped.upsample(decoded.logits[0, 0], image) > 0).numpy()
        assert dice(drawn, truth) > 0.8

    def test_it_says_where_it_comes_from(self, shipped: Any) -> None:
        assert shipped.weights.licence == "Apache-2.0"
        assert shipped.weights.revision == "mobile_sam.pt"
