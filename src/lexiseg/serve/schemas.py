"""What requests bring, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from lexiseg.serve.settings import Limits

Phrase = Annotated[str, Field(min_length=1, max_length=Limits().phrase, examples=["breast tumor"])]
Colour = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$", examples=["#e69f00"])]
Point = tuple[FiniteFloat, FiniteFloat]


class Strict(BaseModel):
    """A request that has its fields and no others."""

    model_config = ConfigDict(extra="forbid")


class PhantomRequest(Strict):
    """A shipped phantom to open."""

    phantom: Annotated[str, Field(max_length=100, examples=["breast-ultrasound"])]


class AskRequest(Strict):
    """A phrase to look for."""

    phrase: Phrase
    preset: Annotated[str | None, Field(max_length=200, examples=["demo"])] = None


class TargetRequest(Strict):
    """A target that nothing is drawn of yet."""

    name: Phrase


class LookRequest(Strict):
    """How a target is called and shown."""

    name: Phrase | None = None
    colour: Colour | None = None
    visible: bool | None = None
    locked: bool | None = None


class ThresholdRequest(Strict):
    """The presence below which what was found is hidden."""

    value: Annotated[float | None, Field(ge=0, le=1, examples=[0.3])]


class Edit(Strict):
    """What every edit says: where."""

    axis: Annotated[str | None, Field(max_length=20, description="the scan's acquired axis when null")] = None
    plane: Annotated[int, Field(ge=0, examples=[0])] = 0


class Click(Edit):
    """A point, in pixels of the plane; a pixel's centre lies at +0.5."""

    kind: Literal["click"]
    x: FiniteFloat
    y: FiniteFloat
    inside: bool = True


class BoxEdit(Edit):
    """A box x0 y0 x1 y1, end-exclusive, in pixels of the plane."""

    kind: Literal["box"]
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class Scribble(Edit):
    """A line, of which some points are asked."""

    kind: Literal["scribble"]
    points: Annotated[list[Point], Field(min_length=1, max_length=10_000)]
    inside: bool = True


class Paint(Edit):
    """A brush's stroke; no model is asked."""

    kind: Literal["paint"]
    points: Annotated[list[Point], Field(min_length=1, max_length=10_000)]
    radius: Annotated[FiniteFloat, Field(ge=0, le=1000)]
    erase: bool = False


class Fill(Edit):
    """Fill the holes of the plane's mask."""

    kind: Literal["fill"]


class Keep(Edit):
    """Keep the piece under a point alone."""

    kind: Literal["keep"]
    x: FiniteFloat
    y: FiniteFloat


class Choose(Edit):
    """Take one of the candidates."""

    kind: Literal["choose"]
    candidate: Annotated[int, Field(ge=0, le=2)]


class Clear(Edit):
    """Empty the plane's mask."""

    kind: Literal["clear"]


class Propagate(Edit):
    """Carry the plane's mask to its neighbours: a job, whose result is what the other edits reply."""

    kind: Literal["propagate"]


EditRequest = Annotated[
    Click | BoxEdit | Scribble | Paint | Fill | Keep | Choose | Clear | Propagate, Field(discriminator="kind")
]
"""One of the edits, by its kind."""
