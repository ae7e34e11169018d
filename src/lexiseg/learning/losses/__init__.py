"""Contrastive losses as pure functions of two batches of embeddings, computed in log space.

All of them take the same arguments, so that one can stand for another: image and text embeddings (B, E) whose
i-th rows belong together, a temperature, two hardnesses, and which pairs are truly negative.
"""

from lexiseg.learning.losses.as_released import as_released
from lexiseg.learning.losses.dcl import dcl
from lexiseg.learning.losses.dhn_nce import dhn_nce
from lexiseg.learning.losses.duplicates import identity, true_negatives
from lexiseg.learning.losses.hn_nce import hn_nce
from lexiseg.learning.losses.infonce import infonce
from lexiseg.learning.losses.registry import LOSSES, ContrastiveLoss, find_loss

__all__ = [
    "LOSSES",
    "ContrastiveLoss",
    "as_released",
    "dcl",
    "dhn_nce",
    "find_loss",
    "hn_nce",
    "identity",
    "infonce",
    "true_negatives",
]
