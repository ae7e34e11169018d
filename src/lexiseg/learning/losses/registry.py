"""Losses by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.learning.losses.as_released import as_released
from lexiseg.learning.losses.dcl import dcl
from lexiseg.learning.losses.dhn_nce import dhn_nce
from lexiseg.learning.losses.hn_nce import hn_nce
from lexiseg.learning.losses.infonce import infonce


class ContrastiveLoss(Protocol):
    """What every loss is: see `dhn_nce` for the arguments."""

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        temperature: Tensor | float,
        beta1: float,
        beta2: float,
        *,
        negatives: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar."""


LOSSES: Mapping[str, ContrastiveLoss] = {
    "dhn-nce": dhn_nce,
    "hn-nce": hn_nce,
    "dcl": dcl,
    "infonce": infonce,
    "as-released": as_released,
}


def find_loss(name: str) -> ContrastiveLoss:
    """The loss of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in LOSSES:
        raise UsageError(f"there is no loss {name!r}; expected one of {', '.join(LOSSES)}")
    return LOSSES[name]
