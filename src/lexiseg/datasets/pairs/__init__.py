"""Image-caption pairs: from a CSV, from MedPix and ROCO as they are distributed, and from phantoms."""

from lexiseg.datasets.pairs.captions import HardNegative, compose, hard_negatives
from lexiseg.datasets.pairs.pair import Pair, PairSet, SkippedPair
from lexiseg.datasets.pairs.parts import split_pairs
from lexiseg.datasets.pairs.phantoms import PhantomPair, phantom_pair, write_phantom_pairs
from lexiseg.datasets.pairs.read import read_pairs

__all__ = [
    "HardNegative",
    "Pair",
    "PairSet",
    "PhantomPair",
    "SkippedPair",
    "compose",
    "hard_negatives",
    "phantom_pair",
    "read_pairs",
    "split_pairs",
    "write_phantom_pairs",
]
