"""Which family of models a folder or a file belongs to.

A family is one module of `encoders/` or `segmenters/` and one line here.  It has what `Family` lists, as plain
module-level names: `NAME`, `recognises` and `load`.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.models.weights.records import Kind, WeightsInfo, weights_info

if TYPE_CHECKING:
    import torch

FAMILIES: dict[Kind | Literal["text segmenter"], tuple[str, ...]] = {
    "encoder": (
        "lexiseg.models.encoders.open_clip",
        "lexiseg.models.encoders.transformers_clip",
        "lexiseg.models.encoders.tuned",
    ),
    "segmenter": (
        "lexiseg.models.segmenters.mobile_sam",
        "lexiseg.models.segmenters.sam2",
        "lexiseg.models.segmenters.edgetam",
        "lexiseg.models.segmenters.sam3_tracker",
        "lexiseg.models.segmenters.sam_hq",
        "lexiseg.models.segmenters.sam",
    ),
    "text segmenter": ("lexiseg.models.segmenters.sam3_text",),
}
"""Modules, asked in this order and imported when their turn comes: what is more particular comes first."""

# In the order of preference that open_clip itself has; an index stands for a checkpoint in several files.
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
)

_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")

Model_co = TypeVar("Model_co", covariant=True)


class Family(Protocol[Model_co]):
    """What a family's module has."""

    NAME: str
    """What it is and by what it is recognised, in a few words, for error messages."""

    def recognises(self, files: ModelFiles, /) -> bool:
        """Whether these files are of this family; numbers are not read."""

    def load(self, files: ModelFiles, /, *, device: torch.device, precision: str) -> Model_co:
        """The model, behind the protocol of its kind.

        It has `weights` (a `WeightsInfo`) and `precision` ("float32" or "bfloat16") besides, which run.json
        records.

        Raises:
            BrokenWeights: the weights are truncated, or do not fit the configuration.
            DownloadFailed: a part that is not among the files could not be fetched.
        """


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine that is to be loaded, and what can be told of it without its numbers.

    Attributes:
        ref: how it was asked for.
        path: its folder or file; None where an architecture of open_clip was named.
        architecture: open_clip's architecture and pretrained tag (maybe ""), for those.
        repo: the hub repository it came from, or "".
        revision: of that repository, as asked for.
        offline: the hub is not to be asked for what is missing.
    """

    ref: str
    path: Path | None = None
    architecture: tuple[str, str] = ("", "")
    repo: str = ""
    revision: str = ""
    offline: bool = False

    @property
    def place(self) -> Path:
        """The folder or file of a model that is not a named architecture."""
        assert self.path is not None
        return self.path

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path is not None and self.path.is_dir()

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return self.is_folder and (self.place / name).is_file()

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The folder's config.json; empty where there is none.

        Raises:
            BrokenWeights: it is there and is not a JSON object.
        """
        if not self.has("config.json"):
            return {}
        path = self.place / "config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BrokenWeights(f"{path} cannot be read as JSON ({one_line(error)})") from error
        if not isinstance(found, dict):
            raise BrokenWeights(f"{path} holds a {type(found).__name__}; expected a JSON object")
        return found

    @cached_property
    def weights(self) -> Path:
        """The checkpoint: the file itself, or the first of `WEIGHT_NAMES` in the folder.

        Raises:
            BrokenWeights: the folder has none.
        """
        if not self.is_folder:
            return self.place
        found = next((self.place / name for name in WEIGHT_NAMES if self.has(name)), None)
        if found is None:
            raise BrokenWeights(f"{self.place} has no weights: expected one of {', '.join(WEIGHT_NAMES)}")
        return found

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names of the checkpoint's tensors; the numbers are not read.

        Raises:
            BrokenWeights: there is no checkpoint, or it is truncated or holds more than tensors.
        """
        return checkpoint_keys(self.weights)

    @property
    def info(self) -> WeightsInfo:
        """Where the weights come from."""
        return weights_info(self.ref, self.weights, repo=self.repo, revision=self.revision)

    def describe(self) -> str:
        """What it looks like, for whoever wonders why no family knows it."""
        if not self.is_folder:
            return f"it is a file whose first keys are {_some(self.keys)}"
        kind = f"config.json of model_type {self.config.get('model_type')!r}" if self.config else "no config.json"
        if any(self.has(name) for name in WEIGHT_NAMES):
            return f"it has {kind} and keys like {_some(self.keys)}"
        others = sorted(file.name for file in self.place.iterdir() if file.suffix in _CHECKPOINTS)
        if others:
            several = "one of these files" if len(others) > 1 else "this file"
            return f"it has {kind} and holds {_some(tuple(others))}: name {several} instead of the folder"
        return f"it has {kind} and no weights"


def load_model(
    files: ModelFiles, kind: Kind | Literal["text segmenter"], *, device: torch.device, precision: str
) -> Any:
    """The model, by the first family that recognises it.

    Raises:
        UnknownModel: no family does.
        BrokenWeights: as `Family.load`, and so are other errors.
    """
    names = []
    for module in FAMILIES[kind]:
        family = cast("Family[Any]", importlib.import_module(module))
        if family.recognises(files):
            return family.load(files, device=device, precision=precision)
        names.append(family.NAME)
    raise UnknownModel(f"{files.ref} is no {kind} that lexiseg knows: {files.describe()}; known: {'; '.join(names)}")


def checkpoint_keys(path: Path) -> tuple[str, ...]:
    """The names in a checkpoint (safetensors, an index of several, or torch's own format with tensors only).

    Raises:
        BrokenWeights: it cannot be read.
    """
    try:
        if path.suffix == ".json":
            return tuple(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as stored:
                return tuple(stored.keys())
        import torch

        # Files of torch before 1.6 are no zip archives and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="meta", weights_only=True, mmap=mapped)
        for name in ("state_dict", "model"):
            content = content.get(name, content)
        return tuple(content)
    except Exception as error:
        raise BrokenWeights(f"{path} is not a checkpoint of tensors: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What an error of another library says, in one line of at most 200 characters."""
    if isinstance(error, UnpicklingError):
        return "it is torn, or holds more than tensors, which is never loaded"  # torch would advise to load it anyway
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "") if keys else "none"
