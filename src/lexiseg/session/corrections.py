"""What a person does to a target with points, boxes, lines and a brush, in any plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.propagation import propagate
from lexiseg.session import drawing
from lexiseg.session.board import Board, Record
from lexiseg.session.deltas import Delta
from lexiseg.session.later import Later
from lexiseg.session.target import Edit, Place, Target
from lexiseg.session.views import Views
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Plane, Scan

Box = tuple[float, float, float, float]
CARRIED = "propagate"
"""The kind of a step that no person drew."""
BY_HAND = frozenset({"paint", "erase", "fill", "keep", "clear"})
"""The kinds of steps that ask no model."""


class Corrections(Board):
    """A board whose targets are drawn with a segmenter's help.

    Args:
        pipeline: whose segmenter is asked; it may be loaded later.
        scan: an image or a volume.
        encodings: where encodings are kept.
        record: see `Board`.
    """

    def __init__(
        self, pipeline: TextPipeline | Later, scan: Scan, *, encodings: EncodingCache, record: Record | None
    ) -> None:
        super().__init__(scan, Views(scan, pipeline.planes(scan)), threshold=pipeline.threshold, record=record)
        self.pipeline = pipeline
        self.planes = self.views.planes()
        self._encodings = encodings

    def prepare(self, plane: int, *, axis: str | None = None) -> None:
        """Encode a plane, so that the first click in it costs a decode alone.

        Raises:
            UsageError: no such axis or plane.
        """
        shown = self.views.plane(*self.views.place(axis, plane))
        CachedSegmenter(self.pipeline.segmenter, self._encodings).encode(shown.pixels)

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

        It ends at planes that a person drew in, see `drawn`. Nothing is changed, so another thread may use the session
        meanwhile; `settle` takes the masks.

        Returns:
            Index -> bool (h, w), of the planes that it reached, without the first.

        Raises:
            UsageError: no such target or plane, or there is no mask in it.
        """
        target, place = self._at(name, plane, axis)
        mask = self.plane_mask(name, plane, axis)
        if not mask.any():
            raise UsageError(f"there is no mask in plane {plane}; draw one before it is carried to its neighbours")
        pipeline = self.pipeline.real() if isinstance(self.pipeline, Later) else self.pipeline
        found = target.origin.found
        return propagate(
            pipeline.segmenter,
            self.views.planes(place[0]),
            plane,
            mask,
            settings=pipeline.propagation,
            mask_settings=pipeline.mask_for(None if found is None else found.phrase),
            forbidden=self.drawn(name, axis),
            encodings=self._encodings,
        )

    def settle(
        self,
        name: str | int,
        plane: int,
        masks: Mapping[int, BoolArray],
        *,
        axis: str | None = None,
        since: BoolArray,
    ) -> tuple[list[int], list[int]]:
        """Take what `carry` reached, as one step; planes that changed meanwhile are left as they are.

        Args:
            name: the target.
            plane: that was carried.
            masks: index -> bool (h, w), of `carry`.
            axis: of the planes.
            since: the target's mask when `carry` began, bool of the scan's shape.

        Returns:
            The planes that were set, and those that a person drew in and that were therefore left; both in order.

        Raises:
            UsageError: there is no such target, or it is locked.
        """
        self._unlocked(self.target(name))
        drawn, along = self.drawn(name, axis), self.views.axes[self.views.axis(axis)]
        before = along.cut(since.reshape(self.views.grid_shape))
        kept = drawn & {min((plane, *masks)) - 1, max((plane, *masks)) + 1}
        kept |= {
            index
            for index in masks
            if index in drawn or not np.array_equal(before[index], self.plane_mask(name, index, axis))
        }
        taken = {index: mask for index, mask in masks.items() if index not in kept}
        if taken:
            self.put(name, taken, axis=axis, kind=CARRIED)
        return sorted(taken), sorted(kept)

    def propagate(self, name: str | int, plane: int, *, axis: str | None = None) -> list[int]:
        """Carry the mask of a plane to its neighbours, as one step; the planes that it reached.

        It ends at planes that a person drew in.

        Raises:
            UsageError: see `carry`; or the target is locked.
        """
        self._unlocked(self.target(name))
        since = self.mask(name)
        return self.settle(name, plane, self.carry(name, plane, axis=axis), axis=axis, since=since)[0]

    def drawn(self, name: str | int, axis: str | None = None) -> set[int]:
        """Indices of the planes of an axis that a person drew in, or cleared, since the target was begun."""
        target, wanted = self.target(name), self.views.axis(axis)
        found: set[int] = set()
        for step in self.steps:
            if step.target != target.id:
                continue
            if not isinstance(step, Edit):
                found.clear()
            elif step.kind != CARRIED:
                found.update(index for along, index in step.places if along == wanted)
        return found

    def by_model(self, name: str | int) -> bool:
        """Whether a model had a part in a target's mask: what was found by words, or drawn by prompts, since it began.

        What a phrase found and the threshold hid is left out where a person drew, and has no part.
        """
        target, part = self.target(name), False
        for step in self.steps:
            if step.target != target.id:
                continue
            if isinstance(step, Edit):
                part = (part and not step.cleared) or step.kind not in BY_HAND
            else:
                found = None if step.after is None else step.after.found
                part = found is not None and bool(found.mask().any())
        return part

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

    def _inside_plane(self, points: FloatArray, place: Place) -> None:
        height, width = self.views.shape(place[0])
        for x, y in points:
            if not (0 <= x < width and 0 <= y < height):
                raise UsageError(f"the point ({x:g}, {y:g}) lies outside the plane of {width} x {height} pixels")

    def _line(self, points: FloatArray) -> FloatArray:
        line: FloatArray = np.asarray(points, np.float32)
        if line.ndim != 2 or line.shape[1] != 2 or not len(line) or not np.isfinite(line).all():
            raise UsageError(f"a line has shape {line.shape}; expected one or more finite points (n, 2)")
        return line
