"""What a session knows of one target, and the steps by which it becomes another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lexiseg.pipelines.results import TargetResult
from lexiseg.session.deltas import Delta, Grid, squeeze, unsqueeze
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts

Place = tuple[str, int]
"""A plane: the name of its direction, and its index."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a phrase was answered with; what is here can be saved and read back.

    Attributes:
        phrase: as it was asked.
        preset: the name of what answered.
        shape: of the scan.
        squeezed: the mask, whatever its presence; see `squeeze`.
        presence, confidence: see `TargetResult`; NaN where undefined.
        known, read_as: see `TargetResult`.
        threshold: the preset's presence, below which the phrase is absent; None for none.
        prompts: what the segmenter was asked, by plane of acquisition; planes without any are left out.
    """

    phrase: str
    preset: str
    shape: tuple[int, ...]
    squeezed: str
    presence: float
    confidence: float
    known: bool = True
    read_as: str | None = None
    threshold: float | None = None
    prompts: Mapping[int, Prompts] = field(default_factory=dict)

    @classmethod
    def of(cls, result: TargetResult, *, preset: str, threshold: float | None) -> Self:
        """What is kept of a pipeline's answer."""
        return cls(
            phrase=result.phrase,
            preset=preset,
            shape=result.mask.shape,
            squeezed=squeeze(result.mask),
            presence=result.presence,
            confidence=result.confidence,
            known=result.known,
            read_as=result.read_as,
            threshold=threshold,
            prompts={index: each for index, each in enumerate(result.prompts) if not each.empty},
        )

    @classmethod
    def of_mask(
        cls,
        phrase: str,
        mask: BoolArray,
        *,
        preset: str,
        presence: float,
        confidence: float,
        known: bool,
        threshold: float | None = None,
    ) -> Self:
        """What an earlier run found, as its files say; its threshold, which is in the mask, says why one is empty."""
        least = None if mask.any() else threshold
        return cls(phrase, preset, mask.shape, squeeze(mask), presence, confidence, known, threshold=least)

    def mask(self) -> BoolArray:
        """The mask, bool of the scan's shape."""
        return unsqueeze(self.squeezed, self.shape)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a journal."""
        return {
            "phrase": self.phrase,
            "preset": self.preset,
            "shape": list(self.shape),
            "mask": self.squeezed,
            "presence": _number(self.presence),
            "confidence": _number(self.confidence),
            "known": self.known,
            "read_as": self.read_as,
            "threshold": self.threshold,
            "prompts": [[index, prompts_record(each)] for index, each in self.prompts.items()],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        return cls(
            phrase=str(record["phrase"]),
            preset=str(record["preset"]),
            shape=tuple(int(side) for side in record["shape"]),
            squeezed=str(record["mask"]),
            presence=_nan(record["presence"]),
            confidence=_nan(record["confidence"]),
            known=bool(record["known"]),
            read_as=record.get("read_as"),  # journals of before have none
            threshold=record["threshold"],
            prompts={int(index): prompts_of(each) for index, each in record["prompts"]},
        )


@dataclass(frozen=True, eq=False)
class Look:
    """How a target is called and shown; not a step that is undone.

    Attributes:
        name: the phrase, or what a person calls it; unique in its session.
        colour: "#rrggbb".
        visible: whether its mask is shown.
        locked: whether edits are refused.
    """

    name: str
    colour: str
    visible: bool = True
    locked: bool = False


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a target comes from; with the edits since it gives the mask.

    Attributes:
        found: what the text gave; None for a target that a person drew from nothing.
    """

    found: Found | None = None


@dataclass(frozen=True, eq=False)
class Edit:
    """A step: pixels of one target changed.

    Attributes:
        target: its id.
        kind: "click", "box", "paint", ...
        deltas: what changed.
        before, after: the prompts of each plane that were asked before and after, where they differ.
        cleared: the mask that was found was hidden by the threshold, and is left out from here on.
    """

    target: int
    kind: str
    deltas: tuple[Delta, ...]
    before: Mapping[Place, Prompts] = field(default_factory=dict)
    after: Mapping[Place, Prompts] = field(default_factory=dict)
    cleared: bool = False

    @property
    def places(self) -> list[Place]:
        """The planes that were drawn in: whose pixels changed, or in which something else is asked."""
        return list(dict.fromkeys([*((delta.axis, delta.plane) for delta in self.deltas), *self.before, *self.after]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a journal."""
        return {
            "op": "edit",
            "target": self.target,
            "kind": self.kind,
            "deltas": [delta.as_dict() for delta in self.deltas],
            "before": _places(self.before),
            "after": _places(self.after),
            "cleared": self.cleared,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        return cls(
            target=int(record["target"]),
            kind=str(record["kind"]),
            deltas=tuple(Delta.from_dict(each) for each in record["deltas"]),
            before=_placed(record["before"]),
            after=_placed(record["after"]),
            cleared=bool(record["cleared"]),
        )


@dataclass(frozen=True, eq=False)
class Replace:
    """A step: a target begins (again), or goes.

    Attributes:
        target: its id.
        after: where it comes from now; None where it goes.
    """

    target: int
    after: Origin | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a journal."""
        found = None if self.after is None or self.after.found is None else self.after.found.as_dict()
        return {"op": "replace", "target": self.target, "gone": self.after is None, "found": found}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        found = record["found"]
        after = None if record["gone"] else Origin(None if found is None else Found.from_dict(found))
        return cls(int(record["target"]), after)


class Target:
    """A named target of a session, as it is now.

    Attributes:
        id: unique in the session, from 1.
        look: how it is called and shown.
        origin: where it comes from.
        steps: how many edits it has; its presence hides only what has none.
        prompts: what was asked in planes, by the text or a person.
        asked: planes in which a person asked.
        result: the pipeline's answer with its maps, of this process; None after a reload.
    """

    def __init__(self, id: int, look: Look, origin: Origin) -> None:
        self.id, self.look, self.origin = id, look, origin
        self.steps = 0
        self.prompts: dict[Place, Prompts] = {}
        self.asked: dict[Place, int] = {}
        self.result: TargetResult | None = None
        self.grid: Grid | None = None

    @property
    def edited(self) -> bool:
        """Whether a person changed its pixels."""
        return self.steps > 0


def prompts_record(prompts: Prompts) -> dict[str, Any]:
    """Prompts as plain values."""
    return {
        "boxes": [[float(edge) for edge in box] for box in prompts.boxes],
        "points": [[float(value) for value in point] for point in prompts.points],
        "labels": [int(label) for label in prompts.labels],
    }


def prompts_of(record: Mapping[str, Any]) -> Prompts:
    """The inverse of `prompts_record`."""
    return Prompts(
        boxes=np.array(record["boxes"], np.float32).reshape(-1, 4),
        points=np.array(record["points"], np.float32).reshape(-1, 2),
        labels=np.array(record["labels"], np.int64).reshape(-1),
    )


def _places(prompts: Mapping[Place, Prompts]) -> list[list[Any]]:
    return [[axis, index, prompts_record(each)] for (axis, index), each in prompts.items()]


def _placed(record: list[list[Any]]) -> dict[Place, Prompts]:
    return {(str(axis), int(index)): prompts_of(each) for axis, index, each in record}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
