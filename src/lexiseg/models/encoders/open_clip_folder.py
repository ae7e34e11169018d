"""open_clip models with weights and tokenizers: from a folder, BiomedCLIP's port too, or by name and tag."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import get_ident
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn

from lexiseg.errors import BrokenWeights, DownloadFailed, UnknownModel, UnwritableResult
from lexiseg.models.blank import Blank, all_finite
from lexiseg.models.encoders.open_clip_text import text_tower_source, tokenizer_source
from lexiseg.models.families import ModelFiles, checkpoint_keys, one_line
from lexiseg.models.fpn import current_name
from lexiseg.models.weights import hub
from lexiseg.models.weights.int8 import unpack
from lexiseg.models.weights.records import WeightsInfo, weights_info

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


logger = logging.getLogger(__name__)

CONFIG_NAME = "open_clip_config.json"
Tokenizer = Callable[[list[str]], Tensor]


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's open_clip_config.json: a mapping with `model_cfg` and `preprocess_cfg`.

    A folder of BiomedCLIP's transformers port, which has config.json instead, gives the published model's.

    Raises:
        UnknownModel: there is no such file.
        BrokenWeights: it is not JSON, or has no `model_cfg`.
    """
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if is_port(folder):
            return deepcopy(BIOMEDCLIP_CONFIG)
        raise UnknownModel(f"{folder} is not an open_clip folder: it has no {CONFIG_NAME}") from error
    except (OSError, ValueError) as error:
        raise BrokenWeights(f"{path} cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(config, dict) or not {"vision_cfg", "text_cfg"} <= set(config.get("model_cfg", ())):
        raise BrokenWeights(f"{path} has no model_cfg with vision_cfg and text_cfg")
    vision = config["model_cfg"]["vision_cfg"]
    if "timm_model_name" in vision:
        vision["timm_model_name"] = current_name(vision["timm_model_name"])
    return config


def build_model(files: ModelFiles) -> nn.Module:
    """The folder's model with its weights, on the CPU in float32, whatever the checkpoint's number format.

    Args:
        files: open_clip_config.json and a checkpoint (safetensors, or a .bin that holds tensors only).

    Returns:
        An open_clip model in evaluation mode whose parameters need no gradient.

    Raises:
        UnknownModel: the folder is not an open_clip folder.
        BrokenWeights: the checkpoint is truncated, or its keys, shapes or values do not fit the
            configuration.
        DownloadFailed: the text tower's configuration is not in the folder and cannot be fetched.
        UnwritableResult: there is no space for a temporary file.
    """
    folder = files.place
    config = read_config(folder)
    path = files.weights
    text = dict(config["model_cfg"]["text_cfg"])
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(text_tower_source(folder, text["hf_model_name"], offline=files.offline))
    try:
        model = _build(config, text)
    except UnwritableResult:
        raise
    except Exception as error:
        raise BrokenWeights(f"{folder / CONFIG_NAME} does not describe a model: {one_line(error)}") from error
    # For text towers in 8 bits, which open_clip's own classes do not read.
    model.register_load_state_dict_pre_hook(_unpack)  # type: ignore[no-untyped-call]
    load_strictly(model, path)
    return model.eval().requires_grad_(False)


def _build(config: dict[str, Any], text: dict[str, Any]) -> nn.Module:
    """The untrained model of a configuration.

    open_clip builds from a folder or from a name; it reads ours from a temporary folder, where the text
    tower's path is that of today: a stored absolute path would break when the folder is moved.
    """
    patched = {**config, "model_cfg": {**config["model_cfg"], "text_cfg": text}}
    with TemporaryDirectory(prefix="lexiseg-") as temporary:
        try:
            (Path(temporary) / CONFIG_NAME).write_text(json.dumps(patched), encoding="utf-8")
        except OSError as error:
            raise UnwritableResult(
                f"{temporary}: the model's configuration could not be written ({error.strerror}); free some space"
            ) from error
        with _quiet(), Blank():
            model: nn.Module = open_clip.create_model(
                f"local-dir:{temporary}", load_weights=False, pretrained_text=False
            )
    return model


def _unpack(_: nn.Module, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
    unpack(state, prefix)


def load_strictly(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into an open_clip model; every key and shape must fit, every value be finite.

    Raises:
        BrokenWeights: it is truncated, wrongly keyed or wrongly shaped, or holds NaN.
    """
    try:
        if is_rekeyed(checkpoint_keys(path)):
            model.load_state_dict(to_open_clip(load_state_dict(str(path), weights_only=True)), strict=True)
        else:
            open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:
        raise BrokenWeights(f"{path} does not fit its configuration: {one_line(error)}") from error
    if not all_finite(model):
        raise BrokenWeights(f"{path} holds NaN or infinite values")


def build_tokenizer(files: ModelFiles) -> Tokenizer:
    """The folder's tokenizer: phrases -> token ids (N, L), L the model's context length.

    Raises:
        BrokenWeights: the tokenizer's files are there but cannot be read.
        DownloadFailed: the files are not in the folder and cannot be fetched.
    """
    text = read_config(files.place)["model_cfg"]["text_cfg"]
    length = int(text.get("context_length", 77))
    options = dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(context_length=length, **options)  # type: ignore[no-any-return]
    source = tokenizer_source(files.place, name, offline=files.offline)
    try:
        return HFTokenizer(  # type: ignore[no-any-return]
            str(source),
            context_length=length,
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:
        raise BrokenWeights(f"the tokenizer in {source} cannot be read: {one_line(error)}") from error


def is_port(folder: Path) -> bool:
    """Whether a folder's config.json is that of BiomedCLIP's transformers port."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"vision_config", "text_projection_config"} <= config.keys()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what open_clip says to the root logger ("initialised randomly"): the weights come right
    after.

    Without a handler on the root logger its calls would also install one, over the application's head.
    """
    root, owner = logging.getLogger(), get_ident()
    handler = logging.NullHandler()

    def silence(record: logging.LogRecord) -> bool:
        return record.thread != owner

    root.addHandler(handler)
    root.addFilter(silence)
    try:
        yield
    finally:
        root.removeFilter(silence)
        root.removeHandler(handler)


def load_named(name: str, architecture: str, tag: str, *, offline: bool) -> tuple[nn.Module, Tokenizer, WeightsInfo]:
    """Build a named model of open_clip with pretrained weights from the hub's cache or the network.

    Args:
        name: how the model was asked for.
        architecture: one of `open_clip.list_models()`.
        tag: a pretrained tag, or the path of a checkpoint; "" takes "openai" where it exists, else the first
            tag: an architecture without weights would only answer with noise.
        offline: only look in the cache.

    Raises:
        UnknownModel: the architecture has no such tag, or no pretrained weights at all.
        DownloadFailed: the weights are not cached and could not be fetched.
        BrokenWeights: the checkpoint does not fit.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    path = Path(tag) if tag and Path(tag).is_file() else None
    if path is None:
        if tag and not open_clip.is_pretrained_cfg(architecture, tag):
            raise UnknownModel(f"{architecture} has no weights {tag!r}: expected one of {', '.join(tags) or 'none'}")
        if not tags:
            raise UnknownModel(f"open_clip has no pretrained weights for {architecture}: name a checkpoint file")
        tag = tag or ("openai" if "openai" in tags else tags[0])
        path = _checkpoint(name, open_clip.get_pretrained_cfg(architecture, tag), offline=offline)
    settings = dict(open_clip.get_pretrained_cfg(architecture, tag))
    with Blank():
        model: nn.Module = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=bool(settings.get("quick_gelu", False)),
            force_preprocess_cfg={key: settings[key] for key in ("mean", "std", "interpolation") if key in settings},
        )
    load_strictly(model, path)
    try:
        tokenizer: Tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise hub.hub_error(name, error) from error
    return model.eval().requires_grad_(False), tokenizer, weights_info(name, path)


def _checkpoint(name: str, settings: dict[str, str], *, offline: bool) -> Path:
    repo, _, filename = settings.get("hf_hub", "").rpartition("/")
    if offline:
        names = (filename,) if filename else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        found = next((folder / n for n in names if repo and (folder := hub.cached_folder(repo, n))), None)
        if found is None:
            raise DownloadFailed(
                f"{name} is not on this machine and the hub is not asked (offline): load it once with a network"
            )
        return found
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:
        raise hub.hub_error(repo or name, error) from error
