"""BiomedCLIP under the names of its transformers port, back to open_clip's.

MedCLIP-SAM v2's fine-tuned BiomedCLIP circulates as a `pytorch_model.bin` whose keys follow transformers'
CLIPModel (`vision_model.encoder.layers.0.self_attn.q_proj.weight`, ...), with BERT's blocks spelt the same
way.  The port holds the same numbers: only the names differ, and the fused query-key-value matrix of the
image tower is in three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# What open_clip_config.json says of the published model, for folders of the port, which have none.
BIOMEDCLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}

_VISION = "visual.trunk.blocks.{}"
_TEXT = "text.transformer.encoder.layer.{}"
_WHOLE = {
    "visual_projection": "visual.head.proj",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "text_model.embeddings.token_type_embedding": "text.transformer.embeddings.token_type_embeddings",
    "text_model.embeddings.token_embedding": "text.transformer.embeddings.word_embeddings",
    "text_model.embeddings.position_embedding": "text.transformer.embeddings.position_embeddings",
    "text_model.embeddings.layer_norm": "text.transformer.embeddings.LayerNorm",
    "text_projection.fc1": "text.proj.0",
    "text_projection.fc2": "text.proj.2",
}
_BLOCK = {
    ("vision", "layer_norm1"): f"{_VISION}.norm1",
    ("vision", "layer_norm2"): f"{_VISION}.norm2",
    ("vision", "self_attn.out_proj"): f"{_VISION}.attn.proj",
    ("vision", "mlp.fc1"): f"{_VISION}.mlp.fc1",
    ("vision", "mlp.fc2"): f"{_VISION}.mlp.fc2",
    ("text", "self_attn.q_proj"): f"{_TEXT}.attention.self.query",
    ("text", "self_attn.k_proj"): f"{_TEXT}.attention.self.key",
    ("text", "self_attn.v_proj"): f"{_TEXT}.attention.self.value",
    ("text", "self_attn.out_proj"): f"{_TEXT}.attention.output.dense",
    ("text", "layer_norm1"): f"{_TEXT}.attention.output.LayerNorm",
    ("text", "mlp.fc1"): f"{_TEXT}.intermediate.dense",
    ("text", "mlp.fc2"): f"{_TEXT}.output.dense",
    ("text", "layer_norm2"): f"{_TEXT}.output.LayerNorm",
}
_BLOCK_KEY = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_PARTS = ("q", "k", "v")
# Position counters that old checkpoints store and nothing reads.
_COUNTERS = ("embeddings.position_ids",)


def is_rekeyed(keys: Iterable[str]) -> bool:
    """Whether a checkpoint follows the port's names."""
    return any(key.startswith("vision_model.encoder.layers.") for key in keys)


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The port's tensors under open_clip's names; a name that is not the port's goes through as it is."""
    result: dict[str, Tensor] = {}
    fused: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in state.items():
        stem, _, leaf = key.rpartition(".")
        block = _BLOCK_KEY.fullmatch(key)
        if key.endswith(_COUNTERS):
            continue
        if key == "vision_model.embeddings.class_embedding":
            result["visual.trunk.cls_token"] = tensor.reshape(1, 1, -1)
        elif key == "vision_model.embeddings.position_embedding.weight":
            result["visual.trunk.pos_embed"] = tensor.unsqueeze(0)
        elif block and block[1] == "vision" and block[3] in {f"self_attn.{part}_proj" for part in _PARTS}:
            fused.setdefault((block[2], leaf), {})[block[3][len("self_attn.")]] = tensor
        elif block and (block[1], block[3]) in _BLOCK:
            result[f"{_BLOCK[block[1], block[3]].format(block[2])}.{leaf}"] = tensor
        else:
            result[f"{_WHOLE[stem]}.{leaf}" if stem in _WHOLE else key] = tensor
    for (index, leaf), parts in fused.items():
        if set(parts) == set(_PARTS):
            joined = torch.cat([parts[part] for part in _PARTS])
            result[f"{_VISION.format(index)}.attn.qkv.{leaf}"] = joined
    return result
