"""What a batch of the encoder's training is asked, and the answers that are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from recipe.augment import View
from recipe.concepts import NORMAL, SYNONYMS, elsewhere, nonsense
from recipe.data import Sample

TEMPLATES = (
    "{}", "{}", "{}", "a {}", "the {}", "{} in this scan", "a medical image of {}", "segment the {}",
    "a medical scan showing {}", "{} seen on imaging", "an image in which {} is visible", "the region of {}",
)  # fmt: skip
"""Put around what is there and what is not alike: a template must not speak for either."""


@dataclass(frozen=True)
class Question:
    """A phrase put to every image of a batch; `concept` decides where it is true ("" nowhere)."""

    phrase: str
    concept: str = ""
    caption_of: int = -1


def questions(samples: Sequence[Sample], views: Sequence[View], rng: random.Random) -> list[Question]:
    """The phrases of one batch: what is there, what could be, what is elsewhere, and nonsense."""
    asked: dict[str, Question] = {}
    concepts: set[str] = set()
    for sample in samples:
        # sorted: a set of strings has another order in each process, and the draw would follow it
        own = [*sample.masks, *sorted(sample.absent)]
        concepts.update(rng.sample(own, min(2, len(own))))
        if sample.source != "phantom":
            concepts.update(c for c in ("breast tumor", "brain tumor", "lungs", "fetal head") if c in own)
    concepts.update(rng.sample(sorted(SYNONYMS), 3))
    for concept in sorted(concepts):
        for wording in dict.fromkeys((SYNONYMS[concept][0], rng.choice(SYNONYMS[concept]))):
            text = say(wording, rng)
            asked[text] = Question(text, concept)
    absent = [*(elsewhere(rng) for _ in range(6)), *rng.sample(NORMAL, 2), *(nonsense(rng) for _ in range(8))]
    for wording in absent:
        text = say(wording, rng)
        asked.setdefault(text, Question(text))
    for i, view in enumerate(views):
        if view.caption and view.caption not in asked:
            asked[view.caption] = Question(view.caption, "caption", i)
    return list(asked.values())


def say(wording: str, rng: random.Random) -> str:
    """A wording in a template, now and then with a capital."""
    text = rng.choice(TEMPLATES).format(wording)
    return text.capitalize() if rng.random() < 0.2 else text


@dataclass(frozen=True, eq=False)
class Supervision:
    """What is known of B images and Q phrases.

    Attributes:
        targets: (B, Q, g, g) the share of each position inside the mask, -1 where unknown.
        weights: (B, Q) 0 where the positions teach nothing.
        presence: (B, Q) 1 in view, 0 not in the view, -1 unknown.
        close: (B, Q) True where a phrase of the image's own organ is absent: a normal breast, a hidden lung.
        captions: (Q,) True for whole captions, which name no mask.
    """

    targets: Tensor
    weights: Tensor
    presence: Tensor
    close: Tensor
    captions: Tensor

    def to(self, device: torch.device) -> Supervision:
        """The same on another device."""
        return Supervision(*(getattr(self, f.name).to(device) for f in fields(self)))


def supervise(samples: Sequence[Sample], views: Sequence[View], asked: Sequence[Question], grid: int) -> Supervision:
    """What each image says of each phrase; a phrase without a concept is nowhere."""
    b, q = len(samples), len(asked)
    targets, weights, presence = torch.zeros(b, q, grid, grid), torch.ones(b, q), torch.zeros(b, q)
    close = torch.zeros(b, q, dtype=torch.bool)
    for i, (sample, view) in enumerate(zip(samples, views, strict=True)):
        pooled = {concept: share_inside(mask, grid) for concept, mask in view.masks.items()}
        for j, question in enumerate(asked):
            if question.concept == "caption":
                weights[i, j] = 0
                if view.caption == question.phrase:
                    presence[i, j] = 1
                elif samples[question.caption_of].organ == sample.organ:
                    presence[i, j] = -1
            elif question.concept in pooled:
                targets[i, j] = pooled[question.concept]
                shown = view.visible[question.concept]
                presence[i, j] = 1.0 if shown > 0.35 else (0.0 if shown < 0.05 else -1.0)
                close[i, j] = shown < 0.05
            elif question.concept in sample.absent:
                close[i, j] = True
            elif question.concept and sample.status(question.concept) is None:
                weights[i, j], presence[i, j] = 0, -1
    captions = torch.tensor([question.concept == "caption" for question in asked])
    return Supervision(targets, weights, presence, close, captions)


def share_inside(mask: Tensor, grid: int) -> Tensor:
    """Each position's share inside a mask (m, m) of 0 to 1 and -1: (grid, grid), -1 where mostly unknown."""
    known = (mask >= 0).float()
    share = functional.adaptive_avg_pool2d((mask * known)[None, None], grid)[0, 0]
    seen = functional.adaptive_avg_pool2d(known[None, None], grid)[0, 0]
    return torch.where(seen > 0.5, share / seen.clamp(min=1e-3), torch.tensor(-1.0))
