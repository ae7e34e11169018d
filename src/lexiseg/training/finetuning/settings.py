"""Settings of a fine-tuning run, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from lexiseg.errors import UnknownPreset
from lexiseg.training.settings import PRECISIONS, Settings, read_settings, setting


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """How an encoder is fine-tuned; the text of each `setting` tells what the field means."""

    about: str = setting("", "One line for a person.")
    loss: str = setting(
        "dhn-nce",
        "The loss, a key of `lexiseg.training.losses.LOSSES`.",
        choices=("dhn-nce", "hn-nce", "dcl", "infonce", "as-released"),
    )
    temperature: float = setting(
        0.6, "Tau of the loss; 0 learns it, beginning with the encoder's own.", low=0, high=100
    )
    beta1: float = setting(0.15, "Hardness from images to texts.", low=0, high=100)
    beta2: float = setting(0.15, "Hardness from texts to images.", low=0, high=100)
    mask_duplicates: bool = setting(True, "Leave pairs with the same caption or image out of the negatives.")
    epochs: int = setting(10, "Passes over the training pairs.", low=1)
    batch: int = setting(64, "Pairs that are compared with one another, over all processes.", low=2)
    chunk: int = setting(
        0,
        "Pairs that go through the towers at once; less than a batch means cached gradients, which give the same "
        "gradient in the memory of a chunk; 0 for the whole batch.",
        low=0,
    )
    learning_rate: float = setting(1e-5, "The rate at the schedule's top.", above=0)
    weight_decay: float = setting(0.1, "Of matrices; vectors (biases, norms) have none.", low=0)
    clip: float = setting(1.0, "Largest norm of the gradient; 0 for none.", low=0)
    schedule: Literal["cosine", "halving", "constant"] = setting(
        "cosine", "Of the learning rate: a cosine to 0, halving every `halve_every` epochs, or constant."
    )
    warmup: float = setting(0.1, "Share of the steps in which the rate rises linearly.", low=0, high=1)
    halve_every: int = setting(1, "Epochs, of the schedule halving.", low=1)
    patience: int = setting(
        3, "Epochs without a better validation retrieval after which the run ends; 0 for never.", low=0
    )
    validation: float = setting(0.15, "Share of the pairs, where the data set has no split of its own.")
    min_caption: int = setting(1, "Characters that a caption must have.", low=1)
    gallery: int = setting(50, "Candidates in a gallery of the validation retrieval.", low=2)
    freeze: Literal["none", "image", "text"] = setting("none", "The tower that is not trained.")
    lora_rank: int = setting(
        0, "Rank of low-rank adapters that are trained instead of the weights; 0 for none.", low=0, high=1024
    )
    layer_decay: float = setting(
        1.0, "Factor of the learning rate from one layer to the one below; 1 for none.", low=0.01, high=1
    )
    augment: bool = setting(True, "Change images, never so that a caption becomes untrue.")
    precision: str = setting("auto", "Number format of products; weights stay float32.", choices=PRECISIONS)
    seed: int = setting(0, "Of every random number.", low=0, high=2**31)


def preset_names() -> list[str]:
    """Names of the settings that ship with the package."""
    return sorted(each.name.removesuffix(".yaml") for each in _presets().iterdir() if each.name.endswith(".yaml"))


def load_settings(preset: str | Path = "default", /, **changes: Any) -> FinetuneSettings:
    """Settings by name, or from a YAML file of one's own, with changes.

    Args:
        preset: one of `preset_names()`, or the path of a YAML file with fields of `FinetuneSettings`.
        changes: fields to replace; None leaves the preset's.

    Raises:
        UnknownPreset: neither a name nor a readable YAML file.
        UsageError: a field that does not exist, or a value that it cannot have.
    """
    text = str(preset)
    if text in preset_names():
        return read_settings(FinetuneSettings, _presets() / f"{text}.yaml", **changes)
    if text.endswith((".yaml", ".yml")):
        return read_settings(FinetuneSettings, Path(text), **changes)
    raise UnknownPreset(
        f"there is no fine-tuning preset {text!r}; expected one of {', '.join(preset_names())} or a .yaml"
    )


def _presets() -> Traversable:
    return resources.files("lexiseg.training.finetuning") / "presets"
