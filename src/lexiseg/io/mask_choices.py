"""Which values of a mask file are the target: all that is there, a number, or a colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.mask_levels import Kind, Levels
from lexiseg.values.arrays import BoolArray


class Colour(int):
    """A colour as it is chosen, 0xRRGGBB, told from a number."""


@dataclass(frozen=True, eq=False)
class Paint:
    """What colours the values of a picture stand for.

    Attributes:
        packed: the values are colours themselves, 0xRRGGBB.
        palette: int32 (256,), the colour 0xRRGGBB of each value; None of grey pictures, of volumes and of packed ones.
        shades: whether the values of `palette` are the brightness, or the alpha, of one colour.
    """

    packed: bool = False
    palette: NDArray[Any] | None = None
    shades: bool = False

    @property
    def known(self) -> bool:
        """Whether the file has colours at all."""
        return self.packed or self.palette is not None

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Colours 0xRRGGBB of values, of the same shape.

        Raises:
            UnreadableScan: the file is grey; the reason alone.
        """
        if self.palette is not None:
            return np.asarray(self.palette[values.astype(np.intp)])
        if not self.packed:
            raise UnreadableScan("it is grey; expected colours")
        return values


GREY = Paint()
"""No colours."""


class Side(StrEnum):
    """What is known of the masks that a file lies among."""

    maps = "maps"
    """They number targets, so a value that is not wanted is another target."""
    beside = "beside"
    """Each is plain, and those that they are compared with number targets."""
    masks = "masks"
    """Each is plain, and so are those that they are compared with."""
    own = "own"
    """Each is plain, and a table says what it is of, so one value alone is that."""


FULL = (255, 65535)
"""What masks of 8 and 16 bits hold inside. Nobody numbers a target so."""

TAKEN_WHOLE = "taken as a mask"
TAKEN_AS_ANOTHER = "taken as another target"
"""How the note of a file ends that holds one value alone, and not the wanted one."""
NOT_THERE = "is not among its"
"""What the note of a file among label maps holds that has no pixel of the wanted label."""

_LARGEST_NUMBER, _WHITE = 0xFFFF, 0xFFFFFF
# What JPEG may change of one channel of a colour that fills a patch.
_LOSSY_COLOUR = 32


@dataclass(frozen=True, eq=False)
class Decided:
    """A mask, and what was decided on the way.

    Attributes:
        mask: bool, the shape of the file's values.
        notes: in a few words each; none where there was nothing to decide.
    """

    mask: BoolArray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Held:
    """What a file holds.

    Attributes:
        values: real numbers (H, W) or (D, H, W).
        levels: of the values.
        paint: what colours they stand for.
        lossy: as for `look_at`.
        one_bit: whether the file cannot hold labels.
    """

    values: NDArray[Any]
    levels: Levels
    paint: Paint = GREY
    lossy: bool = False
    one_bit: bool = False

    def label(self, *, colours: bool) -> float | None:
        """The one label that a file shows, a number or a colour; None where it shows none or several.

        255, 65535, a white shade and what has one bit say that something is inside, and number nothing.
        """
        kind, top = self.levels.kind, self.levels.top
        if kind is Kind.several or top == 0 or self.one_bit:
            return None
        if colours and self.paint.palette is not None and (kind is Kind.plain or self.paint.shades):
            colour = int(self.paint.of(np.rint([top]))[0])
            return None if self.paint.shades and colour == _WHITE else colour
        return top if kind is Kind.plain and top not in FULL else None


def are_colours(labels: Iterable[int]) -> bool:
    """Whether any of the choices is a colour."""
    return any(isinstance(label, Colour) for label in labels)


def decide(held: Held, *, labels: Sequence[int] = (), side: Side = Side.maps) -> Decided:
    """The mask that a file holds.

    Args:
        held: what it holds.
        labels: values that are wanted of a label map; of a plain file of 0 and 255 they are passed over. Colours
            are compared with a picture's colours, and so is a number above 65535 where the picture has any.
        side: what is known of the masks that it lies among.

    Raises:
        UnreadableScan: there is a choice that nobody made, or a colour is wanted of a grey file; the reason alone.
    """
    if side is Side.own and held.levels.kind is not Kind.several:
        labels = ()
    of_colours = held.paint.known and any(label > _LARGEST_NUMBER for label in labels)
    if are_colours(labels) or of_colours:
        return _by_colour(held, labels, side)
    levels, packed = held.levels, held.paint.packed
    if levels.kind is Kind.soft:
        return _cut(held)
    wanted = _either(labels, packed)
    if levels.kind is Kind.plain:
        whole = np.ascontiguousarray(held.values != 0)
        if not labels or levels.top == 0 or levels.top in labels:
            return Decided(whole)
        told = _listed(levels.held, packed)
        if held.one_bit or levels.top in FULL:
            return Decided(whole, (f"it holds {told} alone: a mask, whatever its label",) if side is Side.maps else ())
        return _other_label(whole, f"label {wanted}", f"values {told}", told, side)
    if labels and not held.lossy:
        inside = np.ascontiguousarray(np.isin(held.values, list(labels)))
        told = f"label {wanted} of {_listed(levels.held, packed)}"
        if not inside.any():
            told = f"label {wanted} {NOT_THERE} values {_listed(levels.held, packed)}"
        return Decided(inside, (told,))
    raise UnreadableScan(_undecided(levels.held, packed, held.lossy))


def _cut(held: Held) -> Decided:
    cut, top = held.levels.cut, held.levels.top
    return Decided(np.ascontiguousarray(held.values >= cut), (f"soft edges cut at {cut:g}, half of {top:g}",))


def _other_label(whole: BoolArray, wanted: str, among: str, alone: str, side: Side) -> Decided:
    """A file of one label that is not the wanted one: empty, or a mask where nobody numbers targets."""
    if side is not Side.maps:
        own = (whole, TAKEN_WHOLE) if side is Side.masks else (whole & False, TAKEN_AS_ANOTHER)
        return Decided(own[0], (f"it holds {alone} alone, and not {wanted}: {own[1]}",))
    return Decided(whole & False, (f"{wanted} {NOT_THERE} {among}",))


def _by_colour(held: Held, labels: Sequence[int], side: Side) -> Decided:
    levels, paint = held.levels, held.paint
    wanted = f"label {_either(labels, colours=True)}"
    if not paint.known:
        return _of_grey(held, wanted, side)
    if paint.packed and held.lossy:
        raise UnreadableScan(_undecided(levels.held, paint.packed, held.lossy))
    soft = paint.shades and levels.kind is Kind.soft
    shown = np.unique(paint.of(np.rint([levels.top]) if soft else levels.held))
    inside = _is_any(shown if soft else paint.of(held.values), labels, held)
    told = _listed(shown, colours=True)
    if inside.any():
        if soft:
            return _cut(held)
        notes = () if levels.kind is Kind.plain else (f"{wanted} of {told}",)
        return Decided(np.ascontiguousarray(inside), notes)
    if not soft and levels.kind is not Kind.plain:
        return Decided(np.ascontiguousarray(inside), (f"{wanted} {NOT_THERE} colours {told}",))
    whole = _cut(held) if soft else Decided(np.ascontiguousarray(held.values != 0))
    if not whole.mask.any() or (side is not Side.maps and held.label(colours=True) is None):
        return whole
    return _other_label(whole.mask, wanted, f"colours {told}", told, side)


def _of_grey(held: Held, wanted: str, side: Side) -> Decided:
    """A file without colours of which a colour is wanted: a mask where it numbers nothing."""
    levels = held.levels
    numbers = levels.kind is Kind.several or held.label(colours=False) is not None
    if (levels.kind is Kind.plain and levels.top == 0) or (side is not Side.maps and not numbers):
        return decide(held)
    told = _listed(levels.held, colours=False)
    if side is Side.masks and levels.kind is Kind.plain:
        return _other_label(np.ascontiguousarray(held.values != 0), wanted, "", told, side)
    raise UnreadableScan(f"it is grey and holds {told}, and the {wanted} is a colour; choose one of its numbers")


def _is_any(colours: NDArray[Any], labels: Sequence[int], held: Held) -> BoolArray:
    """Which colours are one of the wanted ones, but for what compression changed."""
    if not held.lossy:
        return np.isin(colours, list(labels))
    found = np.zeros(colours.shape, np.bool_)
    for label in labels:
        apart = [np.abs((colours >> shift & 255) - (label >> shift & 255)) for shift in (16, 8, 0)]
        found |= np.maximum.reduce(apart) <= _LOSSY_COLOUR
    return found


def _undecided(held: NDArray[Any], colours: bool, lossy: bool) -> str:
    if not np.isfinite(held.astype(np.float64)).all():
        return "it holds values that are not finite; expected 0 and one other"
    what = f"it holds {held.size} {'colours' if colours else 'values'}, {_listed(held, colours)}"
    if lossy:
        return f"{what}, and lossy compression blurs labels; expected a mask of 0 and one other value, or PNG or NIfTI"
    example = named(held[-1], colours)
    return f"{what}, expected 0 and one other; choose with --label {example} or --label NAME={example}, or threshold it"


def _either(labels: Sequence[int], colours: bool) -> str:
    return " or ".join(named(label, colours) for label in labels)


def named(value: Any, colours: bool) -> str:
    """A value for people: a number, or a colour as #rrggbb."""
    return f"#{int(value):06x}" if colours else f"{float(value):g}"


def _listed(held: NDArray[Any], colours: bool) -> str:
    if held.size > 8:
        return f"{named(held[0], colours)} to {named(held[-1], colours)}"
    names = [named(value, colours) for value in held]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
