"""Training the bundled encoder: phrases are aligned with positions, and with whole views."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.models.fpn import STRIDE  # (the import makes the architectures known to timm, too)
from recipe.augment import AugmentSettings, augment
from recipe.data import Sample
from recipe.phases import Phases, Scheduled
from recipe.photographs import load_pretrained
from recipe.sampling import Sampler
from recipe.supervision import Supervision, questions, supervise
from recipe.words import teach_words


def open_clip_config(c: Mapping[str, Any]) -> dict[str, Any]:
    """The open_clip_config.json of the bundled encoder."""
    return {
        "model_cfg": {
            "embed_dim": c["embed_dim"],
            "vision_cfg": {
                "timm_model_name": c["image_tower"],
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                # the tower's own classifier projects: open_clip sizes a linear one wrongly for this family
                "timm_proj": "",
                "image_size": c["image_size"],
            },
            "text_cfg": dict(c["text"]),
            "init_logit_scale": c["init_logit_scale"],
            "init_logit_bias": c["init_logit_bias"],
        },
        "preprocess_cfg": {
            "mean": [c["mean"]] * 3,
            "std": [c["std"]] * 3,
            "interpolation": "bilinear",
            "resize_mode": "longest",
            "fill_color": round(c["mean"] * 255),
        },
    }


def build(c: Mapping[str, Any]) -> nn.Module:
    """The encoder before its training, made by open_clip; photographs may have taught its image tower.

    `fused_attention: false` computes the image tower's attention as plain products.

    Raises:
        ModuleNotFoundError, ValueError: what `pretrained` names is not there, or not as expected.
    """
    cfg = open_clip_config(c)["model_cfg"]
    model: Any = open_clip.CLIP(**cfg)
    if not c.get("fused_attention", True):
        for part in model.visual.modules():
            if hasattr(part, "fused_attn"):  # timm's switch for all would reach other parts' towers, too
                part.fused_attn = False
    if c.get("pretrained"):
        load_pretrained(model.visual.trunk.backbone, **c["pretrained"])
    return cast(nn.Module, model)


def dense_features(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings of every position (B, E, h, w) and of the whole image (B, E).

    Positions and the pooled image go through the head as one batch: where it has a batch norm, that then
    trains on the statistics that it will use.
    """
    trunk, head = model.visual.trunk, model.visual.head
    maps = trunk.forward_features(pixels)
    b, channels, h, w = maps.shape
    both = torch.cat([maps.flatten(2), maps.mean((2, 3))[..., None]], 2).transpose(1, 2)
    each = head(trunk.forward_head(both.reshape(-1, channels, 1, 1))).reshape(b, h * w + 1, -1)
    embedded = functional.normalize(each.float(), dim=-1)
    return embedded[:, :-1].transpose(1, 2).reshape(b, -1, h, w), embedded[:, -1]


def losses(
    dense: Tensor, whole: Tensor, text: Tensor, known: Supervision, *, scale: Tensor, bias: Tensor
) -> dict[str, Tensor]:
    """Every term, each a mean over its own pairs.

    Positions: p = sigmoid(scale cos(f, t) + bias) against the mask, binary cross-entropy over all positions
    and, for pairs with a target in view, the soft Dice.  Views: the same sigmoid of the whole image.

    Args:
        dense: (B, E, g, g) unit embeddings of positions.
        whole: (B, E) unit embeddings of images.
        text: (Q, E) unit embeddings of phrases.
        known: what is true of them.
        scale: the logit scale.
        bias: the logit bias.
    """
    logits = torch.einsum("behw,qe->bqhw", dense, text) * scale + bias
    certain = (known.targets >= 0).float()
    t = known.targets.clamp(min=0)
    bce = functional.binary_cross_entropy_with_logits(logits, t, reduction="none") * certain
    bce = bce.sum((2, 3)) / certain.sum((2, 3)).clamp(min=1)
    positive = (t.sum((2, 3)) > 0.2).float() * known.weights
    negative = (1 - (t.sum((2, 3)) > 0).float()) * known.weights
    p = logits.sigmoid() * certain
    dice = 1 - (2 * (p * t).sum((2, 3)) + 0.5) / (p.sum((2, 3)) + t.sum((2, 3)) + 0.5)
    # an absent phrase must be silent everywhere: its loudest positions count beside its mean
    count = max(1, logits[0, 0].numel() // 36)
    loud = functional.softplus(logits.flatten(2)).topk(count, -1).values.mean(-1)
    silence = bce + 0.25 * loud
    whole_logits = whole @ text.T * scale + bias
    view = functional.binary_cross_entropy_with_logits(whole_logits, known.presence.clamp(min=0), reduction="none")
    phrase = ~known.captions[None].expand_as(known.presence)
    yes, no = known.presence == 1, known.presence == 0
    return {
        "dense": _mean(bce, positive),
        "dice": _mean(dice, positive),
        "negative": _mean(silence, negative * ~known.close),
        "close": _mean(silence, negative * known.close),
        "presence": _mean(view, yes & phrase)
        + _mean(view, no & phrase & ~known.close)
        + 0.5 * _mean(view, no & phrase & known.close),
        "caption": _mean(view, yes & ~phrase) + _mean(view, no & ~phrase),
    }


def _mean(value: Tensor, where: Tensor) -> Tensor:
    return (value * where).sum() / where.sum().clamp(min=1)


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step of the encoder learns from.

    Attributes:
        pixels: float32 (B, 1, R, R), normalised.
        tokens: int64 (Q, L), of the phrases.
        known: what each image says of each phrase.
    """

    pixels: Tensor
    tokens: Tensor
    known: Supervision


class EncoderBatches(Scheduled):
    """What every step learns from: any model of `stride` pixels a position, and several may."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int, stride: int = STRIDE) -> None:
        self.c, self.seed, self.stride = c, seed, stride
        self.tokenizer = open_clip.SimpleTokenizer(context_length=c["text"]["context_length"])
        self.phases = Phases(c["phases"], c["warmup"])
        self.sampler = Sampler(samples, c["shares"])

    def batch(self, step: int) -> Batch:
        """Views and phrases, a function of (seed, step)."""
        phase = self.phases.at(step)
        rng = np.random.default_rng([self.seed, step])
        words = random.Random(f"{self.seed}-{step}")
        samples = self.sampler.batch(phase, rng)
        changes = AugmentSettings(**phase.get("augment", {}))
        views = [augment(s, phase["resolution"], rng, changes, self.c["mean"]) for s in samples]
        asked = questions(samples, views, words)
        pixels = torch.stack([v.pixels for v in views])[:, None]
        return Batch(
            pixels=(pixels - self.c["mean"]) / self.c["std"],
            tokens=self.tokenizer([a.phrase for a in asked]),
            known=supervise(samples, views, asked, phase["resolution"] // self.stride),
        )


class EncoderTask(EncoderBatches):
    """What `Loop` needs to train the encoder: a batch and its loss."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int) -> None:
        self.model = cast(Any, build(c))
        stride = int(self.model.visual.trunk.feature_info[-1]["reduction"])
        super().__init__(c, samples, seed, stride)

    def begin(self) -> None:
        """The text tower learns its words."""
        if self.c.get("words"):
            teach_words(self.model, self.tokenizer, self.c["words"], self.seed)

    def loss(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """The weighted terms of one batch."""
        pixels = batch.pixels.to(device).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        dense, whole = dense_features(self.model, pixels)
        text = functional.normalize(self.model.encode_text(batch.tokens.to(device)).float(), dim=-1)
        known = batch.known.to(device)
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        with torch.autocast(device.type, enabled=False):  # a cosine in bfloat16 times the scale is too coarse
            terms = losses(dense, whole, text, known, scale=scale, bias=bias)
        return {k: v * self.c["loss"][k] for k, v in terms.items()}
