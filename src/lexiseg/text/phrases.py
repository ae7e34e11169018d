"""From what a person types to the wordings that an encoder reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lexiseg.errors import BadPhrase
from lexiseg.text.library import PhraseLibrary, Target, default_library, phrase_key


@dataclass(frozen=True)
class PhraseSet:
    """A phrase, its wordings, and what it is weighed against.

    Attributes:
        text: the phrase as it was typed, outer and repeated spaces removed; names masks and table rows.
        wordings: at least one; their embeddings are averaged.
        negatives: phrases of what is not the target; may be empty.
        regions: of how many separate regions the target usually consists; 1 where nobody knows.
    """

    text: str
    wordings: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    regions: int = 1

    def __post_init__(self) -> None:
        if not self.wordings:
            raise BadPhrase(f"phrase {self.text!r} has no wording; expected at least one")


def check_phrase(text: str) -> str:
    """The phrase with outer and repeated spaces removed.

    Raises:
        BadPhrase: it is empty or has no letter in it.
    """
    cleaned = " ".join(text.split())
    if not cleaned:
        raise BadPhrase("the phrase is empty; say what to look for, for example 'breast tumor'")
    if not any(character.isalpha() for character in cleaned):
        raise BadPhrase(f"phrase {cleaned!r} has no letter; say what to look for, for example 'breast tumor'")
    return cleaned


def phrase_set(text: str, *, ensemble: bool = False, library: PhraseLibrary | None = None) -> PhraseSet:
    """Wordings and negative phrases for a typed phrase.

    A phrase that the library knows (by name, synonym or variant, whatever its case, spacing or British
    spelling) is put as the library spells it and gets its target's templates and negatives.  A longer phrase
    around a known one ("spiculated breast tumor") keeps its own words with that target's templates and negatives.
    Any other phrase gets the generic ones.

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
