"""A scan that is being segmented by a person with a pipeline's help.

A page or a server calls this and holds no logic of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.io.write import write_map, write_mask
from lexiseg.pipelines.base import Progress, StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.propagation import propagate
from lexiseg.pipelines.results import TargetResult
from lexiseg.session import drawing
from lexiseg.session.deltas import Delta, Grid
from lexiseg.session.later import Later
from lexiseg.session.target import COLOURS, Edit, Found, Look, Origin, Place, Replace
from lexiseg.session.views import Views
from lexiseg.text.phrases import check_phrase
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Image, Plane, Scan

Box = tuple[float, float, float, float]
Record = Callable[[Mapping[str, Any]], None]
Step = Edit | Replace


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


class Session:
    """A scan that is being segmented by a person with a pipeline's help.

    The pipeline may be shared by many sessions; a session is used by one thread at a time. Every change of pixels can
    be undone. Planes are encoded once, so a click costs a decode. An image has the one axis "image"; a volume has
    "axial", "coronal" and "sagittal"; a stack in time has "frames". Where no axis is named, it is the one of acquisition.

    Args:
        pipeline: from `lexiseg.pipelines.loading.load`, or one that is loaded later.
        scan: an image or a volume.
        encodings: where encodings are kept, shared with other sessions or this one's own.
        record: told every change as plain values before it happens; what it raises stops the change. See `replay`.

    Example:
        >>> session = lexiseg.load("demo").session("scan.png")
        >>> session.ask("breast tumor").present
        True
        >>> before = session.mask("breast tumor").sum()
        >>> _ = session.click("breast tumor", 0, 20.5, 20.5)
        >>> session.undo(), bool(session.mask("breast tumor").sum() == before)
        (True, True)
    """

    def __init__(
        self,
        pipeline: TextPipeline | Later,
        scan: Scan,
        *,
        encodings: EncodingCache | None = None,
        record: Record | None = None,
    ) -> None:
        self.pipeline, self.scan = pipeline, scan
        self.views = Views(scan, pipeline.planes(scan))
        self.planes = self.views.planes()
        self._encodings = encodings if encodings is not None else EncodingCache()
        self._record = record
        self._open: dict[int, TextPipeline] = {}
        self._threshold: float | None = None
        self._given = False
        self._targets: dict[int, Target] = {}
        self._looks: dict[int, Look] = {}
        self._made = 0
        self._past: list[tuple[Step, Target | None]] = []
        self._future: list[tuple[Step, Target | None]] = []
        self._offered: dict[tuple[int, Place], BoolArray] = {}
        self._evidence: dict[tuple[int, Place, str], tuple[FloatArray, BoolArray] | None] = {}

    # What there is.

    @property
    def real_pipeline(self) -> TextPipeline | None:
        """The session's pipeline; None where it was not loaded yet."""
        if isinstance(self.pipeline, Later):
            return self.pipeline.real() if self.pipeline.ready else None
        return self.pipeline

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order in which they came."""
        return tuple(target.look.name for target in self.all_targets())

    def all_targets(self) -> list[Target]:
        """The targets, in the order in which they came."""
        return [self._targets[id] for id in sorted(self._targets)]

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
        return self._threshold if self._given else self.pipeline.threshold

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

    def evidence(
        self, name: str | int, plane: int, *, axis: str | None = None, pipeline: TextPipeline | Later | None = None
    ) -> tuple[FloatArray, BoolArray] | None:
        """Where a target's phrase is in a plane as the encoder sees it, and the region that is made of that.

        Kept from the answer where there is one plane; asked anew otherwise, and kept for the plane asked last.

        Args:
            name: the target.
            plane: its index.
            axis: of the plane.
            pipeline: that answered the phrase, where it is not the session's.

        Returns:
            float32 (h, w) in [0, 1] and bool (h, w); None for a target without a phrase, or a pipeline without a map.
        """
        target, place = self._at(name, plane, axis)
        found = target.origin.found
        if found is None:
            return None
        if target.result is not None and target.result.saliency and target.result.region:
            return target.result.saliency[0].map, target.result.region[0].mask
        key = target.id, place, found.phrase
        if key not in self._evidence:
            asking = self._asking(pipeline or self.pipeline)
            segmenter = CachedSegmenter(asking.segmenter, self._encodings)
            item = asking.segment_plane(self.views.plane(*place), (found.phrase,), segmenter, StageTimer()).items[0]
            map, region = item.saliency, item.region
            self._evidence = {key: None if map is None or region is None else (map.map, region.mask)}
        return self._evidence[key]

    # What a person does.

    def ask(
        self, phrase: str, *, pipeline: TextPipeline | Later | None = None, progress: Progress | None = None
    ) -> TargetResult:
        """Segment by words, in the whole scan; what was drawn before for the same phrase is replaced.

        Args:
            phrase: what to look for.
            pipeline: another than the session's; its answer is a target of its own, with the preset in its name.
            progress: called with the share done; what it raises stops the work, and nothing is changed.

        Returns:
            What was found; its presence is told whatever the session's threshold is.

        Raises:
            BadPhrase: the phrase is empty or has no letter.
            UsageError: its target is locked.
        """
        found = self.find(phrase, pipeline=pipeline, progress=progress)
        self.place(found, pipeline=pipeline)
        return found

    def find(
        self, phrase: str, *, pipeline: TextPipeline | Later | None = None, progress: Progress | None = None
    ) -> TargetResult:
        """What `ask` finds; nothing is changed, so another thread may use the session meanwhile.

        Raises:
            BadPhrase: the phrase is empty or has no letter.
            UsageError: its target is locked.
        """
        words = check_phrase(phrase)
        chosen = pipeline or self.pipeline
        target = self._named(self._name_of(words, chosen))
        if target is not None:
            self._unlocked(target)
        keep = isinstance(self.scan, Image)
        asking = self._asking(chosen)
        return asking(self.scan, words, encodings=self._encodings, keep_stages=keep, progress=progress).targets[0]

    def place(self, result: TargetResult, *, pipeline: TextPipeline | Later | None = None) -> int:
        """Take what `find` found as a target; its id.

        Raises:
            UsageError: its target is locked.
        """
        chosen = pipeline or self.pipeline
        name = self._name_of(result.phrase, chosen)
        target = self._named(name)
        if target is not None:
            self._unlocked(target)
        found = Found.of(result, preset=chosen.preset.name, threshold=chosen.threshold)
        made = self._begin(target, name, Origin(found))
        made.result = result
        return made.id

    def take(self, found: Found) -> int:
        """Take what was found elsewhere, by an earlier run say, as a target named by its phrase; its id.

        Raises:
            UsageError: its mask is not of the scan's shape, or its target is locked.
        """
        if found.shape != self.scan.shape:
            raise UsageError(f"the mask has shape {found.shape}, expected the scan's {self.scan.shape}")
        target = self._named(found.phrase)
        if target is not None:
            self._unlocked(target)
        return self._begin(target, found.phrase, Origin(found)).id

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

    def click(
        self, name: str | int, plane: int, x: float, y: float, *, inside: bool = True, axis: str | None = None
    ) -> BoolArray:
        """Add a point, in pixels of the plane (a pixel's centre lies at +0.5), and with it the piece that it asks for.

        A point inside only adds, one outside only takes away; see `lexiseg.session.drawing.correct`.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or a point outside it.
        """
        return self._point(name, plane, axis, np.array([[x, y]], np.float32), inside=inside, kind="click")

    def scribble(
        self, name: str | int, plane: int, points: FloatArray, *, inside: bool = True, axis: str | None = None
    ) -> BoolArray:
        """Add some points along a line through `points` (n, 2) as one step; see `click`.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: see `click`.
        """
        line = self._line(points)
        return self._point(name, plane, axis, drawing.sampled(line), inside=inside, kind="scribble")

    def box(self, name: str | int, plane: int, box: Box, *, axis: str | None = None) -> BoolArray:
        """Add a box x0 y0 x1 y1, end-exclusive, in pixels of the plane, and with it what the segmenter outlines there.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or no box within it.
        """
        target, place = self._at(name, plane, axis)
        height, width = self.views.shape(place[0])
        x0, y0, x1, y1 = (float(edge) for edge in box)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UsageError(f"the box {box} does not lie in the plane of {width} x {height} pixels")
        before = self._asked(target, place)
        boxes = np.concatenate([before.boxes, np.array([[x0, y0, x1, y1]], np.float32)])
        return self._draw(target, place, replace(before, boxes=boxes), np.zeros((0, 2), np.float32), kind="box")

    def paint(
        self, name: str | int, plane: int, region: BoolArray, *, erase: bool = False, axis: str | None = None
    ) -> BoolArray:
        """Add pixels to a plane's mask, or take them away; no model is asked.

        Args:
            name: the target.
            plane: its index.
            region: bool (h, w), of the plane.
            erase: take them away.
            axis: of the plane.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or a region of another shape.
        """
        target, place = self._at(name, plane, axis)
        current = self.plane_mask(name, plane, axis)
        if region.shape != current.shape:
            raise UsageError(f"the region has shape {region.shape}, expected the plane's {current.shape}")
        return self._put(target, place, current & ~region if erase else current | region, "erase" if erase else "paint")

    def stroke(
        self,
        name: str | int,
        plane: int,
        points: FloatArray,
        radius: float,
        *,
        erase: bool = False,
        axis: str | None = None,
    ) -> BoolArray:
        """Paint along a line through `points` (n, 2) with a brush of a radius in pixels; see `paint`."""
        _, place = self._at(name, plane, axis)
        if not 0 <= radius <= 1000:
            raise UsageError(f"the brush's radius is {radius:g}; expected 0 to 1000 pixels")
        region = drawing.disc(self.views.shape(place[0]), self._line(points), radius)
        return self.paint(name, plane, region, erase=erase, axis=axis)

    def fill(self, name: str | int, plane: int, *, axis: str | None = None) -> BoolArray:
        """Fill the holes of a plane's mask."""
        target, place = self._at(name, plane, axis)
        return self._put(target, place, drawing.filled(self.plane_mask(name, plane, axis)), "fill")

    def keep(self, name: str | int, plane: int, x: float, y: float, *, axis: str | None = None) -> BoolArray:
        """Keep the piece of a plane's mask under a point, and no other.

        Raises:
            UsageError: there is none.
        """
        target, place = self._at(name, plane, axis)
        self._inside_plane(np.array([[x, y]]), place)
        piece = drawing.piece_at(self.plane_mask(name, plane, axis), x, y)
        if not piece.any():
            raise UsageError(f"there is no mask at ({x:g}, {y:g}); point at the piece that is to stay")
        return self._put(target, place, piece, "keep")

    def clear(self, name: str | int, plane: int, *, axis: str | None = None) -> BoolArray:
        """Empty a plane's mask, and forget what was asked there."""
        target, place = self._at(name, plane, axis)
        empty = np.zeros(self.views.shape(place[0]), np.bool_)
        return self._put(target, place, empty, "clear", prompts=Prompts())

    def put(self, name: str | int, masks: Mapping[int, BoolArray], *, axis: str | None = None, kind: str) -> None:
        """Set the masks of several planes of an axis as one step, as a propagation does.

        Args:
            name: the target.
            masks: index -> bool (h, w).
            axis: of the planes.
            kind: of the step.
        """
        target = self._unlocked(self.target(name))
        deltas = []
        for index, mask in masks.items():
            _, place = self._at(name, index, axis)
            delta = Delta.between(*place, self.plane_mask(name, index, axis), mask)
            deltas += [] if delta is None else [delta]
        self._do(Edit(target.id, kind, tuple(deltas), cleared=self.below(name)))

    def carry(self, name: str | int, plane: int, *, axis: str | None = None) -> dict[int, BoolArray]:
        """The mask of a plane carried to its neighbours by the segmenter, as far as it does not lose it.

        Nothing is changed, so another thread may use the session meanwhile; `put` takes the masks.

        Returns:
            Index -> bool (h, w), of the planes that it reached, without the first.

        Raises:
            UsageError: no such target or plane, or there is no mask in it.
        """
        _, place = self._at(name, plane, axis)
        mask = self.plane_mask(name, plane, axis)
        if not mask.any():
            raise UsageError(f"there is no mask in plane {plane}; draw one before it is carried to its neighbours")
        return propagate(self.pipeline.segmenter, self.views.planes(place[0]), plane, mask, encodings=self._encodings)

    def propagate(self, name: str | int, plane: int, *, axis: str | None = None) -> list[int]:
        """Carry the mask of a plane to its neighbours, as one step; the planes that it reached.

        Raises:
            UsageError: see `carry`; or the target is locked.
        """
        self._unlocked(self.target(name))
        masks = self.carry(name, plane, axis=axis)
        self.put(name, masks, axis=axis, kind="propagate")
        return sorted(masks)

    def candidates(self, name: str | int, plane: int, *, axis: str | None = None) -> BoolArray:
        """What the plane's mask may be instead, bool (n, h, w), best rated first; n is 3, or 0 where nobody asked."""
        target, place = self._at(name, plane, axis)
        if not target.asked.get(place):
            return np.zeros((0, *self.views.shape(place[0])), np.bool_)
        key = target.id, place
        if key not in self._offered:
            self._offered = {key: self._offer(target, place)}
        return self._offered[key]

    def choose(self, name: str | int, plane: int, candidate: int, *, axis: str | None = None) -> BoolArray:
        """Take one of a plane's candidates as its mask.

        Raises:
            UsageError: there is no such candidate.
        """
        offered = self.candidates(name, plane, axis=axis)
        if not 0 <= candidate < len(offered):
            raise UsageError(f"there is no candidate {candidate}; expected one of {len(offered)}, counted from 0")
        target, place = self._at(name, plane, axis)
        mask = self._put(target, place, offered[candidate], "choose")
        self._offered = {(target.id, place): offered}
        return mask

    # Undo, redo, replay.

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._future)

    def undo(self) -> bool:
        """Take the last change back; False where there is none."""
        if not self._past:
            return False
        self._tell({"op": "undo"})
        step, before = self._past.pop()
        if isinstance(step, Edit):
            self._unapply(step)
            self._future.append((step, None))
        else:
            self._future.append((step, self._targets.pop(step.target, None)))
            if before is not None:
                self._targets[step.target] = before
        return True

    def redo(self) -> bool:
        """Do what was taken back again; False where there is nothing."""
        if not self._future:
            return False
        self._tell({"op": "redo"})
        step, after = self._future.pop()
        if isinstance(step, Edit):
            self._apply(step)
            self._past.append((step, None))
        else:
            self._past.append((step, self._targets.pop(step.target, None)))
            if after is not None:
                self._targets[step.target] = after
        return True

    @property
    def last(self) -> Step | None:
        """The step that `undo` would take back."""
        return self._past[-1][0] if self._past else None

    @property
    def next(self) -> Step | None:
        """The step that `redo` would do."""
        return self._future[-1][0] if self._future else None

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

    def save(self, folder: str | Path) -> list[Path]:
        """Write each target's mask as SCAN_SLUG_mask.png (or .nii.gz), and probabilities that are known.

        Returns:
            The masks' paths, in the order of the targets.

        Raises:
            UnwritableResult: the file system refused.
        """
        from lexiseg.io.names import safe_id, slugs

        written = []
        for target, slug in zip(self.all_targets(), slugs(list(self.targets)), strict=True):
            stem = f"{safe_id(self.scan.id)}_{slug}"
            written.append(write_mask(self.mask(target.id), self.scan, folder, stem=stem))
            probability = None if target.result is None else target.result.probability
            if probability is not None:
                write_map(probability, self.scan, folder, stem=stem, kind="probability")
        return written

    # Steps.

    def _begin(self, target: Target | None, name: str, origin: Origin) -> Target:
        if target is None:
            self._look(self._made + 1, Look(name, COLOURS[self._made % len(COLOURS)]))
            id = self._made
        else:
            id = target.id
        self._do(Replace(id, origin))
        return self._targets[id]

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
            done = self.undo() if op == "undo" else self.redo()
            if not done:
                raise UsageError(f"there is nothing to {op}")
        else:
            raise UsageError(f"there is no step {op!r}")

    def _tell(self, record: Mapping[str, Any]) -> None:
        if self._record is not None:
            self._record(record)

    # Drawing.

    def _point(
        self, name: str | int, plane: int, axis: str | None, points: FloatArray, *, inside: bool, kind: str
    ) -> BoolArray:
        target, place = self._at(name, plane, axis)
        self._inside_plane(points, place)
        before = self._asked(target, place)
        prompts = Prompts(
            boxes=before.boxes,
            points=np.concatenate([before.points, points]),
            labels=np.concatenate([before.labels, np.full(len(points), int(inside), np.int64)]),
        )
        return self._draw(target, place, prompts, points, inside=inside, kind=kind)

    def _draw(
        self, target: Target, place: Place, prompts: Prompts, points: FloatArray, *, inside: bool = True, kind: str
    ) -> BoolArray:
        self._unlocked(target)
        shown: Plane = self.views.plane(*place)
        segmenter = CachedSegmenter(self.pipeline.segmenter, self._encodings)
        current = self.plane_mask(target.id, place[1], place[0])
        if len(points):
            mask = drawing.correct(segmenter, shown.pixels, current, prompts, points, inside=inside)
        else:
            mask = current | drawing.draw_prompts(segmenter, shown.pixels, prompts)
        return self._put(target, place, mask, kind, prompts=prompts)

    def _offer(self, target: Target, place: Place) -> BoolArray:
        """The mask as it is, with what the segmenter drew last replaced by each of its candidates."""
        segmenter = CachedSegmenter(self.pipeline.segmenter, self._encodings)
        pixels, prompts = self.views.plane(*place).pixels, self._asked(target, place)
        drawn = drawing.draw_prompts(segmenter, pixels, prompts)
        current = self.plane_mask(target.id, place[1], place[0])
        offered = drawing.draw_candidates(segmenter, pixels, prompts)
        found: BoolArray = (current & ~drawn) | offered
        return found

    def _put(
        self, target: Target, place: Place, mask: BoolArray, kind: str, *, prompts: Prompts | None = None
    ) -> BoolArray:
        self._unlocked(target)
        delta = Delta.between(*place, self.plane_mask(target.id, place[1], place[0]), mask)
        before = {} if prompts is None else {place: self._asked(target, place)}
        after = {} if prompts is None else {place: prompts}
        deltas = () if delta is None else (delta,)
        self._do(Edit(target.id, kind, deltas, before, after, cleared=self.below(target.id)))
        return mask

    # Looking things up.

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

    def _name_of(self, phrase: str, pipeline: TextPipeline | Later) -> str:
        """A target's name; another preset's than the session's is in it."""
        other = pipeline.preset.name != self.pipeline.preset.name
        return f"{phrase} ({pipeline.preset.name})" if other else phrase

    def _named(self, name: str) -> Target | None:
        return next((target for target in self._targets.values() if target.look.name == name), None)

    def _unused(self, name: str) -> None:
        if self._named(name) is not None:
            raise UsageError(f"there is a target {name!r} already; expected another name")

    def _unlocked(self, target: Target) -> Target:
        if target.look.locked:
            raise UsageError(f"the target {target.look.name!r} is locked; unlock it to change it")
        return target

    def _inside_plane(self, points: FloatArray, place: Place) -> None:
        height, width = self.views.shape(place[0])
        for x, y in points:
            if not (0 <= x < width and 0 <= y < height):
                raise UsageError(f"the point ({x:g}, {y:g}) lies outside the plane of {width} x {height} pixels")

    def _line(self, points: FloatArray) -> FloatArray:
        line = np.asarray(points, np.float64)
        if line.ndim != 2 or line.shape[1] != 2 or not len(line) or not np.isfinite(line).all():
            raise UsageError(f"a line has shape {line.shape}; expected one or more finite points (n, 2)")
        return line

    def _asking(self, given: TextPipeline | Later) -> TextPipeline:
        """The pipeline without its threshold: presence is compared when a mask is looked at."""
        pipeline = given.real() if isinstance(given, Later) else given
        if pipeline.threshold is None:
            return pipeline
        if id(pipeline) not in self._open:
            preset = pipeline.preset.override(presence={"threshold": None})
            self._open[id(pipeline)] = type(pipeline)(preset, pipeline.encoder, pipeline.segmenter)
        return self._open[id(pipeline)]
