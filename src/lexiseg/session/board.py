"""A session's targets as they are now, and every step by which they became that: undone, done again, replayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.io.pictures import COLOURS
from lexiseg.session.deltas import Grid
from lexiseg.session.target import Edit, Look, Origin, Place, Replace, Target
from lexiseg.session.views import Views
from lexiseg.text.phrases import check_phrase
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Scan, Volume

Record = Callable[[Mapping[str, Any]], None]
Step = Edit | Replace


class Board:
    """The targets of a scan, and their steps.

    Args:
        scan: an image or a volume.
        views: of it.
        threshold: the presence below which what was found is hidden, until another is set; None hides nothing.
        record: told every change as plain values before it happens; what it raises stops the change.
    """

    def __init__(self, scan: Scan, views: Views, *, threshold: float | None, record: Record | None) -> None:
        self.scan, self.views = scan, views
        self._record = record
        self._default = threshold
        self._threshold: float | None = None
        self._given = False
        self._targets: dict[int, Target] = {}
        self._looks: dict[int, Look] = {}
        self._made = 0
        self._past: list[tuple[Step, Target | None]] = []
        self._future: list[tuple[Step, Target | None]] = []
        self._offered: dict[tuple[int, Place], BoolArray] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order in which they came."""
        return tuple(target.look.name for target in self.all_targets())

    def all_targets(self) -> list[Target]:
        """The targets, in the order in which they came."""
        return [self._targets[number] for number in sorted(self._targets)]

    def target(self, name: str | int) -> Target:
        """The target of a name or an id.

        Raises:
            UsageError: there is none.
        """
        found = self._targets.get(name) if isinstance(name, int) else None
        for each in self._targets.values():
            found = each if each.look.name == name else found
        if found is None:
            known = ", ".join(self.targets) or "none yet"
            raise UsageError(f"there is no target {name!r}; expected one of {known}")
        return found

    def editable(self, name: str | int) -> None:
        """Pass where a target may be edited.

        Raises:
            UsageError: there is none, or it is locked.
        """
        self._unlocked(self.target(name))

    @property
    def threshold(self) -> float | None:
        """The presence below which what was found, and not edited since, is hidden; None hides nothing."""
        return self._threshold if self._given else self._default

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"threshold is {value}; expected 0 to 1")
        self._tell({"op": "threshold", "value": value})
        self._threshold, self._given = value, True

    def below(self, name: str | int) -> bool:
        """Whether a target's presence hides it."""
        target = self.target(name)
        found = target.origin.found
        if found is None or target.edited or math.isnan(found.presence):
            return False
        least = self._threshold if self._given else found.threshold
        return least is not None and found.presence < least

    def mask(self, name: str | int) -> BoolArray:
        """A target's mask, bool of the scan's shape; empty where its presence hides it."""
        target = self.target(name)
        if self.below(name):
            return np.zeros(self.scan.shape, np.bool_)
        return self._grid(target).voxels.reshape(self.scan.shape).copy()

    def present(self, name: str | int) -> bool:
        """Whether a target has any mask."""
        return self.count(name) > 0

    def count(self, name: str | int) -> int:
        """How many pixels or voxels a target's mask has."""
        return 0 if self.below(name) else self._grid(self.target(name)).total

    def volume(self, name: str | int) -> float | None:
        """A target's volume in mm3, see `Geometry.volume`; None of an image, and where the spacing is not known."""
        if not isinstance(self.scan, Volume):
            return None
        grid = self._grid(self.target(name))
        return self.scan.geometry.volume_of(grid.by_slice * (not self.below(name)))

    def filled(self, name: str | int, axis: str | None = None) -> list[int]:
        """Indices of the planes of an axis that hold any of a target's mask."""
        return [] if self.below(name) else self._grid(self.target(name)).filled(self.views.axis(axis))

    def plane_mask(self, name: str | int, plane: int, axis: str | None = None) -> BoolArray:
        """A target's mask in one plane, bool (h, w).

        Raises:
            UsageError: no such target, axis or plane.
        """
        target, place = self._at(name, plane, axis)
        view = self._grid(target).plane(*place)
        return np.zeros(view.shape, np.bool_) if self.below(name) else np.ascontiguousarray(view)

    def prompts(self, name: str | int, plane: int, axis: str | None = None) -> Prompts:
        """What is asked of the segmenter in one plane of a target."""
        target, place = self._at(name, plane, axis)
        return self._asked(target, place)

    def add(self, name: str) -> int:
        """Begin a target that nothing is drawn of; its id.

        Raises:
            BadPhrase: the name is empty or has no letter.
            UsageError: there is one of this name.
        """
        name = check_phrase(name)
        self._unused(name)
        return self._begin(None, name, Origin()).id

    def remove(self, name: str | int) -> None:
        """Take a target out."""
        target = self._unlocked(self.target(name))
        self._do(Replace(target.id, None))

    def change(
        self,
        name: str | int,
        *,
        rename: str | None = None,
        colour: str | None = None,
        visible: bool | None = None,
        locked: bool | None = None,
    ) -> None:
        """Call or show a target in another way; no step that is undone.

        Raises:
            BadPhrase: the new name is empty or has no letter.
            UsageError: there is one of this name.
        """
        target = self.target(name)
        wanted = target.look.name if rename is None else check_phrase(rename)
        if wanted != target.look.name:
            self._unused(wanted)
        look = Look(
            name=wanted,
            colour=target.look.colour if colour is None else colour,
            visible=target.look.visible if visible is None else visible,
            locked=target.look.locked if locked is None else locked,
        )
        self._look(target.id, look)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._future)

    def undo(self) -> bool:
        """Take the last change back; False where there is none.

        A target that comes back under a name that another one has by now gets a number behind it.

        Raises:
            UsageError: the target that it changes is locked.
        """
        return self._turn("undo")

    def redo(self) -> bool:
        """Do what was taken back again; False where there is nothing.

        Raises:
            UsageError: the target that it changes is locked.
        """
        return self._turn("redo")

    @property
    def last(self) -> Step | None:
        """The step that `undo` would take back."""
        return self._past[-1][0] if self._past else None

    @property
    def next(self) -> Step | None:
        """The step that `redo` would do."""
        return self._future[-1][0] if self._future else None

    @property
    def steps(self) -> list[Step]:
        """The steps that led here, the oldest first."""
        return [step for step, _ in self._past]

    def replay(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Do again what was told to `record`; nothing is told again, and no model is asked.

        Raises:
            ValueError: a record is none of a session of this scan.
        """
        record, self._record = self._record, None
        try:
            for each in records:
                self._redo_record(each)
        except (KeyError, TypeError, IndexError, UsageError) as error:
            raise ValueError(f"a step cannot be read ({type(error).__name__})") from error
        finally:
            self._record = record

    def _turn(self, op: str) -> bool:
        step = self.last if op == "undo" else self.next
        if step is None:
            return False
        if step.target in self._targets:
            self._unlocked(self._targets[step.target])
        self._tell({"op": op})
        self._move(op)
        return True

    def _move(self, op: str) -> None:
        undo = op == "undo"
        source, goal = (self._past, self._future) if undo else (self._future, self._past)
        step, coming = source.pop()
        if isinstance(step, Edit):
            (self._unapply if undo else self._apply)(step)
            goal.append((step, None))
        else:
            goal.append((step, self._exchange(step.target, coming)))

    def _exchange(self, id: int, coming: Target | None) -> Target | None:
        """Put a target of a step in its place, under a name that no other has; what was there."""
        going = self._targets.pop(id, None)
        if coming is not None:
            name, count = coming.look.name, 1
            while self._named(name) is not None:
                count += 1
                name = f"{coming.look.name} ({count})"
            self._targets[id] = coming
            self._set_look(id, replace(coming.look, name=name))
        return going

    def _begin(self, target: Target | None, name: str, origin: Origin) -> Target:
        if target is None:
            self._look(self._made + 1, Look(name, COLOURS[self._made % len(COLOURS)]))
            number = self._made
        else:
            number = target.id
        self._do(Replace(number, origin))
        return self._targets[number]

    def _look(self, id: int, look: Look) -> None:
        self._tell({"op": "look", "target": id, **vars(look)})
        self._set_look(id, look)

    def _set_look(self, id: int, look: Look) -> None:
        self._made = max(self._made, id)
        self._looks[id] = look
        for target in (self._targets.get(id), *(each for _, each in (*self._past, *self._future))):
            if target is not None and target.id == id:
                target.look = look

    def _do(self, step: Step) -> None:
        self._tell(step.as_dict())
        self._forward(step)

    def _forward(self, step: Step) -> None:
        if isinstance(step, Edit):
            self._apply(step)
            self._past.append((step, None))
        else:
            before = self._targets.pop(step.target, None)
            if step.after is not None:
                self._targets[step.target] = self._fresh(step.target, step.after)
            self._past.append((step, before))
        self._future.clear()

    def _fresh(self, id: int, origin: Origin) -> Target:
        target = Target(id, self._looks[id], origin)
        if origin.found is not None:
            acquired = self.views.axis(None)
            target.prompts = {(acquired, index): each for index, each in origin.found.prompts.items()}
        return target

    def _apply(self, step: Edit) -> None:
        target = self._targets[step.target]
        if step.cleared:
            target.grid = Grid(np.zeros(self.views.grid_shape, np.bool_), self.views.axes)
            target.prompts = {}
        grid = self._grid(target)
        for delta in step.deltas:
            grid.flip(delta)
        target.steps += 1
        for place, prompts in step.after.items():
            target.prompts[place] = prompts
            target.asked[place] = target.asked.get(place, 0) + 1
        self._offered.clear()

    def _unapply(self, step: Edit) -> None:
        target = self._targets[step.target]
        grid = self._grid(target)
        for delta in step.deltas:
            grid.flip(delta)
        for place, prompts in step.before.items():
            target.prompts[place] = prompts
            target.asked[place] = target.asked.get(place, 0) - 1
        target.steps -= 1
        if step.cleared:
            fresh = self._fresh(target.id, target.origin)
            target.grid, target.prompts = None, fresh.prompts
        self._offered.clear()

    def _redo_record(self, record: Mapping[str, Any]) -> None:
        op = record["op"]
        if op == "edit":
            self._forward(Edit.from_dict(record))
        elif op == "replace":
            self._forward(Replace.from_dict(record))
        elif op == "look":
            fields = {key: record[key] for key in ("name", "colour", "visible", "locked")}
            self._set_look(int(record["target"]), Look(**fields))
        elif op == "threshold":
            self.threshold = record["value"]
        elif op in ("undo", "redo"):
            # What was done once is done again, also where `undo` would refuse it by now.
            self._move(op)
        else:
            raise UsageError(f"there is no step {op!r}")

    def _tell(self, record: Mapping[str, Any]) -> None:
        if self._record is not None:
            self._record(record)

    def _grid(self, target: Target) -> Grid:
        if target.grid is None:
            found = target.origin.found
            empty = np.zeros(self.views.grid_shape, np.bool_)
            voxels = empty if found is None else found.mask().reshape(self.views.grid_shape)
            target.grid = Grid(voxels, self.views.axes)
        return target.grid

    def _asked(self, target: Target, place: Place) -> Prompts:
        return Prompts() if self.below(target.id) else target.prompts.get(place, Prompts())

    def _at(self, name: str | int, plane: int, axis: str | None) -> tuple[Target, Place]:
        target = self.target(name)
        return target, self.views.place(axis, plane)

    def _named(self, name: str) -> Target | None:
        return next((target for target in self._targets.values() if target.look.name == name), None)

    def _unused(self, name: str) -> None:
        if self._named(name) is not None:
            raise UsageError(f"there is a target {name!r} already; expected another name")

    def _unlocked(self, target: Target) -> Target:
        if target.look.locked:
            raise UsageError(f"the target {target.look.name!r} is locked; unlock it to change it")
        return target
