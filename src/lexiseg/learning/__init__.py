"""Learning: from images and their captions (contrastive losses, and the fine-tuning of an encoder with them),
and from masks that a zero-shot teacher drew (`lexiseg.learning.weak`).

`finetune` trains the towers of any encoder on pairs and writes an ordinary open_clip folder;
`measure_retrieval` says how well an encoder's images and captions find each other.  The losses are pure
functions and can be used by themselves: `lexiseg.learning.losses`.  Names are looked up on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

if TYPE_CHECKING:
    from lexiseg.learning.data import readable
    from lexiseg.learning.embedding import embed_pairs, measure_retrieval
    from lexiseg.learning.finetuning import FinetuneProgress, FinetuneReport, finetune
    from lexiseg.learning.settings import FinetuneSettings, load_settings, parse_change, preset_names

_HOMES = {
    "data": ("readable",),
    "embedding": ("embed_pairs", "measure_retrieval"),
    "finetuning": ("FinetuneProgress", "FinetuneReport", "finetune"),
    "settings": ("FinetuneSettings", "load_settings", "parse_change", "preset_names"),
}

__all__ = [
    "FinetuneProgress",
    "FinetuneReport",
    "FinetuneSettings",
    "embed_pairs",
    "finetune",
    "load_settings",
    "measure_retrieval",
    "parse_change",
    "preset_names",
    "readable",
]

__getattr__ = lazy_names(__name__, _HOMES)
