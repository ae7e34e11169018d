"""Settings of a fine-tuning run, as data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from lexiseg.errors import UnknownPreset, UsageError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "loss": ("dhn-nce", "hn-nce", "dcl", "infonce", "as-released"),
    "schedule": ("cosine", "halving", "constant"),
    "freeze": ("none", "image", "text"),
    "precision": PRECISIONS,
}


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How an encoder is fine-tuned.

    Attributes:
        about: one line for a person.
        loss: a key of `lexiseg.training.losses.LOSSES`.
        temperature: tau of the loss; 0 learns it, beginning with the encoder's own.
        beta1: hardness from images to texts.
        beta2: hardness from texts to images.
        mask_duplicates: leave pairs with the same caption or image out of the negatives.
        epochs: passes over the training pairs.
        batch: pairs that are compared with one another, over all processes.
        chunk: pairs that go through the towers at once; less than a batch means cached gradients, which give
            the same gradient in the memory of a chunk; 0 for the whole batch.
        learning_rate: of the schedule's top.
        weight_decay: of matrices; vectors (biases, norms) have none.
        clip: largest norm of the gradient; 0 for none.
        schedule: "cosine" to 0, "halving" every `halve_every` epochs, or "constant".
        warmup: share of the steps in which the rate rises linearly.
        halve_every: epochs.
        patience: epochs without a better validation retrieval after which the run ends; 0 for never.
        validation: share of the pairs, where the data set has no split of its own.
        min_caption: characters that a caption must have.
        gallery: candidates in a gallery of the validation retrieval.
        freeze: the tower that is not trained.
        lora_rank: rank of low-rank adapters that are trained instead of the weights; 0 for none.
        layer_decay: factor of the learning rate from one layer to the one below; 1 for none.
        augment: change images, never so that a caption becomes untrue.
        precision: "auto", "float32", "bfloat16" or "float16" products; weights stay float32.
        seed: of every random number.
    """

    about: str = ""
    loss: str = "dhn-nce"
    temperature: float = 0.6
    beta1: float = 0.15
    beta2: float = 0.15
    mask_duplicates: bool = True
    epochs: int = 10
    batch: int = 64
    chunk: int = 0
    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    clip: float = 1.0
    schedule: Literal["cosine", "halving", "constant"] = "cosine"
    warmup: float = 0.1
    halve_every: int = 1
    patience: int = 3
    validation: float = 0.15
    min_caption: int = 1
    gallery: int = 50
    freeze: Literal["none", "image", "text"] = "none"
    lora_rank: int = 0
    layer_decay: float = 1.0
    augment: bool = True
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; expected {low:g} to {high:g}")
        if self.learning_rate <= 0:
            raise UsageError(f"learning_rate is {self.learning_rate}; expected more than 0")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the run's record."""
        return dataclasses.asdict(self)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0, 100),
    ("beta1", 0, 100),
    ("beta2", 0, 100),
    ("epochs", 1, math.inf),
    ("batch", 2, math.inf),
    ("chunk", 0, math.inf),
    ("weight_decay", 0, math.inf),
    ("clip", 0, math.inf),
    ("warmup", 0, 1),
    ("halve_every", 1, math.inf),
    ("patience", 0, math.inf),
    ("min_caption", 1, math.inf),
    ("gallery", 2, math.inf),
    ("lora_rank", 0, 1024),
    ("layer_decay", 0.01, 1),
    ("seed", 0, 2**31),
)
_TYPES = {each.name: type(each.default) for each in fields(FinetuneSettings)}


def preset_names() -> list[str]:
    """Names of the settings that ship with the package."""
    folder = resources.files("lexiseg.training.finetuning") / "presets"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


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
        source = (resources.files("lexiseg.training.finetuning") / "presets" / f"{text}.yaml").read_text("utf-8")
    elif text.endswith((".yaml", ".yml")):
        try:
            source = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownPreset(f"preset {text} cannot be read ({type(error).__name__})") from error
    else:
        raise UnknownPreset(
            f"there is no fine-tuning preset {text!r}; expected one of {', '.join(preset_names())} or a .yaml"
        )
    try:
        values = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise UnknownPreset(f"preset {text} is not YAML") from error
    if not isinstance(values, dict):
        raise UnknownPreset(f"preset {text} holds no fields; expected loss, batch, learning_rate, ...")
    values |= {name: value for name, value in changes.items() if value is not None}
    return FinetuneSettings(**{str(name): _typed(str(name), value) for name, value in values.items()})


def parse_change(text: str) -> tuple[str, Any]:
    """``key=value`` as a field of `FinetuneSettings` and its value, read as YAML.

    Raises:
        UsageError: it is not of that form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"setting {text!r} is not of the form key=value, such as temperature=0.1")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"setting {text!r}: the value cannot be read") from error


def _typed(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise UsageError(f"there is no setting {name!r}; expected one of {', '.join(_TYPES)}")
    wanted = _TYPES[name]
    if wanted is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML reads 1e-6 as text
            value = float(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise UsageError(f"{name} is {value!r}; expected {wanted.__name__}")
    return value
