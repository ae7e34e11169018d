"""The recipe's augmentation, supervision, losses, loop and export."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.bundled.recipe.augment import AugmentSettings, augment
from lexiseg.bundled.recipe.data import Sample, phantom_samples
from lexiseg.bundled.recipe.encoder import losses
from lexiseg.bundled.recipe.schedule import Phases, shortened, warm_cosine
from lexiseg.bundled.recipe.segmenter import SegmenterTask, mask_losses
from lexiseg.bundled.recipe.supervision import Question, Supervision, supervise

lightning = pytest.importorskip(
    "lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'"
)


def chest(size: int = 64) -> Sample:
    image = np.full((size, size), 100, np.uint8)
    right, left = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    right[10:50, 8:28] = 1
    left[10:50, 36:56] = 1
    masks = {"lungs": right | left, "right lung": right, "left lung": left}
    return Sample(
        image, (size, size), masks, frozenset({"tumor"}), "chest", "cxr", "lungs on the left and right"
    )


STILL = AugmentSettings(
    flip=0, view=0, rotation=0, shift=0, zoom=(1, 1), stretch=0, intensity=0, noise=0, blur=0
)


class TestShortened:
    RECIPE: ClassVar[dict[str, Any]] = {
        "phases": [{"steps": 100, "lr": 1.0}, {"steps": 40, "lr": 0.5, "restart": True}],
        "mix": {100: 0.3, 140: 0.7},
        "clip": 1.0,
    }

    def test_phases_shrink_and_the_mean_moves_with_their_ends(self) -> None:
        found = shortened(self.RECIPE, 0.25)
        assert [phase["steps"] for phase in found["phases"]] == [25, 10]
        assert found["mix"] == {25: 0.3, 35: 0.7}
        assert found["phases"][1]["restart"] and found["clip"] == 1.0

    def test_at_full_length_it_is_the_recipe(self) -> None:
        assert shortened(self.RECIPE, 1.0) == self.RECIPE

    def test_a_mean_within_a_phase_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"mix: steps \[90\] are not the ends of phases, \[100, 140\]"):
            shortened({**self.RECIPE, "mix": {90: 1.0}}, 0.5)


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
        seen = [
            augment(chest(), 64, np.random.default_rng(s), settings, 0.25).visible["left lung"]
            for s in range(40)
        ]
        assert min(seen) < 0.05
        assert max(seen) > 0.8

    def test_same_seed_same_view(self) -> None:
        first, second = (
            augment(chest(), 64, np.random.default_rng(5), AugmentSettings(), 0.25) for _ in range(2)
        )
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


class Line:
    """A task whose answer is known: fit y = 2 x."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.steps = steps
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1
        self.model.bias.data.fill_(0.3)

    def rate(self, step: int) -> float:
        return 0.05 * (1 + math.cos(math.pi * step / 40)) / 2 + 0.01

    def loss(self, step: int, device: torch.device) -> dict[str, Tensor]:
        x = torch.from_numpy(np.random.default_rng(step).standard_normal((16, 1)).astype(np.float32))
        return {"error": ((self.model(x) - 2 * x) ** 2).mean()}


class Broken(Line):
    def loss(self, step: int, device: torch.device) -> dict[str, Tensor]:
        terms = super().loss(step, device)
        return {"error": terms["error"] * (math.nan if step == 7 else 1)}


class TestLoop:
    def loop(self, task: Any, folder: Path) -> Any:
        from lexiseg.bundled.recipe.loop import Loop

        return Loop(task, folder, weight_decay=0.0, clip=1.0, ema=0.9, device="cpu")

    def test_a_resumed_run_ends_where_an_unbroken_one_does(self, tmp_path: Path) -> None:
        whole = self.loop(Line(40), tmp_path / "whole").run(every=10)
        first, second = Line(20), Line(40)
        self.loop(first, tmp_path / "halves").run(every=10)
        resumed = self.loop(second, tmp_path / "halves").run(every=10)
        assert torch.equal(whole.weight, resumed.weight)
        assert (first.begun, second.begun) == (1, 0)
        assert float(whole.weight) == pytest.approx(2.0, abs=0.7)

    def test_what_comes_before_the_first_step_is_kept_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="step 7"):
            self.loop(Broken(40), tmp_path).run(every=100)
        state = torch.load(tmp_path / "last.pt", weights_only=True)
        assert state["step"] == 0
        assert float(state["model"]["bias"]) == float(state["average"]["bias"]) == pytest.approx(0.3)

    def test_what_is_returned_is_the_mean_of_the_averages_that_were_asked_for(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        seen = {}
        for steps in (10, 30):
            seen[steps] = float(self.loop(Line(steps), tmp_path / str(steps)).run(every=5).weight)
        mixed = Loop(
            Line(30), tmp_path / "mix", weight_decay=0.0, clip=1.0, ema=0.9, mix={10: 1, 30: 3}, device="cpu"
        )
        exported = []
        weight = float(mixed.run(every=50, after=lambda m, step: exported.append(float(m.weight))).weight)
        assert weight == pytest.approx((seen[10] + 3 * seen[30]) / 4, abs=1e-6)
        assert exported[-1] == weight

    def test_a_run_that_is_killed_where_an_average_is_kept_still_has_it(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        def mixed(folder: str) -> Any:
            return Loop(
                Line(20),
                tmp_path / folder,
                weight_decay=0.0,
                clip=1.0,
                ema=0.9,
                mix={10: 1, 20: 1},
                device="cpu",
            )

        def killed(model: nn.Module, step: int) -> None:
            raise KeyboardInterrupt

        whole = mixed("whole").run(every=10)
        with pytest.raises(KeyboardInterrupt):
            mixed("halves").run(every=10, after=killed)
        assert torch.equal(mixed("halves").run(every=10).weight, whole.weight)

    def test_the_running_average_may_follow_faster_from_a_step_on(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        task = Line(30)
        found = Loop(
            task,
            tmp_path,
            weight_decay=0.0,
            clip=1.0,
            ema=lambda step: 0.9 if step < 29 else 0.0,
            device="cpu",
        ).run(every=30)
        assert torch.equal(found.weight, task.model.weight)

    def test_what_knows_something_already_learns_slower(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        moved = {}
        for start in ("other", "weig"):
            task = Line(1)
            before = float(task.model.weight.detach())
            loop = Loop(
                task, tmp_path / start, weight_decay=0.0, clip=9.0, ema=0.9, slow={start: 0.1}, device="cpu"
            )
            loop.run()
            moved[start] = abs(float(task.model.weight.detach()) - before)
        assert moved["weig"] == pytest.approx(0.1 * moved["other"], rel=0.01)

    def test_what_is_at_a_rate_of_nothing_stays_and_takes_no_gradient(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        task = Line(3)
        before = task.model.weight.detach().clone()
        Loop(
            task, tmp_path, weight_decay=0.1, clip=9.0, ema=0.9, slow={"weight": 0, "": 0.5}, device="cpu"
        ).run()
        assert torch.equal(task.model.weight, before)
        assert task.model.weight.grad is None
        assert float(task.model.bias.detach()) != pytest.approx(0.3)

    def test_in_bfloat16_the_weights_stay_float32(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.loop import Loop

        task = Line(40)
        found = Loop(
            task, tmp_path, weight_decay=0.0, clip=1.0, ema=0.9, precision="bf16-mixed", device="cpu"
        ).run()
        assert found.weight.dtype == torch.float32
        assert float(found.weight) == pytest.approx(2.0, abs=0.7)

    def test_a_loss_that_is_not_finite_stops_and_says_where(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="step 7"):
            self.loop(Broken(40), tmp_path).run(every=5)
        assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 5


TINY_SEGMENTER = {
    "image_size": 64, "patch_size": 8, "hidden": 16, "layers": 2, "heads": 2, "window": 4,
    "global_layers": [1], "channels": 16, "batch": 2, "prompts": 2, "warmup": 1,
    "phases": [{"steps": 4, "lr": 1e-3, "lesions": 0.5}], "shares": {"phantom": 1.0},
}  # fmt: skip
TINY_ENCODER = {
    "mean": 0.25, "std": 0.25, "embed_dim": 16, "image_tower": "mobilenetv4_conv_small_035", "image_size": 64,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "init_logit_scale": 2.3, "init_logit_bias": -4.0, "warmup": 1, "shares": {"phantom": 1.0},
    "phases": [{"resolution": 64, "batch": 4, "steps": 2, "lr": 1e-3}],
    "loss": {"dense": 1.0, "dice": 1.0, "negative": 1.0, "presence": 0.6, "caption": 0.15},
}  # fmt: skip


TINY_UNET = {
    "size": 64, "widths": [4, 8, 16], "residual_units": 1, "warmup": 1, "shares": {"phantom": 1.0},
    "phases": [{"batch": 4, "steps": 2, "lr": 1e-3}],
}  # fmt: skip


class TestPhases:
    phases = Phases(
        [{"steps": 10, "lr": 1.0}, {"steps": 10, "lr": 0.5}, {"steps": 20, "lr": 2.0, "restart": True}],
        warmup=4,
    )

    def test_one_cosine_runs_to_the_phase_that_restarts_it(self) -> None:
        assert self.phases.steps == 40
        assert self.phases.rate(10) / 0.5 == pytest.approx(warm_cosine(10, 20, 4))
        assert self.phases.rate(19) < 0.02
        assert self.phases.rate(20) == pytest.approx(2.0 / 4)
        assert self.phases.rate(30) / 2 == pytest.approx(warm_cosine(10, 20, 4))

    def test_a_phase_may_have_a_running_average_of_its_own(self) -> None:
        phases = Phases([{"steps": 2, "lr": 1.0}, {"steps": 1, "lr": 1.0, "ema": 0.5}], 1)
        assert [phases.ema(step, 0.9) for step in range(4)] == [0.9, 0.9, 0.5, 0.5]

    def test_a_step_past_the_end_belongs_to_the_last_phase(self) -> None:
        assert self.phases.at(9)["lr"] == 1.0
        assert self.phases.at(10)["lr"] == 0.5
        assert self.phases.at(400)["lr"] == 2.0


class TestTasks:
    def test_every_weight_of_the_segmenter_is_trained(self) -> None:
        torch.manual_seed(0)
        task = SegmenterTask(TINY_SEGMENTER, list(phantom_samples(4, 128, 0)), 0)
        torch.stack(list(task.loss(0, torch.device("cpu")).values())).sum().backward()
        idle = {n.split(".")[0] for n, p in task.model.vision_encoder.named_parameters() if p.grad is None}
        assert not idle

    def test_a_step_of_the_unet_always_sees_the_same(self) -> None:
        from lexiseg.bundled.recipe.unet import UnetTask

        one, other = (UnetTask(TINY_UNET, list(phantom_samples(8, 128, 0)), 0) for _ in range(2))
        here = torch.device("cpu")
        (first,), (again,), (later,) = (
            task.loss(step, here).values() for task, step in ((one, 0), (other, 0), (one, 1))
        )
        assert torch.equal(first, again) and not torch.equal(first, later)
        first.backward()
        assert all(p.grad is not None for p in one.model.parameters())

    def test_students_begin_from_what_is_exported(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.export import export_unet
        from lexiseg.bundled.recipe.unet import UnetTask
        from lexiseg.learning.weak.start import read_start

        task = UnetTask(TINY_UNET, list(phantom_samples(4, 128, 0)), 0)
        export_unet(task.model, TINY_UNET, tmp_path)
        start = read_start(str(tmp_path))
        assert start is not None
        own = task.model.state_dict()
        assert start.tensors.keys() == own.keys()
        assert all(torch.allclose(v, own[n], atol=1e-3) for n, v in start.tensors.items())
        assert "whatever the phrase" in (tmp_path / "README.md").read_text()
        assert not (tmp_path / "scans.csv").exists()

    def test_what_is_exported_is_what_the_registry_loads(self, tmp_path: Path) -> None:
        from lexiseg.bundled.recipe.encoder import EncoderTask, dense_features
        from lexiseg.bundled.recipe.export import export_encoder, export_segmenter
        from lexiseg.models import load_encoder, load_segmenter

        torch.manual_seed(0)
        random.seed(0)
        found = list(phantom_samples(8, 128, 0))
        task = EncoderTask(TINY_ENCODER, found, 0)
        terms = task.loss(0, torch.device("cpu"))
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
