"""Models behind two small protocols, and where their weights come from.

An `Encoder` puts pixels and phrases into one space; any model that open_clip builds is one.  A `Segmenter`
draws what a box or points ask for; the first SAM family through transformers is one.  `load_encoder` and
`load_segmenter` take a name ("bundled", a folder, a hub id, an original checkpoint), load strictly (weights
that do not fit are an error, never noise) and record provenance.  `pull` makes folders that work with the
network unplugged, `list_models` and `check_model` say what is here; these three do not import torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

# Health data: whatever library is loaded below must not report what it is used for.  The hub's client reads
# this once, when it is imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

if TYPE_CHECKING:
    from lexiseg.models.device import resolve_device, resolve_precision
    from lexiseg.models.download import pull
    from lexiseg.models.encoder import Encoder
    from lexiseg.models.known import KNOWN_MODELS, KnownModel, known_model
    from lexiseg.models.open_clip_encoder import OpenClipEncoder
    from lexiseg.models.registry import load_encoder, load_segmenter
    from lexiseg.models.sam_segmenter import SamSegmenter
    from lexiseg.models.segmenter import Decoded, EncodedImage, Segmenter
    from lexiseg.models.status import FileCheck, ModelCheck, ModelStatus, check_model, list_models
    from lexiseg.models.weights import FolderRecord, WeightsInfo, read_record, write_record

# Looked up on first use, so that `lexiseg models list` needs no torch.
_HOMES = {
    "download": ("pull",),
    "device": ("resolve_device", "resolve_precision"),
    "encoder": ("Encoder",),
    "known": ("KNOWN_MODELS", "KnownModel", "known_model"),
    "open_clip_encoder": ("OpenClipEncoder",),
    "registry": ("load_encoder", "load_segmenter"),
    "sam_segmenter": ("SamSegmenter",),
    "segmenter": ("Decoded", "EncodedImage", "Segmenter"),
    "status": ("FileCheck", "ModelCheck", "ModelStatus", "check_model", "list_models"),
    "weights": ("FolderRecord", "WeightsInfo", "read_record", "write_record"),
}

__all__ = [
    "KNOWN_MODELS",
    "Decoded",
    "EncodedImage",
    "Encoder",
    "FileCheck",
    "FolderRecord",
    "KnownModel",
    "ModelCheck",
    "ModelStatus",
    "OpenClipEncoder",
    "SamSegmenter",
    "Segmenter",
    "WeightsInfo",
    "check_model",
    "known_model",
    "list_models",
    "load_encoder",
    "load_segmenter",
    "pull",
    "read_record",
    "resolve_device",
    "resolve_precision",
    "write_record",
]

__getattr__ = lazy_names(__name__, _HOMES)
