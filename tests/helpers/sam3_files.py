"""A small SAM 3 with random weights: the detector alone, and with its tracker, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from checkpoints import randomise, write_tokenizer
from sam2_files import _DECODER, _PROMPTS, _SAM3_VISION

_WIDTH = 64
_VISION = {"model_type": "sam3_vision_model", **_SAM3_VISION, "fpn_hidden_size": _WIDTH}
_LAYERS = {"hidden_size": _WIDTH, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
DETECTOR: dict[str, Any] = {
    "vision_config": _VISION,
    "text_config": {
        "model_type": "clip_text_model", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64,
        "projection_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16,
        "hidden_act": "gelu", "eos_token_id": 3,
    },
    "geometry_encoder_config": dict(_LAYERS),
    "detr_encoder_config": dict(_LAYERS),
    "detr_decoder_config": {**_LAYERS, "num_queries": 5},
    "mask_decoder_config": {"hidden_size": _WIDTH, "num_attention_heads": 2},
}  # fmt: skip
TRACKER: dict[str, Any] = {
    "vision_config": _VISION,
    "prompt_encoder_config": {**_PROMPTS, "hidden_size": _WIDTH, "image_size": 112, "patch_size": 14},
    "mask_decoder_config": {**_DECODER, "hidden_size": _WIDTH},
    "image_size": 112, "memory_attention_hidden_size": _WIDTH, "memory_attention_feed_forward_hidden_size": 64,
    "memory_attention_num_layers": 1, "memory_attention_rope_feat_sizes": [8, 8], "memory_encoder_hidden_size": _WIDTH,
    "memory_encoder_output_channels": 32, "mask_downsampler_embed_dim": _WIDTH, "memory_fuser_embed_dim": _WIDTH,
    "memory_fuser_intermediate_dim": 64,
}  # fmt: skip


def make_model(*, whole: bool, seed: int = 0) -> Any:
    """A Sam3Model, or a Sam3VideoModel with one inside; in evaluation mode."""
    torch.manual_seed(seed)
    if whole:
        config = transformers.Sam3VideoConfig(detector_config=DETECTOR, tracker_config=TRACKER)
        model: Any = transformers.Sam3VideoModel(config)
    else:
        model = transformers.Sam3Model(transformers.Sam3Config(**DETECTOR))
    model.eval()
    randomise(model, seed)
    return model


def make_folder(path: Path, *, whole: bool, seed: int = 0) -> Path:
    """A folder as transformers saves the model, with a tokenizer."""
    make_model(whole=whole, seed=seed).save_pretrained(path)
    write_tokenizer(path, vocabulary=256)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return path
