"""Training the bundled segmenter: boxes and points ask for outlines, with and without a name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import felzenszwalb
from torch import Tensor
from torch.nn import functional
from transformers import SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from lexiseg.models.segmenters.sam_folder import TowerSam, TowerSamConfig
from lexiseg.models.weights.records import bundled_folder
from recipe.augment import AugmentSettings, View, augment
from recipe.data import Sample
from recipe.lesions import paste_lesion
from recipe.phases import Phases, Scheduled
from recipe.photographs import load_pretrained
from recipe.sampling import chances

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of SamImageProcessor
MASK_STRIDE = 2
AUGMENT = AugmentSettings(zoom=(0.75, 1.9), shift=0.2, view=0.0)
MANY = frozenset({"nuclei", "teeth"})
"""Masks of many things, of which a box or a click asks for one."""


def build(c: Mapping[str, Any]) -> SamModel:
    """The untrained SAM, made by transformers from the config alone."""
    size, stride, channels = c["image_size"], c["stride"], c["channels"]
    model = TowerSam(
        TowerSamConfig(
            vision_config=SamVisionConfig(
                image_tower=c["image_tower"], image_size=size, patch_size=stride, output_channels=channels,
                num_pos_feats=channels // 2, hidden_size=8, num_hidden_layers=0,
            ),
            prompt_encoder_config=SamPromptEncoderConfig(
                hidden_size=channels, image_size=size, patch_size=stride, image_embedding_size=size // stride
            ),
            mask_decoder_config=SamMaskDecoderConfig(
                hidden_size=channels, mlp_dim=4 * channels, num_attention_heads=4,
                iou_head_hidden_dim=channels,
            ),
            attn_implementation="eager",  # the fused one's gradient is slow in bfloat16 on a CPU
        )
    )  # fmt: skip
    # transformers starts every layer at a deviation of 0.02, for weights that will be loaded; SAM was trained
    # from torch's own, with prompt tokens of deviation 1.  From 0.02 the decoder stays silent for long.
    for module in (*model.prompt_encoder.modules(), *model.mask_decoder.modules()):
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Embedding)):
            module.reset_parameters()
    # Positions are random Fourier features.  SAM's have almost no low frequencies, so that "right of the left
    # edge" is slow to learn from scratch.  Spread over the octaves, sin(f x) is nearly linear for some f.
    angle = torch.rand(channels // 2) * 2 * math.pi
    size_of = torch.logspace(math.log10(0.05), math.log10(1.5), channels // 2)
    frequencies = torch.stack([angle.cos(), angle.sin()]) * size_of
    for holder in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
        holder.positional_embedding.requires_grad_(False).copy_(frequencies)
    if c.get("pretrained"):
        load_pretrained(model.vision_encoder.tower.backbone, **c["pretrained"])
    return model


def nameless_regions(sample: Sample, scale: float) -> NDArray[np.int32]:
    """Regions of like intensity (Felzenszwalb 2004), int32 (S, S): outlines without a name."""
    small = sample.image[::2, ::2].astype(np.float32) / 255
    regions = felzenszwalb(small, scale=scale, sigma=0.8, min_size=40)
    return np.kron(regions, np.ones((2, 2), np.int32)).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """What a step of the segmenter learns from; coordinates are pixels of the S x S views.

    Attributes:
        pixels: float32 (B, 1, S, S), or (B, 3, S, S) where any sample is in colour, 0 to 1.
        masks: float32 (B, P, S / 2, S / 2), 0 and 1.
        boxes: float32 (B, P, 4), x0 y0 x1 y1.
        points: float32 (B, P, 1, 2).
        weights: float32 (B, P), 0 for prompts that ask for nothing.
        clicks: weight of the points' terms.
    """

    pixels: Tensor
    masks: Tensor
    boxes: Tensor
    points: Tensor
    weights: Tensor
    clicks: float


MIN_PIECE = 9
"""Pixels of a mask's grid below which a piece is no shape."""


class SegmenterBatches(Scheduled):
    """What every step learns from."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int) -> None:
        self.c, self.seed = c, seed
        self.samples = [s for s in samples if s.exact or s.source == "cheng"]
        self.source = [s.source if s.masks or s.source != "busi" else "cheng" for s in self.samples]
        self.phases = Phases(c["phases"], c["warmup"])
        self.regions: dict[int, NDArray[np.int32]] = {}

    def _prepared(self, index: int, phase: Mapping[str, Any], rng: np.random.Generator) -> Sample:
        """The sample with its exact masks, at times a pasted lesion, and a few nameless regions."""
        sample = self.samples[index]
        masks = dict(sample.masks) if sample.exact else {}
        if index not in self.regions:
            self.regions[index] = nameless_regions(sample, float(np.random.default_rng(index).choice([60, 150, 350])))
        often = phase.get("lesions", 0.0) * (1.0 if masks else 3.0)  # brains have no outline of their own
        grey = sample.image.ndim == 2
        pasted = paste_lesion(sample.image, rng) if grey and often and rng.random() < often else None
        if pasted is not None:
            sample = dataclasses.replace(sample, image=pasted[0])
            masks["lesion"] = pasted[1]
        regions = self.regions[index]
        names = np.unique(regions)
        for name in rng.choice(names, min(2 if masks else 6, len(names)), replace=False):
            masks[f"region-{name}"] = (regions == name).astype(np.uint8)
        return dataclasses.replace(sample, masks=masks)

    def _prompts(
        self, view: View, phase: Mapping[str, Any], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """P prompts of one view: masks (P, m, m), boxes (P, 4), points (P, 1, 2), weights (P,).

        A phase says how often a region with a name is asked for where there is one (`named`), and how far the
        edges of boxes are off (`jitter`: deviations as a share of the box's sides, of which one is drawn).
        """
        often, jitters = phase.get("named", 0.7), phase.get("jitter", (0.02, 0.06, 0.12))
        side = view.pixels.shape[-1]
        usable = [(n, m) for n, m in view.masks.items() if float((m > 0.5).sum()) >= 25]
        named = [pair for pair in usable if not pair[0].startswith("region-")]
        masks, boxes, points, weights = [], [], [], []
        for _ in range(self.c["prompts"]):
            if not usable:
                masks.append(torch.zeros(side // MASK_STRIDE, side // MASK_STRIDE))
                boxes.append([0.0, 0.0, 16.0, 16.0])
                points.append([[8.0, 8.0]])
                weights.append(0.0)
                continue
            pool = named if named and rng.random() < often else usable
            name, mask = pool[int(rng.integers(len(pool)))]
            mask = one_piece(mask > 0.5, rng) if name in MANY else mask > 0.5
            ys, xs = (v.numpy() for v in torch.nonzero(mask, as_tuple=True))
            x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            w, h = x1 - x0, y1 - y0
            jitter = rng.normal(0, float(rng.choice(jitters)), 4)
            box = np.array([x0, y0, x1, y1], float) + jitter * [w, h, w, h]
            box = np.clip(box, 0, side // MASK_STRIDE) * MASK_STRIDE
            k = int(rng.integers(len(xs)))
            masks.append(mask.float())
            boxes.append([float(v) for v in box])
            points.append([[(xs[k] + 0.5) * MASK_STRIDE, (ys[k] + 0.5) * MASK_STRIDE]])
            weights.append(1.0)
        return (
            torch.stack(masks),
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor(np.array(points), dtype=torch.float32),
            torch.tensor(weights),
        )

    def batch(self, step: int) -> Batch:
        """Views and prompts, a function of (seed, step)."""
        rng = np.random.default_rng([self.seed, 7, step])
        phase = self.phases.at(step)
        shares = phase.get("shares", self.c["shares"])
        chosen = rng.choice(len(self.samples), self.c["batch"], replace=False, p=chances(self.source, shares))
        size = self.c["image_size"]
        views = [
            augment(self._prepared(int(i), phase, rng), size, rng, AUGMENT, MEAN[1], mask_stride=MASK_STRIDE)
            for i in chosen
        ]
        made = [self._prompts(v, phase, rng) for v in views]
        colour = any(v.pixels.ndim == 3 for v in views)
        pixels = torch.stack([v.pixels.expand(3 if colour else 1, -1, -1) for v in views])
        masks, boxes, points, weights = (torch.stack(part) for part in zip(*made, strict=True))
        return Batch(pixels, masks, boxes, points, weights, clicks=phase.get("clicks", 0.5))


class SegmenterTask(SegmenterBatches):
    """What `Loop` needs to train the segmenter: a batch and its loss."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int) -> None:
        super().__init__(c, samples, seed)
        self.model = build(c)

    def begin(self) -> None:
        """The bundled segmenter's weights, where the recipe says so."""
        if self.c.get("from_bundled"):
            clip = Path(self.c["older"]) if "older" in self.c else bundled_folder("encoder")
            bundled = TowerSam.from_pretrained(clip.parent / "sam")
            self.model.load_state_dict(bundled.float().state_dict())

    def loss(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """The weighted terms of one batch."""
        masks, boxes, points, weights = (
            part.to(device) for part in (batch.masks, batch.boxes, batch.points, batch.weights)
        )
        half, clicks = self.c["prompts"] // 2, batch.clicks
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, STD))
        pixels = (batch.pixels.to(device).expand(-1, 3, -1, -1) - mean) / std
        embedded = self.model.vision_encoder(pixels)[0]  # get_image_embeddings would cut the gradient
        boxed = self.model(image_embeddings=embedded, input_boxes=boxes, multimask_output=False)
        pointed = self.model(image_embeddings=embedded, input_points=points[:, :half], multimask_output=True)
        near = boxes / MASK_STRIDE
        box = mask_losses(boxed.pred_masks.float(), boxed.iou_scores.float(), masks, near, weights)
        point = mask_losses(
            pointed.pred_masks.float(), pointed.iou_scores.float(), masks[:, :half], near[:, :half],
            weights[:, :half],
        )  # fmt: skip
        return {
            "box": box[0],
            "box_iou": 0.2 * box[1],
            "point": clicks * point[0],
            "point_iou": 0.2 * clicks * point[1],
        }


def one_piece(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """One connected piece of a mask (m, m), as likely as it is large; the whole where the piece is tiny.

    Args:
        mask: bool, with at least one pixel.
        rng: draws the pixel whose piece it is.
    """
    pieces, _ = ndimage.label(mask.numpy())
    places = np.flatnonzero(pieces)
    piece = torch.from_numpy(pieces == pieces.ravel()[places[rng.integers(len(places))]])
    return piece if int(piece.sum()) >= MIN_PIECE else mask


def mask_losses(
    logits: Tensor, predicted: Tensor, masks: Tensor, boxes: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Dice + binary cross-entropy of the best candidate, and the error of the predicted IoU of all.

    The cross-entropy is a mean over the box grown by a third, where about half the pixels are inside, plus
    a fifth of the mean elsewhere: over the whole image it would be won by answering nothing.

    Args:
        logits: (B, P, M, m, m).
        predicted: (B, P, M) estimates of the IoU.
        masks: (B, P, m, m) of 0 and 1.
        boxes: (B, P, 4) x0 y0 x1 y1 on the masks' grid.
        weights: (B, P), 0 for prompts that ask for nothing.
    """
    target = masks[:, :, None].expand_as(logits)
    near = _near(boxes, masks.shape[-1])[:, :, None]
    p = logits.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = (bce * near).sum((-2, -1)) / near.sum((-2, -1)).clamp(min=1)
    outside = (bce * (1 - near)).sum((-2, -1)) / (1 - near).sum((-2, -1)).clamp(min=1)
    dice = 1 - (2 * (p * target).sum((-2, -1)) + 1) / (p.sum((-2, -1)) + target.sum((-2, -1)) + 1)
    each = inside + 0.2 * outside + dice
    best = each.min(-1).values + 0.05 * each.mean(-1)
    with torch.no_grad():
        hard = logits > 0
        union = (hard | (target > 0.5)).sum((-2, -1)).clamp(min=1)
        truth = (hard & (target > 0.5)).sum((-2, -1)) / union
    error = ((predicted - truth) ** 2).mean(-1)
    total = weights.sum().clamp(min=1)
    return (best * weights).sum() / total, (error * weights).sum() / total


def _near(boxes: Tensor, side: int) -> Tensor:
    """1 inside each box (B, P, 4) grown by a third, 0 elsewhere: (B, P, side, side)."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    reach = half * 4 / 3 + 2
    at = torch.arange(side, device=boxes.device) + 0.5
    x = ((at - centre[..., :1]).abs() <= reach[..., :1]).float()
    y = ((at - centre[..., 1:]).abs() <= reach[..., 1:]).float()
    return y[..., :, None] * x[..., None, :]
