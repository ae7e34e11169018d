"""Which masks a verdict keeps: those that are shown, one of each phrase, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lexiseg.serve.problems import Refused

if TYPE_CHECKING:
    from lexiseg.session import Session
    from lexiseg.session.target import Target
    from lexiseg.values.arrays import BoolArray


def masks_to_keep(session: Session, phrases: Sequence[str]) -> dict[str, BoolArray]:
    """The mask of each phrase as it is shown, bool of the scan's shape.

    A target is a phrase's where it answers it, whatever it is called, and whichever preset answered; one that was
    drawn from nothing is of the phrase that it is called.

    Args:
        session: of the scan that is judged.
        phrases: of the scan.

    Raises:
        Refused: a phrase has no target, or several that are shown; its mask is hidden; or a target was edited that
            is of no phrase, or is another answer than the one that is shown.
    """
    taken = {phrase: _shown_of(session, phrase) for phrase in phrases}
    kept = {target.id for target in taken.values()}
    for target in session.all_targets():
        if target.edited and target.id not in kept:
            asked = ", ".join(map(repr, phrases))
            raise Refused(
                409, f"{target.look.name!r} was changed, but only the masks of {asked} are kept; remove it first"
            )
    return {phrase: session.mask(target.id) for phrase, target in taken.items()}


def _shown_of(session: Session, phrase: str) -> Target:
    own = [target for target in session.all_targets() if _phrase_of(target) == phrase]
    shown = [target for target in own if target.look.visible]
    if not own:
        raise Refused(409, f"there is no mask of {phrase!r} any more; undo its removal, or ask for it again")
    if not shown:
        raise Refused(409, f"the mask of {phrase!r} is hidden; show it before you give a verdict")
    if len(shown) > 1:
        names = ", ".join(repr(target.look.name) for target in shown)
        raise Refused(409, f"{names} are answers to the same phrase; remove or hide all but the one that is meant")
    target = shown[0]
    found = target.origin.found
    if found is not None and session.below(target.id) and found.mask().any():
        raise Refused(409, f"the threshold hides the mask of {phrase!r}; move it back before you give a verdict")
    return target


def _phrase_of(target: Target) -> str:
    found = target.origin.found
    return target.look.name if found is None else found.phrase
