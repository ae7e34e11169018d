"""SAM 2, its kin and SAM-HQ: each layout is loaded, and answers as transformers' own forward does."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sam2_files import make_folder, make_model, original_sam2_state

from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.models.loading import load_segmenter
from lexiseg.models.protocols import Segmenter, Tracker
from lexiseg.models.segmenters.sam2_checkpoint import rename_sam2, sam2_config
from lexiseg.pipelines.propagation import carrier
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Plane

KINDS = ("Sam2", "Sam2Video", "EdgeTam", "Sam3Tracker", "SamHQ")
BOX = np.array([[4, 6, 40, 30], [10, 2, 20, 35]], np.float32)
POINTS, LABELS = np.array([[[12.5, 9.5], [30.5, 30.5]]], np.float32), np.array([[1, 0]])
# Of sam2.1_hiera_tiny.pt as its package builds it: 471 names and shapes, a line each, sorted.
PUBLISHED_LAYOUT = "bac6d522c4ff90fe9980fe55056dc14f71966e17c16d772f18674d978c0471ad"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kin")
    return {kind: make_folder(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load_segmenter(str(folder), device="cpu", precision="float32") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def scan() -> FloatArray:
    return np.random.default_rng(0).random((40, 60, 3), dtype=np.float32)


def prepared(kind: str, scan: FloatArray) -> Any:
    """What transformers' own image processor makes of a scan, for models of that size."""
    pixels = torch.from_numpy(scan).permute(2, 0, 1)
    if kind == "SamHQ":
        square = {"height": 256, "width": 256}
        processor = transformers.SamImageProcessor(size={"longest_edge": 256}, pad_size=square)
        return processor(images=pixels, do_rescale=False, return_tensors="pt")["pixel_values"]
    side, values = (112, [0.5] * 3) if kind == "Sam3Tracker" else (128, None)
    given = {"image_mean": values, "image_std": values} if values else {}
    processor = transformers.Sam2ImageProcessor(size={"height": side, "width": side}, **given)
    return processor(images=pixels, do_rescale=False, return_tensors="pt")["pixel_values"]


def seen(model: Any, kind: str, scan: FloatArray) -> dict[str, Any]:
    """The scan as transformers' forward takes it.

    The code of SAM 3 that was released adds the embedding of "no memory" to the coarsest level that is decoded.
    transformers 5.23 adds it to a fourth level, which it then drops: here it is put where it belongs.
    """
    pixels = prepared(kind, scan)
    if kind != "Sam3Tracker":
        return {"pixel_values": pixels}
    *fine, coarse = model.get_image_embeddings(pixels)
    return {"image_embeddings": [*fine, coarse + model.no_memory_embedding.view(1, -1, 1, 1)]}


class TestAsTransformers:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("multimask", [False, True])
    @pytest.mark.parametrize("asked", ["boxes", "points", "both"])
    def test_the_forward_is_the_same(
        self, loaded: dict[str, Any], scan: FloatArray, kind: str, multimask: bool, asked: str
    ) -> None:
        segmenter = loaded[kind]
        side = {"SamHQ": 256, "Sam3Tracker": 112}.get(kind, 128)
        image = segmenter.encode(scan)
        ours = segmenter.decode(
            image,
            boxes=None if asked == "points" else BOX[:1],
            points=None if asked == "boxes" else POINTS,
            labels=None if asked == "boxes" else LABELS,
            multimask=multimask,
        )
        # SAM keeps a scan's shape, and rounds its shorter side to 171 pixels.
        scale = torch.tensor([side / 60, (171 if kind == "SamHQ" else side) / 40])
        # `loaded` may be a video model: the image model of the same numbers is the reference.
        reference = make_model("Sam2" if kind == "Sam2Video" else kind)
        reference.load_state_dict(segmenter.model.state_dict(), strict=kind != "Sam2Video")
        with torch.no_grad():
            theirs = reference(
                **seen(reference, kind, scan),
                input_boxes=None if asked == "points" else torch.from_numpy(BOX[None, :1]) * scale.repeat(2),
                input_points=None if asked == "boxes" else (torch.from_numpy(POINTS[None]) - 0.5) * scale,
                input_labels=None if asked == "boxes" else torch.from_numpy(LABELS[None]),
                multimask_output=multimask,
            )
        assert ours.logits.shape[1] == (3 if multimask else 1)
        assert torch.allclose(ours.logits, theirs.pred_masks[0], atol=1e-4)
        assert torch.allclose(ours.iou, theirs.iou_scores[0], atol=1e-4)

    @pytest.mark.parametrize("kind", KINDS)
    def test_many_prompts_are_answered_as_one_by_one(self, loaded: dict[str, Any], scan: FloatArray, kind: str) -> None:
        segmenter = loaded[kind]
        image = segmenter.encode(scan)
        boxes = np.concatenate([BOX] * 9)  # more than are decoded at once
        together = segmenter.decode(image, boxes=boxes)
        assert together.logits.shape[0] == 18
        for k in (0, 1, 17):
            alone = segmenter.decode(image, boxes=boxes[k : k + 1])
            assert torch.allclose(alone.logits[0], together.logits[k], atol=1e-5)
        assert segmenter.decode(image, boxes=np.zeros((0, 4), np.float32), multimask=True).logits.shape[:2] == (0, 3)

    @pytest.mark.parametrize("kind", ["Sam2", "EdgeTam", "Sam3Tracker", "SamHQ"])
    def test_a_mask_is_a_prompt(self, loaded: dict[str, Any], scan: FloatArray, kind: str) -> None:
        segmenter = loaded[kind]
        image = segmenter.encode(scan)
        low = segmenter.decode(image, boxes=BOX).logits.shape[-1]
        masks = np.random.default_rng(1).normal(0, 5, (2, low, low)).astype(np.float32)
        ours = segmenter.decode(image, boxes=BOX, masks=masks)
        side = {"SamHQ": 256, "Sam3Tracker": 112}.get(kind, 128)
        scale = torch.tensor([side / 60, 171 / 40 if kind == "SamHQ" else side / 40]).repeat(2)
        for k in range(2):
            with torch.no_grad():
                theirs = segmenter.model(
                    **seen(segmenter.model, kind, scan),
                    input_boxes=torch.from_numpy(BOX[None, k : k + 1]) * scale,
                    input_masks=torch.from_numpy(masks[k])[None, None],
                    multimask_output=False,
                )
            assert torch.allclose(ours.logits[k], theirs.pred_masks[0, 0], atol=1e-4)
        with pytest.raises(ValueError, match="got masks of shape"):
            segmenter.decode(image, boxes=BOX, masks=masks[:1])

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_protocol(self, loaded: dict[str, Any], folders: dict[str, Path], kind: str) -> None:
        segmenter = loaded[kind]
        assert isinstance(segmenter, Segmenter)
        assert (segmenter.name, segmenter.precision) == (str(folders[kind]), "float32")
        assert (
            segmenter.weights.sha256 == hashlib.sha256((folders[kind] / "model.safetensors").read_bytes()).hexdigest()
        )
        with pytest.raises(ValueError, match="no prompt"):
            segmenter.decode(segmenter.encode(np.zeros((8, 8), np.float32)))
        with pytest.raises(ValueError, match="expected \\(H, W\\)"):
            segmenter.encode(np.zeros((8, 8, 2), np.float32))

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_image_of_another_family_is_refused(self, loaded: dict[str, Any], scan: FloatArray, kind: str) -> None:
        other = loaded["SamHQ" if kind != "SamHQ" else "Sam2"].encode(scan)
        with pytest.raises(TypeError, match="expected what a segmenter of SAM"):
            loaded[kind].decode(other, boxes=BOX)

    def test_scans_are_encoded_together_as_alone(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        segmenter = loaded["Sam2"]
        many = segmenter.encode_many([scan, scan[:20, :30, 0]])
        for one, pixels in zip(many, (scan, scan[:20, :30, 0]), strict=True):
            alone = segmenter.encode(pixels)
            assert one.shape == alone.shape == pixels.shape[:2]
            assert torch.allclose(one.coarse, alone.coarse, atol=1e-5)
            assert torch.allclose(one.fine, alone.fine, atol=1e-5)

    def test_masks_come_back_on_the_scans_grid(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        segmenter = loaded["Sam2"]
        image = segmenter.encode(scan)
        logits = segmenter.decode(image, boxes=BOX, multimask=True).logits
        assert segmenter.upsample(logits, image).shape == (2, 3, 40, 60)
        mask = np.zeros((40, 60), np.bool_)
        mask[10:30, 15:45] = True
        back = segmenter.upsample(torch.from_numpy(segmenter.shrink(mask, image)), image) > 0
        assert np.array_equal(back.numpy(), mask)


class TestMemory:
    def test_the_second_plane_is_followed_as_transformers_does(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        segmenter = loaded["Sam2Video"]
        mask = np.zeros((40, 60), np.bool_)
        mask[8:28, 10:40] = True
        # Of 16 planes or more, the most that its memory counts: shorter ones it would count on another scale.
        planes = [scan, *[np.ascontiguousarray(scan[::-1])] * 15]
        memory = segmenter.remember(segmenter.encode(planes[0]), mask)
        ours = segmenter.follow(segmenter.encode(planes[1]), memory)
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        frames = torch.cat([prepared("Sam2", plane) for plane in planes])
        session = Sam2VideoInferenceSession(video=frames, video_height=40, video_width=60, dtype=torch.float32)
        index = session.obj_id_to_idx(1)
        whole = torch.from_numpy(mask.astype(np.float32))[None, None]
        whole = torch.nn.functional.interpolate(whole, (128, 128), mode="bilinear", antialias=True)
        session.add_mask_inputs(index, 0, whole)
        session.obj_with_new_inputs = [1]
        with torch.no_grad():
            segmenter.model(session, frame_idx=0)
            theirs = segmenter.model(session, frame_idx=1)
        assert ours.logits.shape == (1, 1, 32, 32)
        assert 0.01 < float((ours.logits > 0).float().mean()) < 0.99
        assert torch.allclose(ours.logits[0, 0], theirs.pred_masks[0, 0], atol=1e-4)

    def test_a_memory_grows_and_the_former_stays(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        segmenter = loaded["Sam2Video"]
        image, mask = segmenter.encode(scan), np.zeros((40, 60), np.bool_)
        mask[5:20, 5:20] = True
        first = segmenter.remember(image, mask)
        before = segmenter.follow(image, first).logits
        second = segmenter.remember(image, np.roll(mask, 20, 1), first)
        assert (len(first.planes), len(second.planes)) == (1, 2)
        assert torch.equal(segmenter.follow(image, first).logits, before)
        assert not torch.allclose(segmenter.follow(image, second).logits, before)

    def test_a_long_scan_keeps_as_much_as_it_looks_back_on(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        segmenter = loaded["Sam2Video"]
        image, mask = segmenter.encode(scan), np.zeros((40, 60), np.bool_)
        mask[5:20, 5:20] = True
        memory = None
        for _ in range(20):
            memory = segmenter.remember(image, mask, memory)
        assert (len(memory.planes), memory.count) == (16, 20)
        assert segmenter.follow(image, memory).logits.shape == (1, 1, 32, 32)

    def test_whoever_has_no_memory_is_no_tracker(self, loaded: dict[str, Any]) -> None:
        assert {kind for kind, segmenter in loaded.items() if isinstance(segmenter, Tracker)} == {"Sam2Video"}

    def test_a_volume_is_carried_by_the_memory(self, loaded: dict[str, Any], scan: FloatArray) -> None:
        planes = [Plane(np.roll(scan, shift, 1), spacing=(1.0, 1.0)) for shift in range(3)]
        mask = np.zeros((40, 60), np.bool_)
        mask[8:28, 10:40] = True
        carry = carrier(loaded["Sam2Video"])
        found, known = carry.step(planes[1], carry.start(planes[0], mask)[1])
        assert found.prompts.empty
        assert known[0].shape == (40, 60)


class TestOriginalCheckpoints:
    def test_the_layout_is_the_published_files(self) -> None:
        with torch.device("meta"):
            model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
        state = original_sam2_state(model.state_dict())
        lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
        assert len(lines) == 471
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_LAYOUT
        assert {k: v.shape for k, v in rename_sam2(state).items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }

    @pytest.mark.parametrize(
        ("width", "stages", "whole"),
        [(96, [1, 2, 7, 2], [5, 7, 9]), (96, [1, 2, 11, 2], [7, 10, 13]), (112, [2, 3, 16, 3], [12, 16, 20])],
    )
    def test_the_configuration_is_read_off_the_shapes(self, width: int, stages: list[int], whole: list[int]) -> None:
        state = {f"image_encoder.trunk.blocks.{k}.norm1.weight": torch.zeros(1) for k in range(sum(stages))}
        state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(width, 3, 7, 7)
        state["image_encoder.trunk.pos_embed"] = torch.zeros(1, width, 14, 14)
        vision = sam2_config(state)["vision_config"]["backbone_config"]
        assert (vision["blocks_per_stage"], vision["global_attention_blocks"]) == (stages, whole)
        assert vision["window_positional_embedding_background_size"] == [14, 14]
        assert not sam2_config(state)["enable_occlusion_spatial_embedding"]  # SAM 2.0 has none

    @pytest.mark.fullsize
    def test_one_is_loaded_and_answers(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        from checkpoints import randomise

        config = {"image_size": 512, "memory_attention_rope_feat_sizes": [32, 32]}
        sizes = [[128, 128], [64, 64], [32, 32]]
        config["vision_config"] = {"model_type": "sam2_vision_model", "backbone_feature_sizes": sizes}
        config["vision_config"]["backbone_config"] = {"model_type": "sam2_hiera_det_model", "image_size": [512, 512]}
        config["prompt_encoder_config"] = {"image_size": 512}
        model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**config)).eval()
        randomise(model, 0)
        torch.save({"model": original_sam2_state(model.state_dict())}, tmp_path / "MedSAM2_latest.pt")
        with caplog.at_level(logging.WARNING, logger="lexiseg"):
            segmenter: Any = load_segmenter(str(tmp_path / "MedSAM2_latest.pt"), device="cpu", precision="float32")
        assert "by its name taken to be 512 pixels" in caplog.text
        held, given = segmenter.model.state_dict(), model.state_dict()
        # transformers draws this one twice; the published file has one.
        given["prompt_encoder.shared_embedding.positional_embedding"] = given[
            "shared_image_embedding.positional_embedding"
        ]
        assert held.keys() == given.keys()
        assert all(torch.equal(held[name], given[name]) for name in given)

    @pytest.mark.fullsize
    @pytest.mark.skipif(importlib.util.find_spec("sam2") is None, reason="needs pip install sam2")
    def test_its_answers_are_those_of_its_package(self, tmp_path: Path) -> None:
        from checkpoints import randomise
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
        randomise(model, 0)
        torch.save({"model": model.state_dict()}, tmp_path / "sam2.1_hiera_tiny.pt")
        segmenter: Any = load_segmenter(str(tmp_path / "sam2.1_hiera_tiny.pt"), device="cpu", precision="float32")
        pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
        predictor = SAM2ImagePredictor(model)
        predictor.set_image(pixels)
        image = segmenter.encode((pixels / 255).astype(np.float32))
        box = np.array([[20, 30, 200, 150]], np.float32)
        masks, iou, low = predictor.predict(box=box[0], multimask_output=True, return_logits=True)
        ours = segmenter.decode(image, boxes=box, multimask=True)
        assert np.allclose(ours.logits[0].clamp(-32, 32), low, atol=1e-4)
        assert np.allclose(ours.iou[0], iou, atol=1e-4)
        assert np.array_equal((segmenter.upsample(ours.logits, image)[0] > 0).numpy(), masks > 0)


class TestBadFiles:
    def said(self, place: Path, error: type[Exception] = BrokenWeights) -> str:
        with pytest.raises(error) as raised:
            load_segmenter(str(place), device="cpu")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan", "truncated", "gone"])
    def test_weights_that_do_not_fit(self, folders: dict[str, Path], tmp_path: Path, kind: str, change: str) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folders[kind] / name).read_bytes())
        path = tmp_path / "model.safetensors"
        state = load_file(path)
        key = next(key for key in state if key.endswith("mask_decoder.iou_token.weight"))
        if change == "missing":
            del state[key]
        elif change == "unexpected":
            state["extra.weight"] = torch.zeros(1)
        elif change == "shape":
            state[key] = torch.zeros(1, 7)
        elif change == "nan":
            state[key][0] = torch.nan
        save_file(state, path)
        if change == "truncated":
            path.write_bytes(path.read_bytes()[:-1000])
        if change == "gone":
            path.unlink()
        said = self.said(tmp_path)
        wanted = {"missing": "iou_token", "unexpected": "extra.weight", "nan": "NaN", "gone": "has no weights"}
        assert wanted.get(change, "model.safetensors") in said

    def test_a_configuration_of_another_family(self, folders: dict[str, Path], tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folders["Sam2"] / name).read_bytes())
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "sam_hq"}))
        assert "does not fit its configuration" in self.said(tmp_path)

    def test_a_detector(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr"}))
        save_file({"model.query": torch.zeros(3)}, tmp_path / "model.safetensors")
        said = self.said(tmp_path, UnknownModel)
        assert "model_type 'detr'" in said
        assert "SAM 2 (config.json of model_type 'sam2' or 'sam2_video'" in said

    def test_an_original_checkpoint_of_no_published_size(self, tmp_path: Path) -> None:
        state = {"image_encoder.trunk.pos_embed": torch.zeros(1, 64, 7, 7)}
        state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(64, 3, 7, 7)
        state["image_encoder.trunk.blocks.0.norm1.weight"] = torch.zeros(64)
        torch.save({"model": state}, tmp_path / "sam2_own.pt")
        assert "an image encoder of 1 blocks, 64 wide" in self.said(tmp_path / "sam2_own.pt")

    def test_settings_of_pixels_that_are_none(self, folders: dict[str, Path], tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folders["Sam2"] / name).read_bytes())
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
        assert "preprocessor_config.json cannot be read" in self.said(tmp_path)
