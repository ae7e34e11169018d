"""The recipe's augmentation, supervision, losses, loop and export."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recipe.augment import AugmentSettings, augment
from recipe.data import Sample, phantom_samples
from recipe.encoder import losses
from recipe.segmenter import SegmenterTask, mask_losses
from recipe.supervision import Question, Supervision, supervise

lightning = pytest.importorskip("lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'")


def chest(size: int = 64) -> Sample:
    image = np.full((size, size), 100, np.uint8)
    right, left = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    right[10:50, 8:28] = 1
    left[10:50, 36:56] = 1
    masks = {"lungs": right | left, "right lung": right, "left lung": left}
    return Sample(image, (size, size), masks, frozenset({"tumor"}), "chest", "cxr", "lungs on the left and right")


STILL = AugmentSettings(flip=0, view=0, rotation=0, shift=0, zoom=(1, 1), stretch=0, intensity=0, noise=0, blur=0)


class TestAugment:
    def test_plain_changes_nothing(self) -> None:
        view = augment(chest(), 64, np.random.default_rng(0), AugmentSettings(), 0.25, plain=True)
        assert torch.allclose(view.pixels, torch.full((64, 64), 100 / 255), atol=1e-5)
        assert view.visible["lungs"] == pytest.approx(1.0, abs=0.05)

    def test_a_mirrored_left_lung_is_a_right_lung(self) -> None:
        settings = AugmentSettings(flip=1.0, view=0.0, rotation=0, shift=0, zoom=(1, 1), stretch=0)
        for seed in range(8):
            view = augment(chest(), 64, np.random.default_rng(seed), settings, 0.25)
            columns = torch.nonzero(view.masks["left lung"] > 0.5)[:, 1].float()
            assert float(columns.mean()) > 7.5

    def test_what_is_hidden_is_not_visible(self) -> None:
        settings = AugmentSettings(view=1.0)
        seen = [augment(chest(), 64, np.random.default_rng(s), settings, 0.25).visible["left lung"] for s in range(40)]
        assert min(seen) < 0.05
        assert max(seen) > 0.8

    def test_same_seed_same_view(self) -> None:
        first, second = (augment(chest(), 64, np.random.default_rng(5), AugmentSettings(), 0.25) for _ in range(2))
        assert torch.equal(first.pixels, second.pixels)

    def test_masks_bend_with_the_pixels(self) -> None:
        sample = chest(128)
        image = np.where(np.kron(chest().masks["lungs"], np.ones((2, 2))) == 1, 250, 20).astype(np.uint8)
        masks = {name: np.kron(mask, np.ones((2, 2), np.uint8)) for name, mask in chest().masks.items()}
        sample = dataclasses.replace(sample, image=image, masks=masks)
        bent = dataclasses.replace(STILL, bend=1.0, bend_by=0.03)
        moved = 0.0
        for seed in range(6):
            view = augment(sample, 128, np.random.default_rng(seed), bent, 0.08, mask_stride=2)
            pixels = torch.nn.functional.avg_pool2d(view.pixels[None], 2)[0] > 0.5
            drawn = view.masks["lungs"] > 0.5
            assert 2 * float((pixels & drawn).sum()) / float(pixels.sum() + drawn.sum()) > 0.96
            moved += float((drawn != (torch.from_numpy(masks["lungs"])[::2, ::2] == 1)).float().mean()) / 6
        assert moved > 0.02

    def test_gain_differs_from_place_to_place_in_ultrasound_only(self) -> None:
        uneven = dataclasses.replace(STILL, uneven_gain=1.0)
        breast = dataclasses.replace(chest(), organ="breast", masks={}, source="busi")
        marked = [
            [augment(s, 64, np.random.default_rng(k), uneven, 0.25).pixels.median(1).values for k in range(4)]
            for s in (chest(), breast)
        ]
        assert max(float(rows.std()) for rows in marked[0]) < 0.01
        assert min(float(rows.std()) for rows in marked[1]) > 0.01


class TestSupervision:
    def test_present_absent_unknown(self) -> None:
        sample = chest()
        view = augment(sample, 64, np.random.default_rng(0), AugmentSettings(), 0.25, plain=True)
        asked = [
            Question("lungs", "lungs"),
            Question("heart", "heart"),
            Question("breast mass", "breast tumor"),
            Question("zorp"),
        ]
        known = supervise([sample], [view], asked, 4)
        assert known.weights.tolist() == [[1, 0, 1, 1]]
        assert known.presence.tolist() == [[1, -1, 0, 0]]
        targets = known.targets
        assert float(targets[0, 0].mean()) == pytest.approx(float(sample.masks["lungs"].mean()), abs=0.02)
        assert float(targets[0, 2:].abs().sum()) == 0

    def test_right_answers_cost_less_than_wrong_ones(self) -> None:
        targets = torch.zeros(1, 2, 4, 4)
        targets[0, 0, 1:3, 1:3] = 1
        text = nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), dim=-1)

        def total(inside: list[float], outside: list[float]) -> float:
            dense = torch.tensor(outside, dtype=torch.float32)[None, :, None, None].expand(1, 3, 4, 4).clone()
            dense[0, :, 1:3, 1:3] = torch.tensor(inside, dtype=torch.float32)[:, None, None]
            known = Supervision(
                targets,
                torch.ones(1, 2),
                torch.tensor([[1.0, 0.0]]),
                torch.zeros(1, 2, dtype=torch.bool),
                torch.zeros(2, dtype=torch.bool),
            )
            whole = torch.tensor([inside], dtype=torch.float32)
            terms = losses(dense, whole, text, known, scale=torch.tensor(10.0), bias=torch.tensor(-5.0))
            return float(sum(terms.values()))

        assert total([1, 0, 0], [0, 0, 1]) < total([0, 0, 1], [0, 0, 1]) < total([0, 1, 0], [1, 0, 0])


BOX = torch.tensor([[[4.0, 4, 12, 12]]])


class TestMaskLosses:
    def test_a_perfect_mask_costs_nothing_and_its_iou_is_one(self) -> None:
        masks = torch.zeros(1, 1, 16, 16)
        masks[..., 4:12, 4:12] = 1
        logits = ((masks * 2 - 1) * 20)[:, :, None]
        drawn, iou = mask_losses(logits, torch.ones(1, 1, 1), masks, BOX, torch.ones(1, 1))
        assert float(drawn) < 0.01
        assert float(iou) == 0

    def test_the_best_of_three_counts(self) -> None:
        masks = torch.zeros(1, 1, 16, 16)
        masks[..., 4:12, 4:12] = 1
        good = (masks * 2 - 1) * 20
        three = torch.stack([-good, good, -good], 2)
        drawn, _ = mask_losses(three, torch.ones(1, 1, 3), masks, BOX, torch.ones(1, 1))
        wrong, _ = mask_losses(-good[:, :, None], torch.ones(1, 1, 1), masks, BOX, torch.ones(1, 1))
        assert float(drawn) < 0.2 * float(wrong)


TINY_SEGMENTER = {
    "image_size": 64, "image_tower": "fpn_tiny_vit_5m_stem", "stride": 8, "channels": 16, "batch": 2,
    "prompts": 2, "warmup": 1,
    "phases": [{"steps": 4, "lr": 1e-3, "lesions": 0.5}], "shares": {"phantom": 1.0},
}  # fmt: skip
TINY_ENCODER = {
    "mean": 0.25, "std": 0.25, "embed_dim": 16, "image_tower": "mobilenetv4_conv_small_035", "image_size": 64,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "init_logit_scale": 2.3, "init_logit_bias": -4.0, "warmup": 1, "shares": {"phantom": 1.0},
    "phases": [{"resolution": 64, "batch": 4, "steps": 2, "lr": 1e-3}],
    "loss": {"dense": 1.0, "dice": 1.0, "negative": 1.0, "close": 0.5, "presence": 0.6, "caption": 0.15},
}  # fmt: skip


TINY_UNET = {
    "size": 64, "widths": [4, 8, 16], "residual_units": 1, "warmup": 1, "shares": {"phantom": 1.0},
    "phases": [{"batch": 4, "steps": 2, "lr": 1e-3}],
}  # fmt: skip


class TestTasks:
    def test_every_weight_of_the_segmenter_is_trained(self) -> None:
        torch.manual_seed(0)
        task = SegmenterTask(TINY_SEGMENTER, list(phantom_samples(4, 128, 0)), 0)
        torch.stack(list(task.loss(task.batch(0), torch.device("cpu")).values())).sum().backward()
        idle = {n for n, p in task.model.vision_encoder.named_parameters() if p.grad is None}
        assert not idle

    def test_a_step_of_the_unet_always_sees_the_same(self) -> None:
        from recipe.unet import UnetTask

        one, other = (UnetTask(TINY_UNET, list(phantom_samples(8, 128, 0)), 0) for _ in range(2))
        here = torch.device("cpu")
        (first,), (again,), (later,) = (
            task.loss(task.batch(step), here).values() for task, step in ((one, 0), (other, 0), (one, 1))
        )
        assert torch.equal(first, again) and not torch.equal(first, later)
        first.backward()
        assert all(p.grad is not None for p in one.model.parameters())

    def test_students_begin_from_what_is_exported(self, tmp_path: Path) -> None:
        from lexiseg.training.students.start import read_start
        from recipe.export import export_unet
        from recipe.unet import UnetTask

        settings = {**TINY_UNET, "widths": [4, 8, 72]}
        task = UnetTask(settings, list(phantom_samples(4, 128, 0)), 0)
        export_unet(task.model, settings, tmp_path)
        start = read_start(str(tmp_path))
        assert start is not None
        own = task.model.state_dict()
        assert start.tensors.keys() == own.keys()
        assert all(torch.allclose(v, own[n], atol=2e-3) for n, v in start.tensors.items())  # fp16, 8 bits
        assert "whatever the phrase" in (tmp_path / "README.md").read_text()
        assert not (tmp_path / "scans.csv").exists()

    def test_what_is_exported_is_what_the_registry_loads(self, tmp_path: Path) -> None:
        from lexiseg.models.loading import load_encoder, load_segmenter
        from recipe.encoder import EncoderTask, dense_features
        from recipe.export import export_encoder, export_segmenter

        torch.manual_seed(0)
        random.seed(0)
        found = list(phantom_samples(8, 128, 0))
        task = EncoderTask(TINY_ENCODER, found, 0)
        terms = task.loss(task.batch(0), torch.device("cpu"))
        assert all(torch.isfinite(v) for v in terms.values())
        model = task.model.eval()
        export_encoder(model, TINY_ENCODER, tmp_path / "clip")
        encoder = load_encoder(str(tmp_path / "clip"), device="cpu", precision="float32")
        pixels = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            dense, whole = dense_features(model, (pixels - 0.25) / 0.25)
        assert torch.allclose(encoder.encode_image(pixels), whole, atol=2e-3)  # fp16 on disk
        assert torch.allclose(encoder.encode_dense(pixels), dense, atol=2e-3)

        segmenter = SegmenterTask(TINY_SEGMENTER, found, 0).model.eval()
        export_segmenter(segmenter, TINY_SEGMENTER, tmp_path / "sam")
        loaded = load_segmenter(str(tmp_path / "sam"), device="cpu")
        encoded = loaded.encode(np.random.default_rng(0).random((40, 80), dtype=np.float32))
        decoded = loaded.decode(encoded, boxes=np.array([[5, 5, 30, 30]], np.float32))
        assert loaded.upsample(decoded.logits[:, 0], encoded).shape == (1, 40, 80)
