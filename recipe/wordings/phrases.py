"""What a text tower learns from the wordings: every phrase with the target that it lands on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lexiseg.text.phrases import PhraseLibrary, default_library
from recipe.concepts import EVERYDAY, NORMAL, SYNONYMS, elsewhere, nonsense
from recipe.wordings import Frames, Target, Wording, bare_key, misspell

NOTHING = ""
"""The label of a phrase that names nothing that the image towers draw."""


@dataclass(frozen=True, kw_only=True)
class PhraseSettings:
    """How many phrases are made.

    Attributes:
        frames: of each plain wording of a known target, so many others with a frame; a third for other targets.
        denials: of each plain wording of a known target, so many denied ones.
        typos: of each wording of a known target, so many misspelt ones.
        drawn: nonsense phrases; half as many of organs elsewhere.
    """

    frames: int = 8
    denials: int = 8
    typos: int = 3
    drawn: int = 5000


@dataclass(frozen=True)
class Phrases:
    """What the projection learns from: phrases, and the target that each lands on (`NOTHING` for none)."""

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def add(self, text: str, label: str, *, without: frozenset[str]) -> None:
        """Append a phrase, unless its bare key is in `without`."""
        if bare_key(text) not in without:
            self.texts.append(text)
            self.labels.append(label)


def training_phrases(
    targets: Sequence[Target],
    others: Sequence[Wording],
    frames: Frames,
    *,
    settings: PhraseSettings,
    seed: int,
    library: PhraseLibrary | None = None,
) -> Phrases:
    """Every phrase that the projection sees, with the target that it lands on; nothing held out is among them.

    Args:
        targets: what can be asked for.
        others: phrases that name nothing in the scans.
        frames: what is put around plain wordings.
        settings: how many of each.
        seed: of every draw.
        library: whose templates are frames too, each around its own target's wordings; None for the package's.
    """
    rng, phrases = random.Random(f"{seed}-phrases"), Phrases()
    held_out = held_out_keys(targets, others)
    library = default_library() if library is None else library
    templates = {target.name: target.templates for target in library.targets}

    def say(text: str, label: str, *, framed: bool, known: bool, own: Sequence[str]) -> None:
        phrases.add(text, label, without=held_out)
        for _ in range(settings.typos if known else 1):
            phrases.add(misspell(text, rng), label, without=held_out)
        if not framed:
            return
        for frame in rng.sample(frames.plain, settings.frames if known else max(1, settings.frames // 3)):
            framed_text = frame.format(text)
            phrases.add(misspell(framed_text, rng) if rng.random() < 0.1 else framed_text, label, without=held_out)
        for template in (*own, *library.templates):
            phrases.add(template.format(text), label, without=held_out)

    def deny(text: str, count: int) -> None:
        for frame in rng.sample(frames.negative, count):
            phrases.add(frame.format(text), NOTHING, without=held_out)

    for target in targets:
        own = templates.get(target.lands, ())
        for wording in target.wordings:
            if wording.held_out:
                continue
            label = target.lands if wording.kind == "target" else NOTHING
            say(wording.text, label, framed=wording.framed, known=bool(target.lands), own=own)
            if wording.kind == "target" and wording.framed:
                deny(wording.text, settings.denials if label else 1)
    for concept, synonyms in SYNONYMS.items():
        for text in synonyms:
            if bare_key(text) not in held_out:
                say(text, concept, framed=True, known=True, own=templates.get(concept, ()))
                deny(text, settings.denials)
    for wording in others:
        if not wording.held_out and wording.kind != "foreign":
            say(wording.text, NOTHING, framed=wording.framed, known=False, own=())
    for text in (*NORMAL, *EVERYDAY):
        say(text, NOTHING, framed=True, known=False, own=())
    for draw, count in ((nonsense, settings.drawn), (elsewhere, settings.drawn // 2)):
        for _ in range(count):
            phrases.add(rng.choice(frames.plain).format(draw(rng)), NOTHING, without=held_out)
    return phrases


def held_out_keys(targets: Iterable[Target], others: Iterable[Wording]) -> frozenset[str]:
    """Bare keys of all wordings that no training may see."""
    wordings = [w for target in targets for w in target.wordings] + list(others)
    return frozenset(bare_key(w.text) for w in wordings if w.held_out) - {bare_key(t.name) for t in targets}
