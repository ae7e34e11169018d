"""A trained encoder as an ordinary open_clip folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save
from torch import nn

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.encoders.open_clip_folder import CONFIG_NAME, read_config
from lexiseg.models.encoders.open_clip_text import TEXT_TOWER
from lexiseg.models.weights.records import RECORD_NAME, parse_reference, write_record

WEIGHTS_NAME = "open_clip_model.safetensors"


def export_encoder(encoder: OpenClipEncoder, model: nn.Module, folder: Path) -> Path:
    """Write a model beside what its encoder needs, so that ``--encoder FOLDER`` takes it.

    The folder holds open_clip_config.json, the weights in float32, the tokenizer and the text tower's
    configuration where they are not open_clip's own, and the record of checksums.  Files replace those of an
    earlier export one by one, each in one step, the record last.

    Args:
        encoder: which the model comes from.
        model: its weights as they are now.
        folder: made if missing.

    Returns:
        `folder`.

    Raises:
        UnwritableResult: the file system refused; no file is left half-written.
    """
    state = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None)
        .contiguous().clone()
        for name, tensor in model.state_dict().items()
        if name != "attn_mask"
    }  # fmt: skip
    info = encoder.weights
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Made in full beside its place, so that the record tells of the model's files alone.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            made = Path(temporary)
            config = _config(encoder)
            _write_text_tower(encoder, config, made)
            (made / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            atomic_write(made / WEIGHTS_NAME, lambda file: file.write(save(state, {"format": "pt"})))
            write_record(
                made,
                licence=info.licence if info else "",
                sources={info.repo: info.revision} if info and info.repo else None,
            )
            files = sorted(path for path in made.rglob("*") if path.is_file())
            for path in sorted(files, key=lambda each: each.name == RECORD_NAME):
                target = folder / path.relative_to(made)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    except OSError as error:
        raise UnwritableResult(
            f"{folder}: the encoder could not be written ({error.strerror or type(error).__name__}); "
            "free some space and run again with --resume"
        ) from error
    return folder


def _config(encoder: OpenClipEncoder) -> dict[str, Any]:
    """open_clip_config.json of an encoder, whatever it was loaded from."""
    source = encoder.weights.path.parent if encoder.weights else None
    reference = parse_reference(encoder.name, "encoder")
    if source is not None and reference.kind != "architecture":
        return read_config(source)
    architecture, tag = reference.architecture
    config: dict[str, Any] = {"model_cfg": dict(open_clip.get_model_config(architecture))}
    pretrained = open_clip.get_pretrained_cfg(architecture, tag or "openai")
    if pretrained.get("quick_gelu"):
        config["model_cfg"]["quick_gelu"] = True
    visual: Any = encoder.model.visual
    kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    found = visual.preprocess_cfg
    config["preprocess_cfg"] = {key: found[key] for key in kept if found.get(key) is not None}
    return config


def _write_text_tower(encoder: OpenClipEncoder, config: dict[str, Any], folder: Path) -> None:
    """The tokenizer, and the configuration of a transformers text tower, so that no hub is asked."""
    text = config["model_cfg"]["text_cfg"]
    tower: Any = getattr(encoder.model, "text", None)
    if text.get("hf_model_name") and hasattr(tower, "config"):
        tower.config.save_pretrained(folder / TEXT_TOWER)
        text["hf_model_name"] = TEXT_TOWER
        text["hf_model_pretrained"] = False
    tokenizer: Any = getattr(encoder.tokenizer, "tokenizer", None)
    if text.get("hf_tokenizer_name") and tokenizer is not None:
        tokenizer.save_pretrained(folder)
        text["hf_tokenizer_name"] = "."
