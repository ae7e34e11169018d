"""What a modality tells the registry about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.scans.scan import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Rendering:
    """A builder's result: `Phantom` without what the registry adds (id, modality, absent phrases)."""

    pixels: FloatArray
    structures: Mapping[str, BoolArray]
    attributes: Mapping[str, str]
    caption: str


@dataclass(frozen=True, eq=False)
class Modality:
    """A kind of phantom.

    Attributes:
        name: as in `generate(name, ...)`.
        build: draws one phantom.
        phrase: the usual target's phrase.
        options: attributes that a caller may fix, with the values allowed.
        findings: phrases that are absent from a scan unless they are among its structures.
        exclusive: phrases that no scan of another modality shows, save those that list them in `shows`.
        shows: phrases exclusive to other modalities that nevertheless are in every scan of this one.
        present: how often the finding is shown when the caller does not say.
    """

    name: str
    build: Callable[[Draw], Rendering]
    phrase: str
    options: Mapping[str, tuple[str, ...]]
    findings: tuple[str, ...]
    exclusive: tuple[str, ...]
    shows: frozenset[str] = field(default_factory=frozenset)
    present: float = 0.8
