"""Presets: which models and settings make a pipeline, as data."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import UnknownPreset, UsageError


@contextmanager
def section(name: str, settings: Mapping[str, Any], known: tuple[str, ...] = ()) -> Iterator[None]:
    """While a section's settings are put to use inside, turn what does not fit into a `UsageError`.

    Args:
        name: the section's.
        settings: its content.
        known: the settings that there are; empty where the block itself refuses others.

    Raises:
        UsageError: an unknown setting, or (from inside) a value of the wrong kind.
    """
    unknown = sorted(repr(key) for key in settings if known and key not in known)
    if unknown:
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; expected among {', '.join(known)}")
    try:
        yield
    except TypeError as error:
        raise UsageError(f"{name}: {dict(settings)!r} holds a name or a value of the wrong kind ({error})") from error


def keywords(stage: Callable[..., Any]) -> tuple[str, ...]:
    """The keyword-only arguments of a function or of a dataclass's making."""
    return tuple(p.name for p in inspect.signature(stage).parameters.values() if p.kind is p.KEYWORD_ONLY)


def presence_threshold(value: Any) -> float | None:
    """The presence section's threshold: a number from 0 to 1, or None for none.

    Raises:
        UsageError: it is neither.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= 1):
        raise UsageError(f"presence: threshold is {value!r}; expected 0 to 1, or null for none")
    return None if value is None else float(value)


SECTIONS = (
    "phrases",
    "proposals",
    "crops",
    "retrieval",
    "saliency",
    "regions",
    "prompts",
    "mask",
    "presence",
    "volume",
)
"""The settings of a preset by stage, in the order of the stages."""


@dataclass(frozen=True)
class Preset:
    """A pipeline's models and settings.

    Attributes:
        name: the preset's.
        about: one line for a person.
        pipeline: a key of `lexiseg.pipelines.loading.PIPELINES`.
        encoder: as for `lexiseg.models.loading.load_encoder`.
        segmenter: as for `lexiseg.models.loading.load_segmenter`.
        phrases, proposals, crops, retrieval, saliency, regions, prompts, mask, presence, volume: keyword
            settings of each stage; a pipeline refuses settings of a stage that it does not have.
    """

    name: str
    about: str = ""
    pipeline: str = "medclip-sam"
    encoder: str = "bundled"
    segmenter: str = "bundled"
    phrases: Mapping[str, Any] = field(default_factory=dict)
    proposals: Mapping[str, Any] = field(default_factory=dict)
    crops: Mapping[str, Any] = field(default_factory=dict)
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    saliency: Mapping[str, Any] = field(default_factory=dict)
    regions: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    mask: Mapping[str, Any] = field(default_factory=dict)
    presence: Mapping[str, Any] = field(default_factory=dict)
    volume: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return dataclasses.asdict(self)

    def override(self, /, **changes: Any) -> Preset:
        """A copy with fields replaced; a section's mapping is merged into the preset's.

        A section that names another method starts empty: one method's settings mean nothing to another.

        Raises:
            UsageError: no such field, or a section that is not a mapping.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _FIELDS:
                raise UsageError(f"a preset has no field {name!r}; expected one of {', '.join(_FIELDS)}")
            if name in SECTIONS:
                if not isinstance(value, Mapping):
                    raise UsageError(f"{name} is {value!r}; expected settings, such as {name}: {{key: value}}")
                before = getattr(self, name)
                other = "method" in value and value["method"] != before.get("method")
                values[name] = {**({} if other else before), **value}
            elif not isinstance(value, str):
                raise UsageError(f"{name} is {value!r}; expected text")
            else:
                values[name] = value
        return dataclasses.replace(self, **values)


_FIELDS = tuple(f.name for f in dataclasses.fields(Preset))


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    folder = resources.files("lexiseg.pipelines") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str | Path, /, **changes: Any) -> Preset:
    """A preset by name, or from a YAML file of one's own.

    Args:
        name: one of `preset_names()`, or the path of a YAML file with the fields of `Preset`.
        changes: as for `Preset.override`.

    Raises:
        UnknownPreset: neither a name nor a readable YAML file.
        UsageError: a field or setting that does not exist.
    """
    text = str(name)
    if text in preset_names():
        source = (resources.files("lexiseg.pipelines") / "presets" / f"{text}.yaml").read_text(encoding="utf-8")
    elif text.endswith((".yaml", ".yml")):
        try:
            source = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownPreset(f"preset {text} cannot be read ({error.__class__.__name__})") from error
    else:
        raise UnknownPreset(f"there is no preset {text!r}; expected one of {', '.join(preset_names())} or a .yaml file")
    try:
        fields = yaml.safe_load(source)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
        raise UnknownPreset(f"preset {text} is not YAML") from error
    if not isinstance(fields, dict):
        raise UnknownPreset(f"preset {text} holds no fields; expected pipeline, encoder, segmenter, ...")
    base = Preset(name=str(fields.pop("name", Path(text).stem)))
    return base.override(**{str(key): value for key, value in fields.items()}).override(**changes)


def parse_setting(text: str) -> dict[str, Any]:
    """``section.key=value`` (or ``field=value``) as changes for `Preset.override`; values are read as YAML.

    Raises:
        UsageError: it is not of that form, or a preset has no such field.
    """
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path) or len(path) > 2:
        raise UsageError(f"setting {text!r} is not of the form section.key=value, such as saliency.method=gscorecam")
    if path[0] not in _FIELDS:
        # told here, since a caller passes changes on as keywords beside its own
        raise UsageError(f"setting {text!r}: a preset has no field {path[0]!r}; expected one of {', '.join(_FIELDS)}")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"setting {text!r}: the value cannot be read") from error
    return {path[0]: {path[1]: parsed}} if len(path) == 2 else {path[0]: parsed}


def merge_settings(settings: list[str]) -> dict[str, Any]:
    """Several `parse_setting` texts as one set of changes; a later one wins."""
    merged: dict[str, Any] = {}
    for text in settings:
        for name, value in parse_setting(text).items():
            if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
                merged[name] = {**merged[name], **value}
            else:
                merged[name] = value
    return merged
