"""Which phrases the bundled encoder knows, and what to say of one that it does not.

An encoder that was taught some twenty things answers every phrase. Its text tower cannot judge for itself: the
cosine to the nearest wording that it was taught is 0.99 for "breast implant", "nodule" and "heart and lungs", and
0.70 for "enlarged heart". So words decide. What was taught is data: the targets of the library, and
``bundled/known_phrases.yaml``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources

import yaml

from lexiseg.errors import BadPhrase
from lexiseg.text.asking import as_words, only_asks, spelt, without_frame
from lexiseg.text.denials import is_denial, is_foreign
from lexiseg.text.findings import FINDINGS, is_beside, is_finding, what_is_said
from lexiseg.text.phrases import PhraseLibrary, default_library, phrase_key, readings
from lexiseg.text.sides import SHORT_SIDES

_BETWEEN = re.compile(r"\s*(?:[,;/+&|\n]|\band\b|\bor\b|\bplus\b|\bas well as\b)\s*", re.IGNORECASE)
_LACKING = re.compile(r"without|with no|free of|negative for", re.IGNORECASE)
_JOINED = re.compile(r"[;/+&|]|\bas well as\b", re.IGNORECASE)
_NEAR = 0.7
"""Share of letters in common (Ratcliff and Obershelp) from which a phrase passes for a misspelt one."""
_NAMED = 3


@dataclass(frozen=True)
class Vocabulary:
    """What an encoder knows.

    Attributes:
        library: its targets are known by every wording.
        phrases: others that are known.
        concepts: one of `phrases` -> what it names, where that is none of the library's targets or another wording.
        hears: what a text tower that was taught English says of any other phrase: what it names, "" where that is
            known and on no scan, None where it knows no such word.  None where there is no such tower.
        qualifiers: words, or words in a row, that may stand around a known phrase; each a `phrase_key`, and no
            article, which never counts.
        of_findings: likewise, around phrases that name a finding (`is_finding`).
        english: words that are no slip of the pen of a known one; none where nobody says, and then none is mended.
    """

    library: PhraseLibrary
    phrases: tuple[str, ...] = ()
    qualifiers: frozenset[str] = frozenset()
    concepts: Mapping[str, str] = field(default_factory=dict)
    hears: Callable[[str], str | None] | None = None
    of_findings: frozenset[str] = frozenset()
    english: frozenset[str] = frozenset()
    _named: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)
    _keys: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        wordings = (*(each for target in self.library.targets for each in target.known), *self.phrases)
        for wording in wordings:
            self._keys.setdefault(_key(wording), wording)
        self._named.update({_key(phrase): concept for phrase, concept in self.concepts.items()})
        self._named.update({_key(each): target.name for target in self.library.targets for each in target.known})

    def names(self, text: str) -> bool:
        """Whether a phrase is itself one of those that are known, whatever its case, spelling and order
        ("lung, left").
        """
        return _key(text) in self._keys or self.library.find(text) is not None

    def knows(self, text: str) -> bool:
        """Whether a phrase is known: one of those named, with nothing but qualifiers around it, or one that `hears`
        knows; and no denial.
        """
        text = self._asked(text)
        return not is_denial(text) and (self._listed(text) or self._heard(text) is not None)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word for key in self._keys for word in key.split())

    def _listed(self, text: str) -> bool:
        return self.names(text) or bool(self._qualified(text))

    def concept(self, text: str) -> str | None:
        """What a known phrase names: a target of the library, or what `concepts` says; None where it is not known."""
        text = self._asked(text)
        found = self.library.find(text)
        if is_denial(text):
            return None
        if found is not None:
            return found[0].name
        key = _key(text)
        named = self._named.get(key if key in self._keys else self._qualified(text))
        return named if named is not None else self._heard(text) or None

    def reading(self, text: str) -> str | None:
        """What a phrase is taken for, "" where that is none of what can be drawn; None where its own words decide.

        That is what `hears` says, or the target of a phrase whose slips of the pen were mended, or that says what its
        target lacks.
        """
        asked = self._asked(text)
        if is_denial(asked):
            return None
        if not self._listed(asked):
            return self._heard(asked)
        as_it_stands = f" {_key(asked)} " in f" {_key(text)} " and not what_is_said(text)[1]
        return None if as_it_stands else self.concept(asked)

    def _asked(self, text: str) -> str:
        """The listed phrase in a phrase that is not listed as it stands; the phrase itself where there is none.

        It stands there among words of asking, with slips of the pen, or beside what it has or lacks, where that is
        nothing that is known. "Spleen without laceration" and "spleen with a cyst" ask for a spleen. "Breast without a
        mass" and "brain without a lesion" ask for what is not there, and stay denials.
        """
        if self._listed(text):
            return text
        target, said = what_is_said(text)
        cut = bool(said) and not self._holds(said, besides=target)
        asked = target if cut else text
        bare = text if is_denial(asked) else self._bare(asked)
        if not self._listed(bare) or is_denial(bare):
            return text
        # A lesion "with irregular edges in the cerebrum" is no lesion alone; what it lacks says no more of it.
        told = cut and not _LACKING.match(said) and is_finding(self.concept(bare) or "")
        return text if told else bare

    def _holds(self, text: str, besides: str) -> bool:
        """Whether something known stands in a text besides a target, one or several of it, rightly spelt or not."""
        known, words = {*self._keys} - {_key(self._bare(besides))}, _key(self._bare(text)).split()
        readings = words, [word.removesuffix("s") for word in words]
        return any(" ".join(each[i:j]) in known for each in readings for i, j in self._inside(each))

    def _bare(self, text: str) -> str:
        words = [SHORT_SIDES.get(word, word) for word in phrase_key(as_words(text)).split()]
        bare = " ".join(without_frame(spelt(words, self._words | FINDINGS, self.english) if self.english else words))
        return text if bare == phrase_key(text) else bare

    def _heard(self, text: str) -> str | None:
        """What `hears` says of a phrase as it stands, or else of what is left without words of asking and slips."""
        words = phrase_key(text).split()
        sided = [SHORT_SIDES.get(word, word) for word in words]
        if self.hears is None or is_foreign(text) or only_asks(sided):
            return None
        bare = self._bare(text)
        if is_denial(bare):
            return None
        said = self.hears(text if sided == words else " ".join(sided))
        said = said if said or bare == text else self.hears(bare) or said
        return "" if said and is_beside(phrase_key(bare).split(), said) else said

    def _qualified(self, text: str) -> str:
        """The longest known phrase, as a key, that has nothing but qualifiers around it; "" for none."""
        words = _key(text).split()
        spans = [(i, j) for i, j in self._inside(words) if self._stands_in(words, i, j)]
        i, j = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
        return " ".join(words[i:j])

    def several(self, text: str) -> tuple[str, ...]:
        """The known phrases that a phrase lists ("heart and lungs"); () where it names one thing, or another.

        "Tumor, brain" and "meningioma or glioma" name one thing. Signs, as in "brain & tumor", join two all the same.
        What `hears` knows does not count: the "left" of "left and right kidney" sounds like something known.
        """
        if self.names(self._asked(text)) and not _JOINED.search(text):
            return ()
        parts = tuple(self._asked(part) for part in _BETWEEN.split(text) if part.strip())
        listed = len(parts) > 1 and all(self._listed(part) and not is_denial(part) for part in parts)
        return parts if listed and len({self.concept(part) for part in parts}) > 1 else ()

    def nearest(self, text: str) -> tuple[str, ...]:
        """Known phrases that are spelt alike, nearest first, then those that stand inside; at most three."""
        words = _key(text).split()
        alike = [
            key
            for reading in readings(text)
            for key in difflib.get_close_matches(reading, list(self._keys), n=_NAMED, cutoff=_NEAR)
        ]
        spans = self._inside(words)
        # Of "left lung tumor" the left lung and the tumor, not the lung too.
        outer = [(i, j) for i, j in spans if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in spans)]
        keys = dict.fromkeys((*alike, *(" ".join(words[i:j]) for i, j in outer)))
        return tuple(self._keys[key] for key in list(keys)[:_NAMED])

    def _inside(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Where known phrases stand among words: first, and one past the last."""
        longest = max((len(key.split()) for key in self._keys), default=0)
        ends = [(i, min(i + longest, len(words))) for i in range(len(words))]
        return [(i, j) for i, last in ends for j in range(i + 1, last + 1) if " ".join(words[i:j]) in self._keys]

    def _stands_in(self, words: Sequence[str], i: int, j: int) -> bool:
        """Whether there is nothing but qualifiers around the known phrase from i to j."""
        named = self._named.get(" ".join(words[i:j]), "")
        qualifiers = self.qualifiers | self.of_findings if is_finding(named) else self.qualifiers
        return self._qualify(words[:i], qualifiers) and self._qualify(words[j:], qualifiers)

    def _qualify(self, words: Sequence[str], qualifiers: frozenset[str]) -> bool:
        """Whether words in a row are qualifiers and nothing else; the longest at each place is taken."""
        longest, at = max((len(each.split()) for each in qualifiers), default=0), 0
        while at < len(words):
            fitting = (n for n in range(longest, 0, -1) if " ".join(words[at : at + n]) in qualifiers)
            count = next(fitting, 0)
            if not count:
                return False
            at += count
        return True


def _key(text: str) -> str:
    return " ".join(word for word in phrase_key(text).split() if word not in {"a", "an", "the"})


@lru_cache(maxsize=1)
def bundled_vocabulary() -> Vocabulary:
    """What the bundled encoder knows."""
    source = (resources.files("lexiseg.bundled") / "known_phrases.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(source)
    qualifiers, of_findings = (
        frozenset(phrase_key(each) for row in fields[name] for each in row)
        for name in ("qualifiers", "qualifiers_of_findings")
    )
    concepts = {phrase: concept for concept, phrases in fields["phrases"].items() for phrase in phrases}
    return Vocabulary(default_library(), tuple(concepts), qualifiers, concepts, of_findings=of_findings)


def refuse_several(text: str, vocabulary: Vocabulary) -> None:
    """Pass a phrase that names one thing.

    Raises:
        BadPhrase: it lists several known ones; says how to ask for them.
    """
    parts = vocabulary.several(text)
    if parts:
        asked = " ".join(f'--text "{part}"' for part in parts)
        raise BadPhrase(f"phrase {text!r} names {len(parts)} targets; ask for each by itself: {asked}")


def read_note(text: str, read_as: str) -> str:
    """One line on a phrase that was taken for something by its sound, not by its words (`Vocabulary.reading`)."""
    if read_as:
        return f"{text!r} is read as {read_as!r}; where that is not what you mean, use other words"
    told = f"{text!r} is read as none of the targets that the bundled models were taught, so it is absent everywhere"
    return f"{told}; `lexiseg models describe` lists the targets"


def advice(text: str, vocabulary: Vocabulary | None = None) -> str:
    """One line on a phrase that is not known, which names the nearest ones that are, or else says what lists them.

    A denial has a line of its own, and so has another language.
    """
    vocabulary = bundled_vocabulary() if vocabulary is None else vocabulary
    near = vocabulary.nearest(text)
    if is_denial(text):
        asked = f"ask for {near[0]!r}" if near else "ask for the target itself"
        told = f"{text!r} asks for what is not there, so nothing is drawn and that is no finding"
        return f"{told}; {asked} and read whether it is present or absent"
    if is_foreign(text):
        return (
            f"{text!r} is not English, which is all that the bundled models read, so nothing is drawn; ask in English"
        )
    if near:
        rest = f"the nearest known: {', '.join(map(repr, near))}"
    else:
        rest = f"they know {len(vocabulary.library.targets)} targets, which `lexiseg models describe` lists"
    return f"{text!r} is unknown to the bundled models, so nothing is drawn and that is no finding; {rest}"
