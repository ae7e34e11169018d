"""Encoders by open_clip's own names: an architecture and a pretrained tag."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lexiseg.errors import DownloadFailed, UnknownModel
from lexiseg.models import hub
from lexiseg.models.open_clip_folder import Tokenizer, load_strictly
from lexiseg.models.weights import WeightsInfo, weights_info


def load_named(
    name: str, architecture: str, tag: str, *, offline: bool
) -> tuple[nn.Module, Tokenizer, WeightsInfo]:
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
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    path = Path(tag) if tag and Path(tag).is_file() else None
    if path is None:
        if tag and not open_clip.is_pretrained_cfg(architecture, tag):
            raise UnknownModel(
                f"{architecture} has no weights {tag!r}: expected one of {', '.join(tags) or 'none'}"
            )
        if not tags:
            raise UnknownModel(
                f"open_clip has no pretrained weights for {architecture}: name a checkpoint file"
            )
        tag = tag or ("openai" if "openai" in tags else tags[0])
        path = _checkpoint(name, open_clip.get_pretrained_cfg(architecture, tag), offline=offline)
    settings = dict(open_clip.get_pretrained_cfg(architecture, tag))
    model: nn.Module = open_clip.create_model(
        architecture,
        load_weights=False,
        pretrained_text=False,
        force_quick_gelu=bool(settings.get("quick_gelu", False)),
        force_preprocess_cfg={
            key: settings[key] for key in ("mean", "std", "interpolation") if key in settings
        },
    )
    load_strictly(model, path)
    try:
        tokenizer: Tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise hub.hub_error(name, error) from error
    return model.eval().requires_grad_(False), tokenizer, weights_info(name, path)


def _checkpoint(name: str, settings: dict[str, str], *, offline: bool) -> Path:
    import open_clip

    repo, _, filename = settings.get("hf_hub", "").rpartition("/")
    if offline:
        names = (filename,) if filename else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        found = next((folder / n for n in names if repo and (folder := hub.cached_folder(repo, n))), None)
        if found is None:
            raise DownloadFailed(
                f"{name} is not on this machine and the hub is not asked (offline):"
                " load it once with a network"
            )
        return found
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:
        raise hub.hub_error(repo or name, error) from error
