"""Pairs that only look like negatives: the same caption, or the same image, more than once in a batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor

_BLANKS = re.compile(r"\s+")


def identity(texts: Sequence[str]) -> Tensor:
    """A number for each text, equal for texts that say the same in the same words.

    Letter case, blanks and a final full stop do not count.  The numbers are those of a hash and not of a
    list, so that processes that never met agree on them.

    Args:
        texts: captions, or paths of images.

    Returns:
        int64 (N,).
    """
    numbers = []
    for text in texts:
        plain = _BLANKS.sub(" ", text.casefold()).strip().rstrip(".").rstrip()
        digest = hashlib.sha256(plain.encode("utf-8", "surrogateescape")).digest()
        numbers.append(int.from_bytes(digest[:8], "little", signed=True))
    return torch.tensor(numbers, dtype=torch.int64)


def true_negatives(*identities: Tensor) -> Tensor:
    """Which pairs of a batch may be pushed apart.

    Args:
        identities: int64 (B,) each, of captions and, where one image has several captions, of images.

    Returns:
        bool (B, B): False where i and j share any of them, and so on the diagonal.
    """
    same = torch.stack([each[:, None] == each[None, :] for each in identities])
    return ~same.any(dim=0)
