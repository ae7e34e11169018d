"""Ways to ask, as data: one YAML file a target, and files of what is none.

A target's file:

- ``target``: its name; ``sets``: the sets that show it; ``known: true`` where the bundled image towers draw it;
  ``lands_on``: the known target that stands for it as long as they do not.
- ``families``: lists of wordings that are alike.  ``held_out: true`` keeps a whole family from all training.
  ``framed: false`` says that its wordings are sentences or codes, which no frame is put around.
- ``negations``: wordings that deny the target; ``others``: what the same scans hold besides it.

``frames.yaml`` holds what may be put around a wording, ``nonsense.yaml`` and ``elsewhere.yaml`` phrases that name
nothing in the scans, ``findings.yaml`` findings that, put to an organ, are something else than its target.  Of
each family that is not held out a fifth of the wordings is, by hash (`held_out_word`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from lexiseg.text.phrases import phrase_key

FOLDER = Path(__file__).parent
FRAMES = "frames.yaml"
_OWN_FIELDS = {"target", "sets", "known", "lands_on", "families", "negations", "others"}
_KINDS = {"families": "target", "negations": "negation", "others": "other"}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One way to say something.

    Attributes:
        text: as a person types it.
        kind: "target", "negation" (of the target), "other" (in the target's scans, and not the target),
            "nonsense", "foreign", "elsewhere" or "finding" (in an organ of a known target's scans).
        target: the target that it names, denies or lies beside; "" for none.
        family: name of the family inside the file.
        held_out: "" where training may see it; else "family" or "wording", by which of the two it is held out.
        framed: True where a frame may be put around it.
    """

    text: str
    kind: str
    target: str = ""
    family: str = ""
    held_out: str = ""
    framed: bool = True


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target's file.

    Attributes:
        name: the target.
        sets: the sets that show it.
        known: True where the bundled image towers draw it.
        lands_on: another target that stands for it; "" for none.
        wordings: what names it, denies it and lies beside it.
    """

    name: str
    sets: tuple[str, ...]
    known: bool = False
    lands_on: str = ""
    wordings: tuple[Wording, ...] = ()

    @property
    def lands(self) -> str:
        """The known target whose place in the encoder's space the wordings take; "" for nothing's."""
        return self.name if self.known else self.lands_on


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What is put around wordings, each with one ``{}``.

    Attributes:
        plain: say no more than the wording; `plain_held_out`: kept from training.
        negative: deny the wording; `negative_held_out`: kept from training.
    """

    plain: tuple[str, ...]
    plain_held_out: tuple[str, ...]
    negative: tuple[str, ...]
    negative_held_out: tuple[str, ...]


def bare_key(text: str) -> str:
    """A phrase's key without its articles: two phrases with one bare key are as good as the same."""
    return " ".join(word for word in phrase_key(text).split() if word not in ("a", "an", "the"))


def held_out_word(text: str) -> bool:
    """True for a fifth of all wordings, by the hash of their key: stable, whatever else is in the file."""
    return sha256(phrase_key(text).encode()).digest()[0] < 51


def load_targets(folder: Path = FOLDER) -> tuple[Target, ...]:
    """Every target's file, in alphabetical order.

    Raises:
        ValueError: an unknown field, or ``lands_on`` names a target that is not known.
    """
    targets = []
    for file in sorted(folder.glob("*.yaml")):
        fields = _read(file)
        if "target" not in fields:
            continue
        if unknown := set(fields) - _OWN_FIELDS:
            raise ValueError(f"{file.name} has unknown fields {sorted(unknown)}; expected {sorted(_OWN_FIELDS)}")
        name, known = fields["target"], fields.get("known", False)
        wordings = [
            wording
            for field, kind in _KINDS.items()
            for family in fields.get(field, ())
            for wording in _wordings(family, kind, name)
        ]
        targets.append(
            Target(
                name=name,
                sets=tuple(fields["sets"]),
                known=known,
                lands_on=fields.get("lands_on", ""),
                wordings=_name_is_taught(wordings, name),
            )
        )
    names = {target.name for target in targets if target.known}
    for target in targets:
        if target.lands_on and target.lands_on not in names:
            raise ValueError(f"{target.name}: lands_on is {target.lands_on!r}; expected one of {sorted(names)}")
    return tuple(targets)


def load_others(folder: Path = FOLDER) -> tuple[Wording, ...]:
    """Phrases that name no target: nonsense, foreign ones, organs and findings of other scans, other findings."""
    found: list[Wording] = []
    for name in ("nonsense", "elsewhere"):
        fields = _read(folder / f"{name}.yaml")
        found += [w for family in fields["families"] for w in _wordings(family, name, "")]
        found += [w for family in fields.get("foreign", ()) for w in _wordings(family, "foreign", "")]
    fields = _read(folder / "findings.yaml")
    for family in fields["findings"]:
        for organ in fields["organs"]:
            combined = {**family, "wordings": [f"{organ} {finding}" for finding in family["wordings"]]}
            found += _wordings(combined, "finding", "")
    return tuple(found)


def load_frames(folder: Path = FOLDER) -> Frames:
    """The frames.

    Raises:
        ValueError: a frame without exactly one ``{}``.
    """
    fields = _read(folder / FRAMES)
    found = {}
    for name, key in (("plain", "frames"), ("negative", "negative_frames")):
        for held_out in (False, True):
            families = (f for f in fields[key] if f.get("held_out", False) == held_out)
            frames = tuple(frame for family in families for frame in family["frames"])
            if wrong := [frame for frame in frames if frame.count("{}") != 1]:
                raise ValueError(f"{FRAMES}: {wrong} need exactly one {{}} each")
            found[name + "_held_out" * held_out] = frames
    return Frames(**found)


def misspell(text: str, rng: random.Random) -> str:
    """The phrase with one slip of the finger in one of its longer words; short words stay."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    word, at = words[place], rng.randrange(1, len(words[place]) - 1)
    slips = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + rng.choice("aeioulnrst") + word[at + 1 :],
    )
    words[place] = rng.choice(slips)
    return " ".join(words)


def _wordings(family: dict[str, Any], kind: str, target: str) -> Iterator[Wording]:
    whole = family.get("held_out", False)
    for text in family["wordings"]:
        held_out = "family" if whole else "wording" if held_out_word(text) else ""
        yield Wording(
            text=text,
            kind=kind,
            target=target,
            family=family["family"],
            held_out=held_out,
            framed=family.get("framed", True),
        )


def _name_is_taught(wordings: list[Wording], name: str) -> tuple[Wording, ...]:
    """A target's own name is never held out."""
    own = Wording(text=name, kind="target", target=name, family="names")
    return (own, *(w for w in wordings if not (w.kind == "target" and phrase_key(w.text) == phrase_key(name))))


def _read(file: Path) -> dict[str, Any]:
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(fields, dict):
        raise ValueError(f"{file.name} holds {type(fields).__name__}; expected named fields")
    return fields
