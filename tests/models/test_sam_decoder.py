"""The rearranged decoder against transformers' own."""

from __future__ import annotations

import pytest
import torch
from checkpoints import _sam

from lexiseg.models.segmenters.sam_decoder import decode_prompts, share_image


class TestAgainstTransformers:
    @pytest.mark.parametrize("multimask", [False, True])
    @pytest.mark.parametrize("count", [1, 5])
    def test_logits_and_ious_are_equal(self, count: int, multimask: bool) -> None:
        model = _sam("tiny", 3)
        generator = torch.Generator().manual_seed(count)
        embedding = torch.randn(1, 32, 16, 16, generator=generator)
        points = 256 * torch.rand(1, count, 2, 2, generator=generator)
        labels = torch.tensor([1, 0]).expand(1, count, 2)
        with torch.inference_mode():
            theirs = model(
                image_embeddings=embedding,
                input_points=points,
                input_labels=labels,
                multimask_output=multimask,
            )
            prompts, _ = model.prompt_encoder(points, labels, None, None)
            logits, iou = decode_prompts(model, share_image(model, embedding), prompts[0], multimask=multimask)
        assert logits.shape == theirs.pred_masks[0].shape == (count, 3 if multimask else 1, 64, 64)
        assert torch.allclose(logits, theirs.pred_masks[0], atol=1e-5)
        assert torch.allclose(iou, theirs.iou_scores[0], atol=1e-5)
        assert theirs.pred_masks.std() > 0.1

    def test_several_images_with_one_prompt_each(self) -> None:
        model = _sam("tiny", 3)
        generator = torch.Generator().manual_seed(0)
        embeddings = torch.randn(4, 32, 16, 16, generator=generator)
        boxes = 128 * torch.rand(1, 4, 4, generator=generator) + torch.tensor([0, 0, 100, 100])
        with torch.inference_mode():
            prompts = model.prompt_encoder(None, None, boxes, None)[0][0]
            together = decode_prompts(model, share_image(model, embeddings), prompts, multimask=True)
            alone = [
                decode_prompts(model, share_image(model, embeddings[k : k + 1]), prompts[k : k + 1], multimask=True)
                for k in range(4)
            ]
        for found, expected in zip(together, zip(*alone, strict=True), strict=True):
            assert torch.allclose(found, torch.cat(expected), atol=1e-5)
