"""Write the trained models in the ordinary formats, small: an open_clip, a SAM's and a student's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from lexiseg.models.fpn import FPNTower
from lexiseg.models.weights.int8 import SCALE, pack
from lexiseg.models.weights.records import write_record
from recipe.encoder import open_clip_config

ENCODER, SEGMENTER, UNET = "9", "7", "1.1"
"""Revisions, written into each folder's record."""
LICENCE = "LicenseRef-research-use"
"""Parts of the training data may be used for research only: see the model card."""

_ABOUT_UNET = """# What students begin from

A U-Net with residual units that draws the usual target of breast and fetal ultrasound, chest X-ray and
brain MRI, whatever the phrase. Trained on true masks by the recipe of the bundled pair; the model card one
folder up says on which scans, and under which licences. Not a medical device.
"""


_WORDS = "token_embedding.weight"
_MANY = 30_000
"""Arrays of so many numbers, most of all weights, are kept in 8 bits; the rest is cheap as it is."""


def _small(model: nn.Module, *, packed: tuple[str, ...] = ("",)) -> dict[str, torch.Tensor]:
    """The state in fp16, large arrays whose names begin with one of `packed` in 8 bits; counters stay whole.

    Clones, because safetensors refuses shared memory.
    """
    state = {
        k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous().clone()
        for k, v in model.state_dict().items()
    }
    for name, weight in model.named_parameters():
        if name.startswith(packed) and weight.ndim > 1 and weight.numel() >= _MANY:
            state[name], state[name + SCALE] = pack(weight.cpu())
    return state


def export_encoder(model: nn.Module, settings: Mapping[str, Any], folder: Path) -> None:
    """An open_clip folder: open_clip_config.json and open_clip_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    # Towers of ours read int8; the text tower is open_clip's own and does not.
    ours = [f"{name}." for name, module in model.named_modules() if isinstance(module, FPNTower)]
    state = _small(model, packed=tuple(ours))
    state.pop("attn_mask", None)
    # A row for each of 49,408 word pieces, for which three bits of mantissa do.
    state[_WORDS] = state[_WORDS].to(torch.float8_e4m3fn)
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_config(settings), indent=2) + "\n")
    write_record(folder, revision=ENCODER, licence=LICENCE)


CONCEPTS = "concepts.safetensors"
"""A trained image tower with the places of its concepts, float32: what `recipe.words_to_places` brings phrases to."""


def export_concepts(model: Any, settings: Mapping[str, Any], folder: Path) -> None:
    """A `ConceptEncoder`'s weights, and beside them concepts.json: their names and the open_clip configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    save_file(state, folder / CONCEPTS)
    about = {"names": model.names, "open_clip": open_clip_config(settings)}
    (folder / "concepts.json").write_text(json.dumps(about, indent=1) + "\n")


def export_segmenter(model: Any, settings: Mapping[str, Any], folder: Path) -> None:
    """A `TowerSam`'s folder, as transformers writes one: configuration, weights, the processor's settings."""
    from transformers import SamImageProcessor, SamProcessor

    folder.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    model.config.save_pretrained(folder)
    model.save_pretrained(folder, state_dict=_small(model), safe_serialization=True)
    size = settings["image_size"]
    processor = SamImageProcessor(
        size={"longest_edge": size},
        mask_size={"longest_edge": size // settings["stride"] * 4},
        pad_size={"height": size, "width": size},
        mask_pad_size={
            "height": size // settings["stride"] * 4,
            "width": size // settings["stride"] * 4,
        },
    )
    SamProcessor(processor).save_pretrained(folder)
    write_record(folder, revision=SEGMENTER, licence=LICENCE)


def export_unet(model: nn.Module, settings: Mapping[str, Any], folder: Path) -> None:
    """A student's folder, as `lexiseg train` writes it."""
    import lexiseg
    from lexiseg.training.students.config import StudentConfig
    from lexiseg.training.students.folder import write_student

    config = StudentConfig(
        names=("target",), supervised=True, channels=1, widths=tuple(settings["widths"]),
        residual_units=settings["residual_units"], size=settings["size"], extent=settings["size"], members=1,
        flips=True, lexiseg=lexiseg.__version__,
    )  # fmt: skip
    write_student(folder, config, [_small(model)], (), about=_ABOUT_UNET)
    write_record(folder, revision=UNET, licence=LICENCE)
