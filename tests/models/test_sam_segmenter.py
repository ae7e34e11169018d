"""SAM against transformers' own pipeline and against the original package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_sam_folder
from safetensors.torch import load_file

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.loading import load_segmenter
from lexiseg.models.protocols import EncodedImage, Segmenter
from lexiseg.models.segmenters.sam import SamSegmenter

BOXES = np.array([[10.0, 20.0, 90.0, 110.0], [0.0, 0.0, 200.0, 120.0], [150.5, 3.0, 160.0, 9.25]], np.float32)
POINTS = np.array([[[40.5, 60.5], [3.5, 4.5]], [[100.5, 20.5], [0.0, 0.0]]], np.float32)
LABELS = np.array([[1, 0], [1, -1]])


@pytest.fixture
def scan() -> np.ndarray:
    rows, columns = np.mgrid[0:120, 0:200]
    noise = np.random.default_rng(0).random((120, 200, 3))
    disc = (rows - 60) ** 2 + (columns - 80) ** 2 < 900
    return (0.3 * noise + 0.6 * disc[..., None]).astype(np.float32)


def reference_masks(
    folder: Path, scan: np.ndarray, *, boxes: np.ndarray | None, points: np.ndarray | None, multimask: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits on the scan's grid and IoUs by SamProcessor and SamModel."""
    from transformers import SamModel, SamProcessor

    model = SamModel.from_pretrained(folder, local_files_only=True).eval()
    processor = SamProcessor.from_pretrained(folder, local_files_only=True)
    inputs = processor(
        images=torch.from_numpy(scan).permute(2, 0, 1),
        input_boxes=None if boxes is None else [boxes.tolist()],
        # transformers counts a point by its pixel's index, lexiseg by its centre
        input_points=None if points is None else [(points - 0.5).tolist()],
        input_labels=None if points is None else [LABELS.tolist()],
        do_rescale=False,
        input_data_format="channels_first",
        return_tensors="pt",
    )
    sizes, reshaped = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    inputs = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad():
        output = model(**inputs, multimask_output=multimask)
    logits = processor.post_process_masks(output.pred_masks, sizes, reshaped, binarize=False)
    return logits[0], output.iou_scores[0]


class TestAgainstTransformers:
    @pytest.mark.parametrize("multimask", [False, True])
    @pytest.mark.parametrize("prompts", ["boxes", "points"])
    def test_masks_are_equal(self, sam: Path, scan: np.ndarray, prompts: str, multimask: bool) -> None:
        boxes, points = (BOXES, None) if prompts == "boxes" else (None, POINTS)
        segmenter = load_segmenter(str(sam), device="cpu")
        assert isinstance(segmenter, Segmenter)
        image = segmenter.encode(scan)
        decoded = segmenter.decode(
            image, boxes=boxes, points=points, labels=None if points is None else LABELS, multimask=multimask
        )
        ours = segmenter.upsample(decoded.logits, image)
        theirs, ious = reference_masks(sam, scan, boxes=boxes, points=points, multimask=multimask)
        count = len(BOXES if points is None else POINTS)
        assert ours.shape == theirs.shape == (count, 3 if multimask else 1, 120, 200)
        assert torch.allclose(ours, theirs, atol=1e-4)
        assert torch.equal(ours > 0, theirs > 0)
        assert torch.allclose(decoded.iou, ious, atol=1e-5)
        assert 0.01 < float((ours > 0).float().mean()) < 0.99

    def test_boxes_and_points_together(self, sam: Path, scan: np.ndarray) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(scan)
        decoded = segmenter.decode(image, boxes=BOXES[:2], points=POINTS, labels=LABELS)
        theirs, _ = reference_masks(sam, scan, boxes=BOXES[:2], points=POINTS, multimask=False)
        assert torch.equal(segmenter.upsample(decoded.logits, image) > 0, theirs > 0)


class TestSegmenter:
    def test_small_batches_change_nothing(self, sam: Path, scan: np.ndarray) -> None:
        whole = load_segmenter(str(sam), device="cpu")
        device = torch.device("cpu")
        single = SamSegmenter(whole.model, whole._processor, name="x", device=device, prompt_batch=1)
        image = whole.encode(scan)
        together, apart = whole.decode(image, boxes=BOXES), single.decode(image, boxes=BOXES)
        assert torch.allclose(together.logits, apart.logits, atol=1e-5)
        assert torch.allclose(
            whole.upsample(together.logits, image), single.upsample(together.logits, image), atol=1e-6
        )

    def test_grey_is_all_channels_alike(self, sam: Path, scan: np.ndarray) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        grey = scan[..., 0]
        stacked = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
        assert torch.equal(segmenter.encode(grey).embedding, segmenter.encode(stacked).embedding)

    @pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7), (256, 256), (511, 257)])
    def test_any_scan_size(self, sam: Path, shape: tuple[int, int]) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(np.random.default_rng(1).random(shape, dtype=np.float32))
        decoded = segmenter.decode(image, boxes=np.array([[0.0, 0.0, shape[1], shape[0]]]))
        assert image.shape == shape
        assert max(image.input_shape) == 256
        assert segmenter.upsample(decoded.logits, image).shape == (1, 1, *shape)

    @pytest.mark.parametrize("shape", [(120, 200), (200, 120), (300, 40), (256, 256)])
    @pytest.mark.parametrize("longest", [256, 160])
    def test_the_grid_says_where_a_cell_lies(self, sam_copy: Path, shape: tuple[int, int], longest: int) -> None:
        """A cell that alone is inside comes out, on the scan, around the place that the grid names."""
        path = sam_copy / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"longest_edge": longest}}))
        segmenter = load_segmenter(str(sam_copy), device="cpu")
        image = segmenter.encode(np.zeros(shape, np.float32))
        decoded = segmenter.decode(image, boxes=BOXES[:1])
        rows, columns = decoded.grid.shape
        assert max(rows, columns) == longest // 4
        row, column = rows // 3, columns // 2
        logits = torch.full_like(decoded.logits, -1.0)
        logits[..., row, column] = 1.0
        whole = segmenter.upsample(logits, image)[0, 0]
        inside = (whole > whole.max() - 1e-3).nonzero().float().mean(0) + 0.5  # the middle of the highest pixels
        across, down = decoded.grid.cell
        middle = torch.tensor([(row + 0.5) * down, (column + 0.5) * across])
        # to half a cell or a pixel, whatever is more: interpolation is to whole pixels
        assert bool(((inside - middle).abs() <= torch.tensor([max(1, down / 2), max(1, across / 2)])).all())
        assert rows * down >= shape[0] - down / 2 and columns * across >= shape[1] - across / 2

    def test_an_image_of_another_family_is_refused(self, sam: Path) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        with pytest.raises(TypeError, match="got a EncodedImage"):
            segmenter.decode(EncodedImage((4, 4)), boxes=BOXES)
        with pytest.raises(TypeError, match="got a EncodedImage"):
            segmenter.upsample(torch.zeros(1, 1, 4, 4), EncodedImage((4, 4)))

    def test_an_image_tells_how_much_memory_it_takes(self, sam: Path, scan: np.ndarray) -> None:
        assert load_segmenter(str(sam), device="cpu").encode(scan).nbytes == 4 * 32 * 16 * 16
        assert EncodedImage((4, 4)).nbytes == 0

    def test_no_prompts_give_no_masks(self, sam: Path, scan: np.ndarray) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(scan)
        some = segmenter.decode(image, boxes=BOXES, multimask=True)
        none = segmenter.decode(image, boxes=np.zeros((0, 4)), multimask=True)
        assert none.grid == some.grid
        assert none.logits.shape == (0, *some.logits.shape[1:])
        assert segmenter.upsample(none.logits, image).shape == (0, 3, 120, 200)

    @pytest.mark.parametrize(
        "prompts",
        [
            {},
            {"boxes": np.zeros((2, 3))},
            {"points": np.zeros((2, 1, 2))},
            {"points": np.zeros((2, 1, 2)), "labels": np.zeros((2, 2))},
            {"boxes": np.zeros((3, 4)), "points": np.zeros((2, 1, 2)), "labels": np.zeros((2, 1))},
        ],
    )
    def test_odd_prompts_are_errors(self, sam: Path, scan: np.ndarray, prompts: dict[str, np.ndarray]) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        with pytest.raises(ValueError, match="got"):
            segmenter.decode(segmenter.encode(scan), **prompts)

    def test_a_volume_is_an_error(self, sam: Path) -> None:
        with pytest.raises(ValueError, match="expected"):
            load_segmenter(str(sam), device="cpu").encode(np.zeros((4, 8, 8), np.float32))


@pytest.mark.usefixtures("unplugged")
class TestLayouts:
    def test_the_original_layout_gives_equal_masks(self, sam: Path, sam_pth: Path, scan: np.ndarray) -> None:
        masks = []
        for ref in (sam, sam_pth):
            segmenter = load_segmenter(str(ref), device="cpu")
            image = segmenter.encode(scan)
            masks.append(segmenter.upsample(segmenter.decode(image, boxes=BOXES, multimask=True).logits, image))
        assert torch.equal(masks[0], masks[1])

    def test_the_original_package_agrees(self, tmp_path: Path, scan: np.ndarray) -> None:
        """Every stage of segment_anything with a small checkpoint of its own naming and of its own making."""
        modeling = pytest.importorskip("segment_anything.modeling", reason="needs segment-anything")
        from functools import partial

        torch.manual_seed(0)
        encoder = modeling.ImageEncoderViT(
            img_size=256, patch_size=16, embed_dim=32, depth=3, num_heads=2, out_chans=64, qkv_bias=True,
            use_rel_pos=True, window_size=6, global_attn_indexes=(1,), mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        prompter = modeling.PromptEncoder(
            embed_dim=64, image_embedding_size=(16, 16), input_image_size=(256, 256), mask_in_chans=16
        )
        decoder = modeling.MaskDecoder(
            transformer_dim=64,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=64, mlp_dim=128, num_heads=8),
            num_multimask_outputs=3,
            iou_head_hidden_dim=64,
        )
        original = modeling.Sam(encoder, prompter, decoder).eval()
        with torch.no_grad():
            for parameter in original.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        torch.save(original.state_dict(), tmp_path / "sam_vit_own.pth")
        segmenter = load_segmenter(str(tmp_path / "sam_vit_own.pth"), device="cpu")
        image = segmenter.encode(scan)
        with torch.no_grad():
            pixels = segmenter._processor(
                images=torch.from_numpy(scan).permute(2, 0, 1), do_rescale=False,
                input_data_format="channels_first", return_tensors="pt",
            )["pixel_values"]  # fmt: skip
            embedding = original.image_encoder(pixels)
            assert torch.allclose(image.embedding, embedding, atol=1e-4)
            scale = torch.tensor([image.input_shape[1] / 200, image.input_shape[0] / 120]).repeat(2)
            sparse, dense = original.prompt_encoder(points=None, boxes=torch.from_numpy(BOXES) * scale, masks=None)
            logits, iou = original.mask_decoder(
                image_embeddings=embedding, image_pe=original.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
            )  # fmt: skip
            masks = original.postprocess_masks(logits, image.input_shape, image.shape)
        decoded = segmenter.decode(image, boxes=BOXES, multimask=True)
        # transformers' decoder has 1e-6 in its layer norms where the original has 1e-5
        assert torch.allclose(decoded.logits, logits, atol=1e-3)
        assert torch.allclose(decoded.iou, iou, atol=1e-3)
        agreement = ((segmenter.upsample(decoded.logits, image) > 0) == (masks > 0)).float().mean()
        assert float(agreement) > 0.999

    def test_the_configuration_is_read_off_the_shapes(self, sam: Path, sam_pth: Path) -> None:
        folder, file = (load_segmenter(str(ref), device="cpu").model.config for ref in (sam, sam_pth))
        for part, names in {
            "vision_config": (
                "hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
                "window_size", "global_attn_indexes", "mlp_dim", "num_pos_feats", "output_channels",
            ),
            "mask_decoder_config": (
                "mlp_dim", "attention_downsample_rate", "iou_head_hidden_dim", "iou_head_depth",
            ),
        }.items():  # fmt: skip
            for name in names:
                left, right = (getattr(getattr(config, part), name) for config in (folder, file))
                assert (list(left) if isinstance(left, tuple) else left) == right, name

    def test_half_precision_weights_are_read_as_float32(self, tmp_path: Path) -> None:
        folder = make_sam_folder(tmp_path / "half", size="tiny", half=True)
        assert load_file(folder / "model.safetensors")["vision_encoder.pos_embed"].dtype == torch.float16
        model = load_segmenter(str(folder), device="cpu").model
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_a_folder_without_processor_settings(self, sam_copy: Path, sam: Path, scan: np.ndarray) -> None:
        (sam_copy / "preprocessor_config.json").unlink()
        bare, full = (load_segmenter(str(ref), device="cpu") for ref in (sam_copy, sam))
        assert torch.equal(bare.encode(scan).embedding, full.encode(scan).embedding)


class TestMaskPrompts:
    @pytest.mark.parametrize("multimask", [False, True])
    def test_answers_are_those_of_transformers(self, sam: Path, scan: np.ndarray, multimask: bool) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(scan)
        masks = np.random.default_rng(5).normal(0, 5, (3, 64, 64)).astype(np.float32)
        ours = segmenter.decode(image, boxes=BOXES, masks=masks, multimask=multimask)
        scale = torch.tensor([image.input_shape[1] / 200, image.input_shape[0] / 120] * 2)
        for k in range(3):  # one at a time: a SamModel takes one mask a scan
            with torch.inference_mode():
                theirs = segmenter.model(
                    image_embeddings=image.embedding,
                    input_boxes=(torch.from_numpy(BOXES[k]) * scale)[None, None],
                    input_masks=torch.from_numpy(masks[k])[None, None],
                    multimask_output=multimask,
                )
            assert torch.allclose(ours.logits[k], theirs.pred_masks[0, 0], atol=1e-4)
            assert torch.allclose(ours.iou[k], theirs.iou_scores[0, 0], atol=1e-5)
        without = segmenter.decode(image, boxes=BOXES, multimask=multimask)
        assert not torch.allclose(ours.logits, without.logits, atol=0.1)

    def test_a_segmenter_that_was_not_taught_masks_says_so(self, scan: np.ndarray) -> None:
        segmenter = load_segmenter("bundled", device="cpu")
        image = segmenter.encode(scan)
        assert not segmenter.takes_masks
        with pytest.raises(UnsupportedByModel, match="not taught to read masks"):
            segmenter.decode(image, boxes=BOXES[:1], masks=segmenter.shrink(scan[..., 0] > 0.5, image)[None])

    def test_masks_of_another_number_or_size_are_refused(self, sam: Path, scan: np.ndarray) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(scan)
        for shape in ((2, 64, 64), (3, 32, 32)):
            with pytest.raises(ValueError, match=r"expected \(3, 64, 64\)"):
                segmenter.decode(image, boxes=BOXES, masks=np.zeros(shape, np.float32))

    @pytest.mark.parametrize("shape", [(120, 200), (200, 120), (300, 300)])
    def test_a_shrunk_mask_comes_back_where_it_was(self, sam: Path, shape: tuple[int, int]) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        image = segmenter.encode(np.zeros(shape, np.float32))
        mask = np.zeros(shape, np.bool_)
        mask[20:90, 35:110] = True
        low = segmenter.shrink(mask, image)
        assert low.shape == (64, 64) and low.min() == -10 and low.max() == 10
        back = (segmenter.upsample(torch.from_numpy(low)[None, None], image)[0, 0] > 0).numpy()
        # The outline may move by a cell of the low resolution.
        cell = max(shape) / 64
        rim = 2 * (70 + 75) * cell
        assert np.count_nonzero(back ^ mask) < rim
        inner = mask.copy()
        inner[: 20 + int(2 * cell)] = inner[90 - int(2 * cell) :] = False
        inner[:, : 35 + int(2 * cell)] = inner[:, 110 - int(2 * cell) :] = False
        assert inner.any() and back[inner].all()
        with pytest.raises(ValueError, match="got a mask of shape"):
            segmenter.shrink(mask[1:], image)


class TestManyAtOnce:
    def test_encodings_and_masks_are_those_of_one_by_one(self, sam: Path, scan: np.ndarray) -> None:
        segmenter = load_segmenter(str(sam), device="cpu")
        scans = [scan, scan[..., 0], np.ascontiguousarray(scan[:90, 30:])]
        for together, alone in zip(
            segmenter.encode_many(scans), [segmenter.encode(each) for each in scans], strict=True
        ):
            assert together.shape == alone.shape and together.input_shape == alone.input_shape
            # Sums of some hundred float32 products, in another order: a few ulps of the largest value.
            bound = 1e-4 * float(alone.embedding.abs().max())
            assert float((together.embedding - alone.embedding).abs().max()) < bound
            assert together.nbytes == alone.nbytes
            first, second = (segmenter.decode(image, boxes=BOXES[:1]).logits for image in (together, alone))
            sure = second.abs() > 1e-2
            assert torch.equal(first[sure] > 0, second[sure] > 0) and sure.float().mean() > 0.9

    def test_no_scan_is_refused(self, sam: Path) -> None:
        with pytest.raises(ValueError, match="no scan"):
            load_segmenter(str(sam), device="cpu").encode_many([])
