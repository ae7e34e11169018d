"""The text tower learns its words first, without an image: which phrases mean the same, and which nothing.

Text is cheap and scans are few: a thousand batches of phrases cost what some ten batches of scans cost, and
then the image tower has something firm to align with.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.training.schedule import warm_cosine
from recipe.concepts import HOME, NORMAL, SYNONYMS, elsewhere, nonsense
from recipe.supervision import say

logger = logging.getLogger(__name__)

CONCEPTS = tuple(SYNONYMS)
_TUMORS = frozenset(c for c in CONCEPTS if "tumor" in c or c in ("glioma", "meningioma"))
_LUNGS = frozenset({"lungs", "left lung", "right lung"})


def related(one: str, other: str) -> bool:
    """True where one phrase may well be true of what the other names: a glioma is a brain tumor."""
    if one == other:
        return False
    both = {one, other}
    alike = HOME[one] == HOME[other] or "" in (HOME[one], HOME[other])
    return both <= _LUNGS or (both <= _TUMORS and alike)


def teach_words(model: Any, tokenizer: Any, c: Mapping[str, Any], seed: int) -> None:
    r"""Train the text tower alone, in place.

    Each concept :math:`k` gets a unit vector :math:`p_k`, learnt along and then thrown away; a phrase's
    embedding :math:`t` answers :math:`\sigma(s t^\top p_k + b)` with 1 for its own concept and 0 for the
    others, those that are `related` left out, and with 0 for all where it names nothing.  Binary
    cross-entropy, own concepts and others weighed alike.

    Args:
        model: the open_clip model; its text tower is trained.
        tokenizer: phrases -> token ids.
        c: `steps`, `batch` and `lr`.
        seed: of every draw.
    """
    names = {n for n, _ in model.named_parameters() if not n.startswith(("visual", "logit"))}
    weights = [p for n, p in model.named_parameters() if n in names]
    generator = torch.Generator().manual_seed(seed)
    device = weights[0].device
    width = model.encode_text(tokenizer(["a"]).to(device)).shape[-1]
    prototypes = nn.Parameter(torch.randn(len(CONCEPTS), width, generator=generator).to(device))
    optimizer = torch.optim.AdamW([*weights, prototypes], lr=c["lr"], betas=(0.9, 0.98), weight_decay=0.01)
    apart = torch.tensor([[not related(a, b) for b in CONCEPTS] for a in CONCEPTS], device=device)
    model.train()
    for step in range(c["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = c["lr"] * warm_cosine(step, c["steps"], 50)
        phrases, own = draw_phrases(c["batch"], random.Random(f"{seed}-words-{step}"))
        text = functional.normalize(model.encode_text(tokenizer(phrases).to(device)), dim=-1)
        logits = 10.0 * text @ functional.normalize(prototypes, dim=-1).T - 4.0
        loss = _loss(logits, own.to(device), apart)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if (step + 1) % 200 == 0:
            logger.info("words: step %d/%d  loss %.4f", step + 1, c["steps"], loss.item())


def draw_phrases(count: int, words: random.Random) -> tuple[list[str], Tensor]:
    """Phrases and the index of the concept that each names, -1 for none."""
    phrases, own = [], []
    for _ in range(count):
        if words.random() < 0.5:
            own.append(words.randrange(len(CONCEPTS)))
            phrases.append(say(words.choice(SYNONYMS[CONCEPTS[own[-1]]]), words))
            continue
        own.append(-1)
        kind = words.random()
        if kind < 0.3:
            phrases.append(say(elsewhere(words), words))
        elif kind < 0.4:
            phrases.append(say(words.choice(NORMAL), words))
        else:
            phrases.append(say(nonsense(words), words))
    return phrases, torch.tensor(own)


def _loss(logits: Tensor, own: Tensor, apart: Tensor) -> Tensor:
    target = functional.one_hot(own.clamp(min=0), len(apart)).float() * (own >= 0)[:, None]
    certain = torch.where((own >= 0)[:, None], apart[own.clamp(min=0)], torch.ones_like(apart[:1]))
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * certain
    yes, no = target, (1 - target) * certain
    return (each * yes).sum() / yes.sum().clamp(min=1) + (each * no).sum(1).mean()
