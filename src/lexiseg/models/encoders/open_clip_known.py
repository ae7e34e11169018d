"""Which wordings a sentence encoder was taught, so that it can tell a phrase that it does not know.

A folder whose text tower is a sentence encoder may carry `FILE`: an embedding of every wording that it was taught,
and what each names.  Without that file nobody judges phrases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import BrokenWeights

FILE = "known_wordings.safetensors"


@dataclass(frozen=True, eq=False)
class KnownWordings:
    r"""Wordings as a sentence encoder hears them, and how near to one of them a phrase must be.

    With :math:`u` the unit embedding of a phrase and :math:`u_i` those of the wordings, the phrase names what its
    nearest wording names where :math:`\max_i u^\top u_i \ge t`, else nothing that is known.

    Attributes:
        sentences: float32 (K, W), unit length.
        concepts: what each names; "" for what is known and drawn on no scan (another organ, another finding).
        least: t, -1 to 1.

    Raises:
        ValueError: there is none, or not one concept for each.

    Example:
        >>> known = KnownWordings(torch.eye(2), ("lungs", ""), least=0.5)
        >>> known.concept(torch.tensor([0.9, 0.1])), known.concept(torch.tensor([0.1, 0.9]))
        ('lungs', '')
        >>> known.concept(torch.tensor([-0.9, -0.1])) is None
        True
    """

    sentences: Tensor
    concepts: tuple[str, ...]
    least: float

    def __post_init__(self) -> None:
        if not self.concepts or self.sentences.ndim != 2 or len(self.sentences) != len(self.concepts):
            raise ValueError(f"{len(self.concepts)} concepts do not fit sentences {tuple(self.sentences.shape)}")

    def concept(self, sentence: Tensor) -> str | None:
        """What a phrase names, of its embedding (W,): one of `concepts`, or None where no wording is near."""
        near = self.sentences @ functional.normalize(sentence.float().cpu(), dim=0)
        best = int(near.argmax())
        return self.concepts[best] if float(near[best]) >= self.least else None


def read_known(folder: Path) -> KnownWordings | None:
    """The folder's wordings; None where it carries none.

    Raises:
        BrokenWeights: the file is truncated or is another.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata()
            sentences, numbers = stored.get_tensor("sentences"), stored.get_tensor("concepts")
        names: list[str] = json.loads(about["concepts"])
        concepts = tuple(names[number] for number in numbers.tolist())
        return KnownWordings(functional.normalize(sentences.float(), dim=1), concepts, float(about["least"]))
    except (SafetensorError, OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise BrokenWeights(
            f"{path} holds no known wordings ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "expected sentences, concepts and a threshold"
        ) from error


def sentences_of(text_tower: Any, tokens: Tensor) -> Tensor:
    """What a Hugging Face text tower makes of phrases before its projection: (N, W).

    Args:
        text_tower: of an open_clip model.
        tokens: int64 (N, L), with the tower's own padding.
    """
    seen = (tokens != text_tower.config.pad_token_id).long()
    return text_tower.pooler(text_tower.transformer(input_ids=tokens, attention_mask=seen), seen)  # type: ignore[no-any-return]


def pack_known(sentences: Tensor, concepts: Sequence[str], *, least: float) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of `FILE`: embeddings (K, W) in 16 bits, and what each names."""
    names = sorted(set(concepts))
    numbers = torch.tensor([names.index(concept) for concept in concepts], dtype=torch.int16)
    tensors = {"sentences": functional.normalize(sentences, dim=1).half().contiguous(), "concepts": numbers}
    return tensors, {"format": "pt", "concepts": json.dumps(names), "least": repr(float(least))}
