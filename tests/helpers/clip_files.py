"""Small CLIP, SigLIP and SigLIP 2 folders with random weights, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from checkpoints import randomise, write_tokenizer

_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 256,
    "max_position_embeddings": 24, "eos_token_id": 3,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
KINDS = ("CLIP", "MetaClip2", "Siglip", "Siglip2")


def make_model(kind: str, *, seed: int = 0) -> Any:
    """transformers' model of a kind, in evaluation mode."""
    vision = dict(_VISION)
    if kind == "Siglip2":
        vision["num_patches"] = 16
        del vision["image_size"]
    given = {"projection_dim": 24} if kind in ("CLIP", "MetaClip2") else {}
    given_text = dict(_TEXT) if given else {**_TEXT, "projection_size": 32}
    config = getattr(transformers, f"{kind}Config")(text_config=given_text, vision_config=vision, **given)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    randomise(model, seed)
    if not given:
        model.logit_bias.data.fill_(-3.0)
    return model


def make_folder(path: Path, kind: str, *, seed: int = 0) -> Path:
    """A folder as transformers saves the model, with a tokenizer."""
    make_model(kind, seed=seed).save_pretrained(path)
    write_tokenizer(path, vocabulary=256)
    # Else transformers takes a BERT's vocabulary for that of the family's own tokenizer.
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return path
