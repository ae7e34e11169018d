"""Models of transformers, strictly and without the network: from a folder, or of a configuration and tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lexiseg.errors import BrokenWeights
from lexiseg.models.blank import all_finite
from lexiseg.models.families import ModelFiles, one_line

_SETTINGS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def load_folder(
    files: ModelFiles,
    kind: Any,
    configured: Any,
    *,
    config: Mapping[str, Any] | None = None,
    rename: Callable[[str], str] = str,
    idle: Sequence[str] = (),
) -> Any:
    """The folder's model in float32; every key and shape must fit, every value be finite.

    Not transformers' own loading, which draws bars and only reports what did not fit.

    Args:
        files: config.json and a checkpoint.
        kind: transformers' class of the model; what it says that other models' folders hold besides is left out.
        configured: transformers' class of its configuration.
        config: in place of the folder's config.json.
        rename: a stored tensor's name to the model's.
        idle: patterns of names that old files hold and nothing reads.

    Raises:
        BrokenWeights: the folder has no weights, or they are truncated or do not fit the configuration.
    """
    source = files.weights
    state = {rename(key): tensor for key, tensor in read_tensors(source).items()}
    others = [re.compile(pattern) for pattern in (*(kind._keys_to_ignore_on_load_unexpected or ()), *idle)]
    state = {key: tensor for key, tensor in state.items() if not any(pattern.search(key) for pattern in others)}
    # One array under two names, of which a file may store one.
    shared, own = "prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding"
    if own in state:
        state.setdefault(shared, state[own])
    return build(kind, configured, files.config if config is None else config, state, source=source)


def build(kind: Any, configured: Any, config: Mapping[str, Any], state: Mapping[str, Tensor], *, source: Path) -> Any:
    """A model of a configuration with the given tensors, in float32, as strictly as `load_folder`.

    Args:
        kind: transformers' class of the model.
        configured: transformers' class of its configuration.
        config: the configuration.
        state: tensors by transformers' names.
        source: named in errors.

    Raises:
        BrokenWeights: the tensors do not fit the configuration.
    """
    try:
        model = kind(configured.from_dict(deepcopy(dict(config))))
        model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=True)
    except Exception as error:
        raise BrokenWeights(f"{source} does not fit its configuration: {one_line(error)}") from error
    return _finite(model, source)


def pixel_statistics(
    files: ModelFiles, mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that the folder's image processor normalises with; the given ones where it has none.

    Raises:
        BrokenWeights: the settings are there but cannot be read.
    """
    for name in _SETTINGS:
        if not files.has(name):
            continue
        try:
            settings = json.loads((files.place / name).read_text(encoding="utf-8"))
            settings = settings.get("image_processor", settings)
            found = tuple(tuple(float(v) for v in settings[key]) for key in ("image_mean", "image_std"))
            if any(len(each) != 3 for each in found) or min(found[1]) <= 0:
                raise ValueError(f"image_mean {found[0]}, image_std {found[1]}")
        except KeyError:
            continue
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BrokenWeights(f"{files.place / name} cannot be read: {one_line(error)}") from error
        return found[0], found[1]
    return tuple(mean), tuple(std)


def _finite(model: Any, source: Path) -> Any:
    if not all_finite(model):
        raise BrokenWeights(f"{source} holds NaN or infinite values")
    return model.eval().requires_grad_(False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: safetensors, an index of several, or torch's own format with tensors only.

    Raises:
        BrokenWeights: it cannot be read.
    """
    try:
        if path.suffix == ".json":
            names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
            parts = [load_file(path.parent / Path(name).name) for name in names]
            return {key: tensor for part in parts for key, tensor in part.items()}
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise BrokenWeights(f"{path} cannot be read: {one_line(error)}") from error
