"""Small open_clip models with each kind of image tower, random weights, in memory or as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from checkpoints import randomise
from safetensors.torch import save_file
from torch import nn

_TIMM = {"timm_model_pretrained": False, "timm_proj": "linear", "image_size": 160}
TOWERS: dict[str, dict[str, Any]] = {
    "timm ViT, class token": {**_TIMM, "timm_model_name": "test_vit", "timm_pool": ""},
    "timm ViT, mean": {**_TIMM, "timm_model_name": "test_vit", "timm_pool": "avg"},
    "timm ViT, attention pool": {**_TIMM, "timm_model_name": "test_vit3", "timm_pool": ""},
    "timm ConvNeXt": {**_TIMM, "timm_model_name": "test_convnext", "timm_pool": "avg"},
    "timm ConvNeXt, mlp": {
        **_TIMM, "timm_model_name": "test_convnext2", "timm_pool": "avg", "timm_proj": "mlp",
    },
    "timm ResNet": {**_TIMM, "timm_model_name": "test_resnet", "timm_pool": "avg"},
    "timm EfficientNet": {**_TIMM, "timm_model_name": "test_efficientnet", "timm_pool": "avg"},
    "timm ConvNeXt, rotary attention pool": {
        **_TIMM, "timm_model_name": "test_convnext", "timm_pool": "rot_attn", "timm_proj": None,
    },
    "CLIP ViT": {"image_size": 64, "layers": 3, "width": 64, "patch_size": 16, "head_width": 32},
    "CLIP ViT, mean": {
        "image_size": 64, "layers": 3, "width": 64, "patch_size": 16, "head_width": 32, "pool_type": "avg",
    },
    "CLIP ResNet": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 16},
}  # fmt: skip
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def tower_config(kind: str) -> dict[str, Any]:
    """open_clip_config.json of a small model with this image tower and open_clip's own text tower."""
    return {
        "model_cfg": {"embed_dim": 32, "vision_cfg": dict(TOWERS[kind]), "text_cfg": dict(TEXT)},
        "preprocess_cfg": {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.3, 0.4]},
    }


def make_tower_folder(path: Path, kind: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """An open_clip folder (safetensors) of `tower_config(kind)`."""
    import open_clip

    path.mkdir(parents=True, exist_ok=True)
    (path / "open_clip_config.json").write_text(json.dumps(tower_config(kind)))
    model: nn.Module = open_clip.create_model(f"local-dir:{path}", load_weights=False)
    randomise(model, seed)
    state = {
        key: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for key, tensor in model.state_dict().items()
    }
    save_file(state, path / "open_clip_model.safetensors")
    return path


_WORDS = {"context_length": 24, "vocab_size": 49408, "width": 96, "heads": 2, "layers": 2}
_VISION = {"image_size": 64, "layers": 3, "width": 64, "patch_size": 16, "head_width": 32}
KIN: dict[str, dict[str, Any]] = {
    "CoCa": {
        "embed_dim": 96,
        "vision_cfg": {**_VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**_WORDS, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**_WORDS, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "SigLIP": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit3", "timm_model_pretrained": False, "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**_WORDS, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
}  # fmt: skip


def make_kin_folder(path: Path, kind: str) -> Any:
    """A folder of CoCa or SigLIP as open_clip writes them, and the model that it holds."""
    import open_clip

    path.mkdir(parents=True)
    pixels = {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.3, 0.4]}
    config = {"model_cfg": KIN[kind], "preprocess_cfg": pixels}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    model: Any = open_clip.create_model(f"local-dir:{path}", load_weights=False)
    randomise(model, 0)
    state = {key: tensor.contiguous().clone() for key, tensor in model.state_dict().items()}
    save_file(state, path / "open_clip_model.safetensors")
    return model.eval()
