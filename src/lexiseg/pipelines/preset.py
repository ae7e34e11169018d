"""Presets: which models and settings make a pipeline, as data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import UnknownPreset, UsageError
from lexiseg.pipelines.look import LookSettings
from lexiseg.pipelines.settings import (
    InstanceSettings,
    MaskSettings,
    PhraseSettings,
    PickSettings,
    PropagationSettings,
    VolumeSettings,
)
from lexiseg.proposals.settings import CropSettings, ProposalSettings, RetrievalSettings
from lexiseg.regions.refine import REFINERS, HullSettings, PromptSettings
from lexiseg.saliency.settings import SALIENCY_SETTINGS, PresenceSettings
from lexiseg.settings import read_settings


@dataclass(frozen=True)
class OneOf:
    """A section whose `method` says which settings it has.

    Attributes:
        kinds: method -> settings.
        default: the method where none is named.
    """

    kinds: Mapping[str, type[Any]]
    default: str


SALIENCY = OneOf(SALIENCY_SETTINGS, "gscorecam")
REGIONS = OneOf(REFINERS, "crf")

PIPELINE_SECTIONS: Mapping[str, Mapping[str, type[Any] | OneOf]] = {
    "medclip-sam": {
        "look": LookSettings,
        "phrases": PhraseSettings,
        "saliency": SALIENCY,
        "regions": REGIONS,
        "prompts": PromptSettings,
        "mask": MaskSettings,
        "presence": PresenceSettings,
        "volume": VolumeSettings,
        "propagation": PropagationSettings,
    },
    "salip": {
        "phrases": PhraseSettings,
        "proposals": ProposalSettings,
        "crops": CropSettings,
        "retrieval": RetrievalSettings,
        "saliency": OneOf(SALIENCY_SETTINGS, "dense"),
        "prompts": HullSettings,
        "mask": MaskSettings,
        "presence": PresenceSettings,
        "volume": VolumeSettings,
        "propagation": PropagationSettings,
    },
    "sam3": {
        "instances": InstanceSettings,
        "presence": PresenceSettings,
        "volume": VolumeSettings,
        "propagation": PropagationSettings,
    },
    "sam-unprompted": {"proposals": ProposalSettings, "retrieval": PickSettings, "volume": VolumeSettings},
    "sam-box": {"prompts": PromptSettings, "mask": MaskSettings, "volume": VolumeSettings},
}
"""Pipeline -> the sections of a preset that it reads, in the order of its stages."""

TOLD_THE_TRUTH = frozenset({"sam-box"})
"""Pipelines that are yardsticks: they are told the true mask."""

WITHOUT_ENCODER = frozenset({"sam3", "sam-unprompted", "sam-box"})
"""Pipelines that ask no vision-language model, whatever encoder a preset names."""

TUNED = frozenset({"medclip-sam", "salip"})
"""Pipelines of which `tune_label_free` chooses settings: the look where they have one, else how regions are found."""

SECTIONS = tuple(dict.fromkeys(name for sections in PIPELINE_SECTIONS.values() for name in sections))
"""Every section that a preset may have."""
_NAMES = ("name", "about", "pipeline", "encoder", "segmenter")
_FIELDS = (*_NAMES, *SECTIONS)


@dataclass(frozen=True)
class Preset:
    """A pipeline's models and settings.

    Attributes:
        name: the preset's.
        about: one line for a person.
        pipeline: a key of `lexiseg.pipelines.preset.PIPELINE_SECTIONS`.
        encoder: as for `lexiseg.models.loading.load_encoder`.
        segmenter: as for `lexiseg.models.loading.load_segmenter`.
        sections: settings by section, a dataclass each; one that is not named has its defaults.

    Raises:
        UsageError: there is no such pipeline.
    """

    name: str
    about: str = ""
    pipeline: str = "medclip-sam"
    encoder: str = "bundled"
    segmenter: str = "bundled"
    sections: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pipeline not in PIPELINE_SECTIONS:
            raise UsageError(f"there is no pipeline {self.pipeline!r}; expected one of {', '.join(PIPELINE_SECTIONS)}")

    def __getitem__(self, section: str) -> Any:
        """A section's settings; the pipeline's defaults where the preset does not name it."""
        if section in self.sections:
            return self.sections[section]
        kind = PIPELINE_SECTIONS[self.pipeline][section]
        return kind.kinds[kind.default]() if isinstance(kind, OneOf) else kind()

    def reads(self, section: str) -> bool:
        """Whether the pipeline reads a section.

        Example:
            >>> load_preset("demo").reads("look"), load_preset("sam-box").reads("presence")
            (True, False)
        """
        return section in PIPELINE_SECTIONS[self.pipeline]

    @property
    def threshold(self) -> float | None:
        """The presence below which a phrase is absent; None for none, and where the pipeline weighs no presence."""
        found: float | None = self["presence"].threshold if self.reads("presence") else None
        return found

    @property
    def tunable(self) -> bool:
        """Whether `tune_label_free` can choose settings of the pipeline."""
        return self.pipeline in TUNED

    @property
    def needs_truth(self) -> bool:
        """Whether the pipeline is a yardstick that is told the true mask."""
        return self.pipeline in TOLD_THE_TRUTH

    @property
    def needs_encoder(self) -> bool:
        """Whether the pipeline asks the preset's encoder."""
        return self.pipeline not in WITHOUT_ENCODER

    def as_dict(self) -> dict[str, Any]:
        """Plain values of everything that is named, for run.json."""
        named = {name: getattr(self, name) for name in _NAMES}
        return named | {name: _plain(settings) for name, settings in self.sections.items()}

    def at_once(self, batch: int) -> Preset:
        """A copy in which at most so many views, crops, points or slices go through a model at once.

        Raises:
            UsageError: fewer than 1.

        Example:
            >>> load_preset("demo").at_once(4)["saliency"].batch
            4
        """
        if batch < 1:
            raise UsageError(f"batch is {batch}; expected 1 or more")
        changes = {
            name: {key: batch for key in ("batch", "points_per_batch") if hasattr(settings, key)}
            for name, settings in self.sections.items()
        }
        return self.override(**{name: found for name, found in changes.items() if found})

    def override(self, /, **changes: Any) -> Preset:
        """A copy with fields replaced; a section's mapping is merged into the preset's.

        A section that names another method starts with that method's defaults: one method's settings mean
        nothing to another. With another pipeline, sections that it does not read are left out.

        Raises:
            UsageError: no such field, a section that the pipeline does not read or that is no mapping, or a
                setting or value that a section does not take.
        """
        for name, value in changes.items():
            if name not in _FIELDS:
                raise UsageError(f"a preset has no field {name!r}; expected one of {', '.join(_FIELDS)}")
            if name in _NAMES and not isinstance(value, str):
                raise UsageError(f"{name} is {value!r}; expected text")
        named = dataclasses.replace(self, **{name: value for name, value in changes.items() if name in _NAMES})
        known = PIPELINE_SECTIONS[named.pipeline]
        sections = {name: settings for name, settings in self.sections.items() if name in known}
        for name, value in changes.items():
            if name in _NAMES:
                continue
            if name not in known:
                raise UsageError(
                    f"the pipeline {named.pipeline!r} reads no section {name}; expected among {', '.join(known)}"
                )
            if not isinstance(value, Mapping):
                raise UsageError(f"{name} is {value!r}; expected settings, such as {name}: {{key: value}}")
            sections[name] = _read(name, value, known[name], sections.get(name))
        return dataclasses.replace(named, sections={name: sections[name] for name in known if name in sections})


def _read(section: str, given: Mapping[str, Any], kind: type[Any] | OneOf, base: Any) -> Any:
    if not isinstance(kind, OneOf):
        return read_settings(kind, given, section=section, base=base)
    values = dict(given)
    method = values.pop("method", base.method if base is not None else kind.default)
    if not isinstance(method, str) or method not in kind.kinds:
        raise UsageError(f"{section} has no method {method!r}; expected one of {', '.join(kind.kinds)}")
    same = base is not None and base.method == method
    return read_settings(kind.kinds[method], values, section=section, base=base if same else None)


def _plain(settings: Any) -> dict[str, Any]:
    method = {"method": settings.method} if hasattr(settings, "method") else {}
    return method | dataclasses.asdict(settings)


def preset_names() -> list[str]:
    """Names of the presets that ship with the package.

    Example:
        >>> "demo" in preset_names()
        True
    """
    folder = resources.files("lexiseg.pipelines") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str | Path, /, **changes: Any) -> Preset:
    """A preset by name, or from a YAML file of one's own.

    Args:
        name: one of `preset_names()`, the path of a YAML file with the fields of `Preset`, or the folder of a student
            that `lexiseg distill` tuned from the bundled encoder: its teacher's settings, with the tuned encoder.
        changes: as for `Preset.override`.

    Raises:
        UnknownPreset: neither a name nor a readable YAML file.
        UsageError: a field or setting that does not exist.

    Example:
        >>> load_preset("demo", presence={"threshold": 0.5})["presence"].threshold
        0.5
    """
    text = str(name)
    if text in preset_names():
        source = (resources.files("lexiseg.pipelines") / "presets" / f"{text}.yaml").read_text(encoding="utf-8")
    elif text.endswith((".yaml", ".yml")):
        try:
            source = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownPreset(f"preset {text} cannot be read ({error.__class__.__name__})") from error
    elif (Path(text) / "config.json").is_file():
        return _of_student(Path(text)).override(**changes)
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


def _of_student(folder: Path) -> Preset:
    """The preset of a student's folder.

    Raises:
        UnknownPreset: it is none, or the student answers no phrase.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("format") != "lexiseg-student":
            raise UnknownPreset(f"preset {folder} is no student's folder; expected one by `lexiseg distill`")
        if config.get("network", "unet") == "unet":
            raise UnknownPreset(f"preset {folder} is a U-Net, which reads no phrase; use `lexiseg predict {folder}`")
        fields = dict(config["preset"])
        about = f"tuned for {', '.join(config['names'])}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownPreset(f"preset {folder} cannot be read ({type(error).__name__}); train it again") from error
    own = folder.resolve().name
    fields |= {"name": f"student-{own}" if own in preset_names() else own, "about": about, "encoder": str(folder)}
    name = str(fields.pop("name"))
    return Preset(name=name).override(**{str(key): value for key, value in fields.items()})


def parse_setting(text: str) -> dict[str, Any]:
    """``section.key=value`` (or ``field=value``) as changes for `Preset.override`; values are read as YAML.

    Raises:
        UsageError: it is not of that form, or a preset has no such field.

    Example:
        >>> parse_setting("presence.threshold=0.5")
        {'presence': {'threshold': 0.5}}
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
