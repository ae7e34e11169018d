r"""A rule on the text alone for "I do not know this word".

A phrase is unknown where no known wording is near it: with :math:`u` the sentence encoder's unit embedding of the
phrase and :math:`u_i` those of the known wordings, where :math:`\max_i u^\top u_i` is below a threshold.  What is
known includes organs and findings that no image tower draws: a kidney is absent from a breast, not unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def nearest_of_other_families(known: Tensor, families: Sequence[str]) -> Tensor:
    """Each known wording's largest cosine with one of another family, (K,): as if its own were held out.

    Args:
        known: (K, width) sentence embeddings.
        families: K names; equal ones are one family.

    Raises:
        ValueError: there is only one family.
    """
    if len(set(families)) < 2:
        raise ValueError(f"got the families {sorted(set(families))}; expected at least two")
    numbers = {family: number for number, family in enumerate(dict.fromkeys(families))}
    own = torch.tensor([numbers[family] for family in families])
    unit = functional.normalize(known, dim=1)
    return (unit @ unit.T).masked_fill(own[:, None] == own[None], -1.0).amax(1)


def choose_threshold(known: Tensor, *, false_unknown: float = 0.02) -> float:
    """The threshold below which a share `false_unknown` of known wordings lies.

    Args:
        known: what `nearest_of_other_families` gives of the training part.
        false_unknown: the share of known wordings that may be called unknown, 0 to 1.
    """
    if not 0 <= false_unknown <= 1:
        raise ValueError(f"false_unknown is {false_unknown}; expected 0 to 1")
    return float(known.quantile(false_unknown))
