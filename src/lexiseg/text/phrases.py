"""From what a person types to the wordings that an encoder reads.

The library of targets with their synonyms, templates and negative phrases is YAML beside this file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lexiseg.errors import BadPhrase, UsageError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class PhraseSet:
    """A phrase, its wordings, and what it is weighed against.

    Attributes:
        text: the phrase as it was typed, outer and repeated spaces removed; names masks and table rows.
        wordings: at least one; their embeddings are averaged.
        negatives: phrases of what is not the target; may be empty.
        regions: of how many separate regions the target usually consists; 1 where nobody knows.
        holes: whether the target has holes, that are not to be filled.
    """

    text: str
    wordings: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    regions: int = 1
    holes: bool = False

    def __post_init__(self) -> None:
        if not self.wordings:
            raise BadPhrase(f"phrase {self.text!r} has no wording; expected at least one")


MAX_LENGTH = 1000
"""Characters of a phrase: text towers read some dozens of words and drop the rest in silence."""


def check_phrase(text: str) -> str:
    """The phrase with outer and repeated spaces removed.

    Raises:
        BadPhrase: it is no text, empty, has no letter in it, or more than `MAX_LENGTH` characters.
    """
    if not isinstance(text, str):
        raise BadPhrase(f"the phrase is {text!r}; expected a text such as 'breast tumor'")
    cleaned = " ".join(text.split())
    if len(cleaned) > MAX_LENGTH:
        raise BadPhrase(
            f"the phrase has {len(cleaned)} characters, expected at most {MAX_LENGTH}; name one target in a few words"
        )
    if not cleaned:
        raise BadPhrase("the phrase is empty; say what to look for, for example 'breast tumor'")
    if not any(character.isalpha() for character in cleaned):
        raise BadPhrase(f"phrase {cleaned!r} has no letter; say what to look for, for example 'breast tumor'")
    return cleaned


def phrase_set(text: str, *, ensemble: bool = False, library: PhraseLibrary | None = None) -> PhraseSet:
    """Wordings and negative phrases for a typed phrase.

    A phrase that the library knows (by name, synonym or variant, whatever its case, spacing or British spelling) is put
    as the library spells it and gets its target's templates and negatives.  A longer phrase around a known one keeps
    its own words with that target's templates and negatives.  Any other phrase gets the generic ones.

    Args:
        text: the phrase.
        ensemble: False for the phrase alone; True for the phrase in every template and, where the phrase is a
            known one, the target's name and synonyms too.
        library: where targets are looked up; None for the one that ships with the package.

    Raises:
        BadPhrase: the phrase is empty or has no letter in it.
    """
    library = default_library() if library is None else library
    cleaned = check_phrase(text)
    found = library.find(cleaned)
    related = None if found is not None else library.related(cleaned)
    if found is not None:
        target, wording = found
        templates, synonyms, negatives = target.templates, target.wordings, target.negatives
    else:
        wording, synonyms = cleaned, ()
        templates = related.templates if related else library.templates
        negatives = related.negatives if related else ()
    wordings = [wording]
    if ensemble:
        wordings += [template.format(wording) for template in templates]
        # Synonyms only bare: a template times a synonym adds text forwards, hardly any new direction.
        wordings += synonyms
    unique = _unique(wordings)
    known = found[0] if found is not None else _of_which(cleaned, related)
    return PhraseSet(
        text=cleaned,
        wordings=unique,
        negatives=_unique((*negatives, *library.negatives), without=(cleaned, *unique)),
        regions=known.regions if known is not None else 1,
        holes=known is not None and known.holes,
    )


def _of_which(text: str, related: Target | None) -> Target | None:
    """The related target where the phrase is about it: "hazy lungs" are lungs, a "lung nodule" is not."""
    words = f" {phrase_key(text)}"
    named = related is not None and any(words.endswith(f" {phrase_key(w)}") for w in related.known)
    return related if named else None


def _unique(phrases: Iterable[str], without: Iterable[str] = ()) -> tuple[str, ...]:
    """Phrases without those that say the same as an earlier one (or as one of `without`), in order."""
    seen = {phrase_key(phrase) for phrase in without}
    kept = []
    for phrase in phrases:
        key = phrase_key(phrase)
        if key not in seen:
            seen.add(key)
            kept.append(phrase)
    return tuple(kept)


_GENERIC = "generic.yaml"
FINDINGS_FILE = "findings.yaml"
"""Beside the targets in the folder of the library, and none itself."""

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
        regions: of how many separate regions the target consists (lungs: two); a scan may show fewer.
        holes: whether it is a ring or a net: holes in it are not part of it.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    negatives: tuple[str, ...] = ()
    regions: int = 1
    holes: bool = False

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

        Case, spacing, punctuation, a leading article and British spelling do not matter, nor that the words
        stand in the order of an index ("lung, left", "tumor, breast").
        """
        for key in readings(text):
            for target in self.targets:
                for wording in target.known:
                    if phrase_key(wording) == key:
                        return target, wording
        return None

    def related(self, text: str) -> Target | None:
        """The target whose wording stands inside a longer phrase ("spiculated breast tumor"); the longest wins.

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


def readings(text: str) -> list[str]:
    """The key of a phrase, then those of its words in the usual order."""
    keys = [phrase_key(text)]
    parts = text.split(",")
    if len(parts) == 2:
        keys.append(phrase_key(f"{parts[1]} {parts[0]}"))
    words = keys[0].split()
    if len(words) > 1 and words[-1] in {"left", "right"}:
        keys.append(" ".join([words[-1], *words[:-1]]))
    return keys


def load_library(folder: Path) -> PhraseLibrary:
    """Read a folder of YAML files: a document for each target, and optionally ``generic.yaml``.

    Raises:
        UsageError: the folder or a file cannot be read, a field is missing or of the wrong kind, a template
            lacks its ``{}``, or two targets share a wording.
    """
    files = sorted(each for each in folder.glob("*.yaml") if each.name != FINDINGS_FILE)
    if not files:
        raise UsageError(f"phrase library {folder.name!r} holds no .yaml file; expected one per target")
    targets: list[Target] = []
    generic: dict[str, tuple[str, ...]] = {}
    for file in files:
        for fields in _read(file):
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


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"phrase file {file.name} cannot be read as YAML: {reason}") from error
    if strange := [type(each).__name__ for each in documents if not isinstance(each, dict)]:
        raise UsageError(f"phrase file {file.name} holds {strange[0]}; expected named fields")
    return documents


def _target(fields: dict[str, Any], file: Path) -> Target:
    known = ("name", "synonyms", "variants", "templates", "negatives", "regions", "holes")
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
    holes = fields.get("holes", False)
    if not isinstance(holes, bool):
        raise UsageError(f"phrase file {file.name}: holes is {holes!r}; expected true or false")
    return Target(name=name, regions=regions, holes=holes, **lists)


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
