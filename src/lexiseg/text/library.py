"""The phrase library: targets with their synonyms, templates and negative phrases, read from YAML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import UsageError

_GENERIC = "generic.yaml"

# British on the left.  Whole words, so that "humour" or a name is left alone.
_SPELLINGS = {
    "tumour": "tumor",
    "tumours": "tumors",
    "foetal": "fetal",
    "foetus": "fetus",
    "haemorrhage": "hemorrhage",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "grey": "gray",
    "centre": "center",
}

# A phrase that opens with one of these asks for the opposite of the target that it names.
_NEGATIONS = frozenset({"no", "not", "without", "normal", "healthy", "absent", "absence", "non"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing that can be asked for.

    Attributes:
        name: the wording that leads the ensemble.
        synonyms: other wordings of the same thing; an ensemble averages them.
        variants: wordings that lead to the target but do not speak for it, and are averaged only where they
            are what was typed: kinds of it (a carcinoma for a breast tumor), words that few use.
        templates: sentences with one ``{}`` for the wording.
        negatives: phrases of what lies around the target and is not it.
        regions: of how many separate regions the target consists (lungs: two), for those who look for
            regions; a scan may show fewer.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    negatives: tuple[str, ...] = ()
    regions: int = 1

    @property
    def wordings(self) -> tuple[str, ...]:
        """The name, then the synonyms."""
        return (self.name, *self.synonyms)

    @property
    def known(self) -> tuple[str, ...]:
        """Every wording by which the target is found."""
        return (*self.wordings, *self.variants)


@dataclass(frozen=True, kw_only=True)
class PhraseLibrary:
    """Targets, and what serves every phrase that none of them knows.

    Attributes:
        targets: the known targets, in the files' alphabetical order.
        templates: generic templates.
        negatives: generic negative phrases.
    """

    targets: tuple[Target, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    negatives: tuple[str, ...] = ()

    def find(self, text: str) -> tuple[Target, str] | None:
        """The target one of whose known wordings is `text`, and that wording as the library spells it.

        Case, spacing, punctuation, a leading article and British spelling do not matter.
        """
        key = phrase_key(text)
        for target in self.targets:
            for wording in target.known:
                if phrase_key(wording) == key:
                    return target, wording
        return None

    def related(self, text: str) -> Target | None:
        """The target whose wording stands inside a longer phrase ("spiculated breast tumor"); the longest
        wins.

        A phrase that opens with a negation ("no breast tumor", "normal heart") is related to nothing.
        """
        words = phrase_key(text).split()
        if not words or words[0] in _NEGATIONS:
            return None
        padded = f" {' '.join(words)} "
        best, length = None, 0
        for target in self.targets:
            for wording in target.known:
                key = phrase_key(wording)
                if len(key) > length and f" {key} " in padded:
                    best, length = target, len(key)
        return best


def phrase_key(text: str) -> str:
    """Lower-case words joined by single spaces, in American spelling, without a leading article.

    Two phrases with one key are the same phrase.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    words = [_SPELLINGS.get(word, word) for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*", folded)]
    if len(words) > 1 and words[0] in {"a", "an", "the"}:
        words = words[1:]
    return " ".join(words)


def load_library(folder: Path) -> PhraseLibrary:
    """Read a folder of YAML files: one per target, and optionally ``generic.yaml``.

    Raises:
        UsageError: the folder or a file cannot be read, a field is missing or of the wrong kind, a template
            lacks its ``{}``, or two targets share a wording.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UsageError(f"phrase library {folder.name!r} holds no .yaml file; expected one per target")
    targets: list[Target] = []
    generic: dict[str, tuple[str, ...]] = {}
    for file in files:
        fields = _read(file)
        if file.name == _GENERIC:
            _refuse_unknown(fields, ("templates", "negatives"), file)
            generic = {name: _strings(fields, name, file) for name in ("templates", "negatives") if name in fields}
            _check_templates(generic.get("templates", ()), file)
        else:
            targets.append(_target(fields, file))
    _check_unique(targets)
    return PhraseLibrary(targets=tuple(targets), **generic)


@lru_cache(maxsize=1)
def default_library() -> PhraseLibrary:
    """The library that ships with the package."""
    return load_library(Path(__file__).parent)


def _read(file: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"phrase file {file.name} cannot be read as YAML: {reason}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"phrase file {file.name} holds {type(fields).__name__}; expected named fields")
    return fields


def _target(fields: dict[str, Any], file: Path) -> Target:
    known = ("name", "synonyms", "variants", "templates", "negatives", "regions")
    _refuse_unknown(fields, known, file)
    name = fields.get("name")
    if not isinstance(name, str) or not phrase_key(name):
        raise UsageError(f"phrase file {file.name} has no name; expected 'name: some target'")
    lists = {
        key: _strings(fields, key, file) for key in ("synonyms", "variants", "templates", "negatives") if key in fields
    }
    _check_templates(lists.get("templates", ()), file)
    regions = fields.get("regions", 1)
    if not isinstance(regions, int) or isinstance(regions, bool) or regions < 1:
        raise UsageError(f"phrase file {file.name}: regions is {regions!r}; expected a number, 1 or more")
    return Target(name=name, regions=regions, **lists)


def _refuse_unknown(fields: dict[str, Any], known: tuple[str, ...], file: Path) -> None:
    unknown = sorted(map(str, set(fields) - set(known)))
    if "nulls" in unknown:
        raise UsageError(f"phrase file {file.name} has a field nulls: it is called negatives now")
    if unknown:
        raise UsageError(
            f"phrase file {file.name} has unknown fields {', '.join(unknown)}; expected {', '.join(known)}"
        )


def _strings(fields: dict[str, Any], name: str, file: Path) -> tuple[str, ...]:
    values = fields[name]
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise UsageError(f"phrase file {file.name}: {name} is {values!r}; expected a list of non-empty phrases")
    return tuple(values)


def _check_templates(templates: Iterable[str], file: Path) -> None:
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"phrase file {file.name}: template {template!r} needs exactly one {{}} for the phrase")


def _check_unique(targets: Iterable[Target]) -> None:
    owners: dict[str, str] = {}
    for target in targets:
        for wording in target.known:
            owner = owners.setdefault(phrase_key(wording), target.name)
            if owner != target.name:
                raise UsageError(
                    f"phrase {wording!r} belongs to both {owner!r} and {target.name!r}; expected one target"
                )
