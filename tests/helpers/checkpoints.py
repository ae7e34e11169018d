"""Checkpoints with random weights in exactly the published layouts: BiomedCLIP's, SAM's two.

    python tests/helpers/checkpoints.py biomedclip|sam|sam-pth OUT [--size base|tiny]

Sizes: "base" is the published model's, to the last tensor; "tiny" has the same structure and names in a
    megabyte.
Needs torch, timm, open_clip and transformers, no network.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BERT_REPO = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
BIOMEDCLIP_REPO = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
TEXT_TOWER = "text_tower"
_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_WORDS = "a an the of in with and breast tumor tumour benign malignant lung lungs left right brain fetal head mass"
_BERT = {
    "base": {},  # BERT's own defaults are PubMedBERT's sizes
    "tiny": {
        "vocab_size": 256,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
_VISION = {"base": ("vit_base_patch16_224", 224), "tiny": ("test_vit", 160)}
_SAM: dict[str, dict[str, Any]] = {
    "base": {},  # transformers' defaults are facebook/sam-vit-base
    "tiny": {
        "vision_config": {
            "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 256, "patch_size": 16, "window_size": 6, "global_attn_indexes": [1],
            "num_pos_feats": 16, "mlp_dim": 64,
        },
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 256, "patch_size": 16},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    },
}  # fmt: skip


def biomedclip_config(size: str = "base") -> dict[str, Any]:
    """open_clip_config.json as published (for "tiny": with smaller towers)."""
    timm_name, pixels = _VISION[size]
    return {
        "model_cfg": {
            "embed_dim": 512 if size == "base" else 32,
            "vision_cfg": {
                "timm_model_name": timm_name,
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": pixels,
            },
            "text_cfg": {
                "hf_model_name": BERT_REPO,
                "hf_tokenizer_name": BERT_REPO,
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 256 if size == "base" else 64,
            },
        },
        "preprocess_cfg": {"mean": _MEAN, "std": _STD},
    }


def make_biomedclip_folder(path: Path, *, size: str = "base", pulled: bool = True, seed: int = 0) -> Path:
    """An open_clip folder in BiomedCLIP's layout.

    Args:
        path: the folder to make.
        size: "base" or "tiny".
        pulled: as `lexiseg models pull` leaves it, with the text tower's configuration; False: as the hub has
            it.
        seed: of the random weights.
    """
    import open_clip

    path.mkdir(parents=True, exist_ok=True)
    config = biomedclip_config(size)
    write_tokenizer(path, vocabulary=_BERT[size].get("vocab_size", 30522))
    with tempfile.TemporaryDirectory() as temporary:
        tower = make_bert_config(Path(temporary) / "bert", size=size)
        patched = json.loads(json.dumps(config))
        patched["model_cfg"]["text_cfg"]["hf_model_name"] = str(tower)
        (Path(temporary) / "open_clip_config.json").write_text(json.dumps(patched))
        model = open_clip.create_model(f"local-dir:{temporary}", load_weights=False, pretrained_text=False)
    randomise(model, seed)
    state = model.state_dict()
    # The published file was written by an older transformers, which stored this counter.
    length = state["text.transformer.embeddings.position_embeddings.weight"].shape[0]
    state["text.transformer.embeddings.position_ids"] = torch.arange(length)[None]
    torch.save(state, path / "open_clip_pytorch_model.bin")
    if pulled:
        make_bert_config(path / TEXT_TOWER, size=size)
        config["model_cfg"]["text_cfg"] |= {"hf_model_name": TEXT_TOWER, "hf_tokenizer_name": "."}
    (path / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    return path


def make_bert_config(path: Path, *, size: str = "base") -> Path:
    """The text tower's repository: config.json and the tokenizer, no weights."""
    from transformers import BertConfig

    path.mkdir(parents=True, exist_ok=True)
    BertConfig(**_BERT[size]).save_pretrained(path)
    write_tokenizer(path, vocabulary=_BERT[size].get("vocab_size", 30522))
    return path


def write_tokenizer(path: Path, *, vocabulary: int) -> None:
    """A BERT WordPiece tokenizer that knows letters, digits and a few words; filled up to `vocabulary`
    entries.
    """
    from tokenizers import BertWordPieceTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    entries = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        *"-,.%()",
    ]
    entries += [word for word in _WORDS.split() if word not in entries]
    entries += [f"[unused{i}]" for i in range(vocabulary - len(entries))]
    (path / "vocab.txt").write_text("\n".join(entries) + "\n")
    tokenizer = BertWordPieceTokenizer(str(path / "vocab.txt"), lowercase=True)
    tokenizer.save(str(path / "tokenizer.json"))
    special = {f"{k}_token": f"[{k.upper()}]" for k in ("pad", "unk", "cls", "sep", "mask")}
    (path / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512, **special}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def make_sam_folder(path: Path, *, size: str = "base", seed: int = 0, half: bool = False) -> Path:
    """A transformers SamModel folder as on the hub (facebook/sam-vit-base)."""
    from transformers import SamImageProcessor

    model = _sam(size, seed)
    model.half() if half else model
    model.save_pretrained(path)
    side = model.config.vision_config.image_size
    square, low = {"height": side, "width": side}, side // 4
    SamImageProcessor(
        size={"longest_edge": side},
        pad_size=square,
        mask_size={"longest_edge": low},
        mask_pad_size={"height": low, "width": low},
    ).save_pretrained(path)
    return path


def make_sam_pth(path: Path, *, size: str = "base", seed: int = 0) -> Path:
    """An original checkpoint (sam_vit_b_01ec64.pth) with the numbers that `make_sam_folder` has for the same
    seed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = _sam(size, seed).state_dict()
    torch.save({original_name(key): tensor for key, tensor in state.items() if not key.startswith(_TIED)}, path)
    return path


def _sam(size: str, seed: int) -> nn.Module:
    from transformers import SamConfig, SamModel

    model = SamModel(SamConfig(**_SAM[size])).eval()
    randomise(model, seed)
    return model


_TIED = "prompt_encoder.shared_embedding."
_ORIGINAL = [
    (
        "shared_image_embedding.positional_embedding",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.layers.", "image_encoder.blocks."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.", "image_encoder."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    (".layer_norm_final_attn.", ".norm_final_attn."),
]


def original_name(key: str) -> str:
    """transformers' name of a SAM tensor -> the original release's; heads have three layers in every
    release.
    """
    for ours, theirs in _ORIGINAL:
        key = key.replace(ours, theirs)
    if "output_hypernetworks_mlps" in key or "iou_prediction_head" in key:
        key = key.replace(".layers.0.", ".layers.1.").replace(".proj_in.", ".layers.0.")
        return key.replace(".proj_out.", ".layers.2.")
    return re.sub(r"\.layer_norm(\d)\.", r".norm\1.", key)


def randomise(model: nn.Module, seed: int) -> None:
    """Random weights under which a signal neither dies nor explodes; libraries' own starts are zero in
    places.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name in ("logit_scale", "logit_bias"):
                continue
            tensor.copy_(_draw(name, tensor, generator))


def _draw(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator)
    if "positional_embedding" in name and tensor.shape[0] == 2:
        return noise  # SAM's Gaussian frequencies
    if "norm" in name.lower() and tensor.ndim == 1:
        return 0.1 * noise + float(name.endswith("weight"))
    if tensor.ndim < 2 or "embed" in name or "rel_pos" in name or "token" in name:
        return 0.1 * noise
    return noise / tensor[0].numel() ** 0.5


def main() -> None:
    """Make one checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("biomedclip", "sam", "sam-pth"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=("base", "tiny"), default="base")
    given = parser.parse_args()
    make = {"biomedclip": make_biomedclip_folder, "sam": make_sam_folder, "sam-pth": make_sam_pth}[given.what]
    make(given.out, size=given.size)


if __name__ == "__main__":
    main()
