"""What a benchmark is: sets, prompts, systems and seeds, read from a YAML file; what is wrong is told in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lexiseg.benchmark.training_split import PARTS
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import BadPhrase, UsageError
from lexiseg.io.names import printable
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.text.phrases import check_phrase

GENERIC, ORACLE = "generic", "oracle-class"
KINDS = (GENERIC, ORACLE)
"""Kinds of prompts: one phrase for a whole set; or one for each scan by its true label, which a user who
does not know the answer cannot type."""

RIGHT = "right"
"""The kind of the phrase that names what is in the scan, where a scan is asked for other things too."""


@dataclass(frozen=True, kw_only=True)
class SuiteSet:
    """Scans to be segmented.

    Attributes:
        name: of the set; also a folder's.
        manifest: the CSV, relative to the data folder.
        about: one line for a person.
        part: "all", or "bundled-validation"; see `select_scans`.
        where: column -> the values of it that are taken; a row has to fit all columns.
        limit: at most so many scans, spread over the set; None for all.
        absent: labels of rows without mask and box that hold no target.
        generic: the phrase asked of every scan; "" for none.
        oracle: label -> the phrase that names it; none where labels say nothing of the target.
        contrasts: kind -> phrase, for the sensitivity to the wording; the right phrase is `generic`.
    """

    name: str
    manifest: str
    about: str = ""
    part: str = "all"
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    absent: tuple[str, ...] = ()
    generic: str = ""
    oracle: Mapping[str, str] = field(default_factory=dict)
    contrasts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of prompts that the set has."""
        return ((GENERIC,) if self.generic else ()) + ((ORACLE,) if self.oracle else ())

    def phrase(self, kind: str, row: ManifestRow) -> str:
        """What is asked of a scan.

        Raises:
            UsageError: the row's label has no phrase.
        """
        if kind == GENERIC:
            return self.generic
        if row.label not in self.oracle:
            raise UsageError(
                f"sets.{self.name}: {ORACLE} has no phrase for the label {printable(row.label)!r} of "
                f"{printable(row.id)}; expected among {', '.join(self.oracle)}"
            )
        return self.oracle[row.label]


@dataclass(frozen=True, kw_only=True)
class SuiteSystem:
    """A preset with its changes.

    Attributes:
        name: of the system; also a folder's.
        preset: as it is run.
        kinds: of prompts that it is asked; a system that does not look at the phrase needs one of them.
    """

    name: str
    preset: Preset
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, kw_only=True)
class WordingPlan:
    """Which systems are asked for something else than what is there, on at most `limit` scans of a set."""

    systems: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A benchmark.

    Attributes:
        name: for people.
        file: the YAML file's name.
        about: one line.
        sets: by name.
        systems: by name.
        seeds: each makes cells of its own.
        limit: at most so many scans of each set; None for all.
        tolerance: of NSD, in mm, or pixels where a scan has no spacing.
        resamples: of the bootstrap.
        save_stages: keep the saliency of each scan too, and score it.
        wording: sensitivity to the wording; None where the suite does not ask for it.
    """

    name: str
    file: str
    about: str = ""
    sets: Mapping[str, SuiteSet]
    systems: Mapping[str, SuiteSystem]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    tolerance: float = 2.0
    resamples: int = 2000
    save_stages: bool = False
    wording: WordingPlan | None = None


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Fields:
    """A mapping's fields.

    Args:
        values: what YAML made of it; None counts as no fields.
        where: what its errors begin with, such as "smoke.yaml: sets.busi".
        known: names of all fields that there are; () for any.

    Raises:
        UsageError: it is no mapping, or has a field that is not known.
    """

    def __init__(self, values: Any, where: str, known: tuple[str, ...] = ()) -> None:
        values = {} if values is None else values
        if not isinstance(values, Mapping):
            raise UsageError(f"{where} is {_shown(values)}; expected fields, such as name: value")
        for name in values:
            if not isinstance(name, str):
                raise UsageError(f"{where}: {_shown(name)} is no text; put it in quotes")
            if known and name not in known:
                raise UsageError(f"{where}: there is no field {_shown(name)}; expected among {', '.join(known)}")
        self.values: Mapping[str, Any] = values
        self.where = where

    def text(self, name: str, default: str | None = None) -> str:
        """A text on one line; needed where there is no default."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a text")
        return " ".join(value.split())

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one text; () where it is not there."""
        value = self.values.get(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a list of texts")
        return tuple(dict.fromkeys(value))

    def whole(self, name: str, default: int | None, *, least: int) -> int | None:
        """A whole number."""
        value = self.values.get(name, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a whole number of at least {least}")
        return value

    def number(self, name: str, default: float) -> float:
        """A number above 0."""
        value = self.values.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a number above 0")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; false where it is not there."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected true or false")
        return value

    def inner(self, name: str, *known: str) -> Fields:
        """The fields of a mapping inside this one; none where it is not there."""
        return Fields(self.values.get(name), f"{self.where}: {name}", known)

    def each(self, name: str, *known: str) -> dict[str, Fields]:
        """The mappings of a mapping by name, at least one; the names are fit for folders."""
        outer = self.inner(name)
        if not outer.values:
            raise UsageError(f"{self.where}: {name} is empty; expected at least one")
        for key in outer.values:
            if not _NAME.fullmatch(key):
                raise UsageError(
                    f"{self.where}: {name}: {_shown(key)} cannot be a folder's name; "
                    "expected letters, digits, dots, dashes"
                )
        folded = [key.casefold() for key in outer.values]
        if len(set(folded)) < len(folded):
            raise UsageError(f"{self.where}: {name}: two names differ in case alone; expected another name")
        return {key: Fields(value, f"{outer.where}.{key}", known) for key, value in outer.values.items()}

    def phrases(self, name: str) -> dict[str, str]:
        """A mapping of texts to phrases; none where it is not there."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in inner.values}


def _shown(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


_SUITE = ("name", "about", "sets", "presets", "seeds", "limit", "tolerance", "resamples", "save_stages",
          "sensitivity")  # fmt: skip
_SET = ("manifest", "about", "part", "where", "limit", "absent", "prompts", "contrasts")
_SYSTEM = ("preset", "settings", "prompts")


def load_suite(path: str | Path) -> Suite:
    """Read a suite.

    Fields: name, about, sets, presets, seeds, limit, tolerance, resamples, save_stages, sensitivity; see
    `Suite`, `SuiteSet` and `SuiteSystem` for what they mean. A preset's entry names a preset (itself by
    default; a .yaml file lies beside the suite) and changes to its settings.

    Args:
        path: a YAML file.

    Raises:
        UsageError: it cannot be read, a field or value is wrong, or a preset is unknown; one line.
    """
    path = Path(path)
    top = Fields(_yaml(path), printable(path.name), _SUITE)
    sets = {name: _set(name, fields) for name, fields in top.each("sets", *_SET).items()}
    systems = {name: _system(name, fields, path.parent) for name, fields in top.each("presets", *_SYSTEM).items()}
    return Suite(
        name=top.text("name", path.stem),
        file=path.name,
        about=top.text("about", ""),
        sets=sets,
        systems=systems,
        seeds=_seeds(top),
        limit=top.whole("limit", None, least=1),
        tolerance=top.number("tolerance", 2.0),
        resamples=top.whole("resamples", 2000, least=1) or 2000,
        save_stages=top.flag("save_stages"),
        wording=_wording(top, sets, systems),
    )


def _yaml(path: Path) -> Any:
    label = printable(str(path))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{label}: the suite cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{label}: the suite is not UTF-8") from error
    # ValueError: a date that no calendar has.
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{label}: the suite is not YAML ({' '.join(str(error).split())})") from error
    return content


def _set(name: str, fields: Fields) -> SuiteSet:
    prompts = fields.inner("prompts", *KINDS)
    generic = prompts.text(GENERIC, "")
    oracle = prompts.phrases(ORACLE)
    contrasts = fields.phrases("contrasts")
    if not generic and not oracle:
        raise UsageError(f"{fields.where}: prompts is empty; expected {GENERIC}: a phrase")
    if contrasts and not generic:
        raise UsageError(f"{fields.where}: contrasts are compared with the {GENERIC} prompt; give one")
    if RIGHT in contrasts:
        raise UsageError(f"{fields.where}: contrasts: {RIGHT} is the {GENERIC} prompt itself; rename it")
    for phrase in (*filter(None, [generic]), *oracle.values(), *contrasts.values()):
        try:
            check_phrase(phrase)
        except BadPhrase as error:
            raise BadPhrase(f"{fields.where}: {error}") from error
    asked = [phrase.casefold() for phrase in (generic, *contrasts.values())]
    if len(set(asked)) < len(asked):
        raise UsageError(f"{fields.where}: contrasts: a phrase is asked twice; expected each once")
    part = fields.text("part", "all")
    if part not in PARTS:
        raise UsageError(f"{fields.where}: there is no part {part!r}; expected one of {', '.join(PARTS)}")
    where = fields.inner("where")
    return SuiteSet(
        name=name,
        manifest=fields.text("manifest"),
        about=fields.text("about", ""),
        part=part,
        where={column: where.texts(column) for column in where.values},
        limit=fields.whole("limit", None, least=1),
        absent=fields.texts("absent"),
        generic=generic,
        oracle=oracle,
        contrasts=contrasts,
    )


def _system(name: str, fields: Fields, folder: Path) -> SuiteSystem:
    wanted = fields.text("preset", name)
    kinds = fields.texts("prompts") or KINDS
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"{fields.where}: there is no kind of prompt {kind!r}; expected among {', '.join(KINDS)}")
    return SuiteSystem(name=name, preset=_preset(wanted, fields, folder), kinds=kinds)


def _preset(wanted: str, fields: Fields, folder: Path) -> Preset:
    source = folder / wanted if wanted.endswith((".yaml", ".yml")) else wanted
    try:
        preset = load_preset(source, **fields.inner("settings").values)
    except UsageError as error:
        raise UsageError(f"{fields.where}: {error}") from error
    return preset


def _seeds(top: Fields) -> tuple[int, ...]:
    seeds = top.values.get("seeds", [0])
    sound = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not sound or not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"{top.where}: seeds is {seeds!r}; expected a list of whole numbers, such as [0]")
    return tuple(seeds)


def _wording(top: Fields, sets: dict[str, SuiteSet], systems: dict[str, SuiteSystem]) -> WordingPlan | None:
    if "sensitivity" not in top.values:
        return None
    fields = top.inner("sensitivity", "presets", "limit")
    names = fields.texts("presets")
    for name in names:
        if name not in systems:
            raise UsageError(
                f"{fields.where}: there is no preset {name!r} in the suite; expected among {', '.join(systems)}"
            )
        if systems[name].preset.needs_truth:
            raise UsageError(f"{fields.where}: {name} is told the truth, whatever is asked; leave it out")
    if not names:
        raise UsageError(f"{fields.where}: presets is empty; expected at least one of {', '.join(systems)}")
    if not any(each.contrasts for each in sets.values()):
        raise UsageError(f"{fields.where}: no set has contrasts; expected at least one")
    return WordingPlan(systems=names, limit=fields.whole("limit", None, least=1))
