"""One scan with its cached encodings: ask by words, correct by clicks, boxes and paint, undo, save.

A page or a server calls this and holds no logic of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.io.write import write_map, write_mask
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.results import TargetResult
from lexiseg.text.phrases import check_phrase
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Plane, Scan

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class PlaneEdit:
    """One target in one plane.

    Attributes:
        mask: bool (h, w).
        prompts: what a person or the text asked there.
        candidates: bool (3, h, w), what the segmenter offers for a point alone, best rated first.
    """

    mask: BoolArray
    prompts: Prompts = field(default_factory=Prompts)
    candidates: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """A named target of a session.

    Attributes:
        name: the phrase, or what a person calls it.
        found: what the text gave; None for a target that a person drew from nothing.
        edits: what was changed since, by plane; a plane that is not here is as the text gave it.
    """

    name: str
    found: TargetResult | None = None
    edits: Mapping[int, PlaneEdit] = field(default_factory=dict)


_State = Mapping[str, Target]


class Session:
    """A scan that is being segmented by a person with a pipeline's help.

    The pipeline may be shared by many sessions; a session is used by one thread at a time. Every change can be
    undone. Planes are encoded once, so a click costs a decode.

    Args:
        pipeline: from `lexiseg.pipelines.loading.load`.
        scan: an image or a volume.
        encodings: where encodings are kept, shared with other sessions or this one's own.

    Example:
        >>> session = lexiseg.load("demo").session("scan.png")
        >>> session.ask("breast tumor").present
        True
        >>> before = session.mask("breast tumor").sum()
        >>> _ = session.click("breast tumor", 0, 20.5, 20.5)
        >>> session.undo(), bool(session.mask("breast tumor").sum() == before)
        (True, True)
    """

    def __init__(self, pipeline: TextPipeline, scan: Scan, *, encodings: EncodingCache | None = None) -> None:
        self.pipeline, self.scan = pipeline, scan
        self.planes = pipeline.planes(scan)
        self._encodings = encodings if encodings is not None else EncodingCache()
        # Presence is compared with the threshold when a mask is asked for, so that moving it asks no model.
        self._asking = pipeline
        if pipeline.threshold is not None:
            open_ = pipeline.preset.override(presence={"threshold": None})
            self._asking = type(pipeline)(open_, pipeline.encoder, pipeline.segmenter)
        self.threshold = pipeline.threshold
        self._past: list[_State] = []
        self._state: _State = {}
        self._future: list[_State] = []

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order in which they came."""
        return tuple(self._state)

    def ask(self, phrase: str) -> TargetResult:
        """Segment by words, in the whole scan; what was drawn before for the same phrase is replaced.

        Returns:
            What was found; its presence is told whatever the session's threshold is.

        Raises:
            BadPhrase: the phrase is empty or has no letter.
        """
        name = check_phrase(phrase)
        found = self._asking(self.scan, name, encodings=self._encodings).targets[0]
        self._change(name, Target(name, found))
        return found

    def add(self, name: str) -> None:
        """Begin a target that nothing is drawn of.

        Raises:
            BadPhrase: the name is empty or has no letter.
            UsageError: there is one of this name.
        """
        name = check_phrase(name)
        if name in self._state:
            raise UsageError(f"there is a target {name!r} already; expected another name")
        self._change(name, Target(name))

    def remove(self, name: str) -> None:
        """Take a target out."""
        self._known(name)
        self._push({other: target for other, target in self._state.items() if other != name})

    def mask(self, name: str) -> BoolArray:
        """A target's mask, bool of the scan's shape; empty where presence is below the session's threshold."""
        target = self._known(name)
        return self.planes.assemble([self._plane_mask(target, index) for index in range(len(self.planes))])

    def present(self, name: str) -> bool:
        """Whether a target has any mask."""
        target = self._known(name)
        return any(self._plane_mask(target, index).any() for index in range(len(self.planes)))

    def click(self, name: str, plane: int, x: float, y: float, *, inside: bool = True) -> BoolArray:
        """Add a point, in pixels of the plane (a pixel's centre lies at +0.5), and draw the plane again.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or a point outside it.
        """
        edit = self._edit(name, plane)
        height, width = edit.mask.shape
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"the point ({x:g}, {y:g}) lies outside the plane of {width} x {height} pixels")
        prompts = Prompts(
            boxes=edit.prompts.boxes,
            points=np.concatenate([edit.prompts.points, np.array([[x, y]], np.float32)]),
            labels=np.concatenate([edit.prompts.labels, np.array([int(inside)], np.int64)]),
        )
        return self._draw(name, plane, prompts)

    def box(self, name: str, plane: int, box: Box) -> BoolArray:
        """Add a box x0 y0 x1 y1, end-exclusive, in pixels of the plane, and draw the plane again.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or no box within it.
        """
        edit = self._edit(name, plane)
        height, width = edit.mask.shape
        x0, y0, x1, y1 = (float(edge) for edge in box)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UsageError(f"the box {box} does not lie in the plane of {width} x {height} pixels")
        boxes = np.concatenate([edit.prompts.boxes, np.array([[x0, y0, x1, y1]], np.float32)])
        return self._draw(name, plane, replace(edit.prompts, boxes=boxes))

    def paint(self, name: str, plane: int, region: BoolArray, *, erase: bool = False) -> BoolArray:
        """Add pixels to a plane's mask, or take them away; no model is asked.

        Args:
            name: the target.
            plane: its index.
            region: bool (h, w), of the plane.
            erase: take them away.

        Returns:
            The plane's new mask, bool (h, w).

        Raises:
            UsageError: no such target or plane, or a region of another shape.
        """
        edit = self._edit(name, plane)
        if region.shape != edit.mask.shape:
            raise UsageError(f"the region has shape {region.shape}, expected the plane's {edit.mask.shape}")
        mask = edit.mask & ~region if erase else edit.mask | region
        self._set(name, plane, replace(edit, mask=mask))
        return mask

    def candidates(self, name: str, plane: int) -> BoolArray:
        """What the segmenter offers for a point alone, bool (n, h, w), best rated first; n is 3 or 0."""
        edit = self._edit(name, plane)
        return np.zeros((0, *edit.mask.shape), np.bool_) if edit.candidates is None else edit.candidates

    def choose(self, name: str, plane: int, candidate: int) -> BoolArray:
        """Take one of a plane's candidates as its mask.

        Raises:
            UsageError: there is no such candidate.
        """
        offered = self.candidates(name, plane)
        if not 0 <= candidate < len(offered):
            raise UsageError(f"there is no candidate {candidate}; expected one of {len(offered)}, counted from 0")
        self._set(name, plane, replace(self._edit(name, plane), mask=offered[candidate]))
        chosen: BoolArray = offered[candidate]
        return chosen

    def undo(self) -> bool:
        """Take the last change back; False where there is none."""
        if not self._past:
            return False
        self._future.append(self._state)
        self._state = self._past.pop()
        return True

    def redo(self) -> bool:
        """Do what was taken back again; False where there is nothing."""
        if not self._future:
            return False
        self._past.append(self._state)
        self._state = self._future.pop()
        return True

    def save(self, folder: str | Path) -> list[Path]:
        """Write each target's mask as SCAN_SLUG_mask.png (or .nii.gz), and probabilities that are known.

        Returns:
            The masks' paths, in the order of the targets.

        Raises:
            UnwritableResult: the file system refused.
        """
        written = []
        for name, stem in zip(self.targets, _stems(self.scan.id, self.targets), strict=True):
            written.append(write_mask(self.mask(name), self.scan, folder, stem=stem))
            found = self._state[name].found
            probability: FloatArray | None = None if found is None else found.probability
            if probability is not None:
                write_map(probability, self.scan, folder, stem=stem, kind="probability")
        return written

    def _plane_mask(self, target: Target, index: int) -> BoolArray:
        if index in target.edits:
            return target.edits[index].mask
        shape = self.planes.cut(np.zeros(self.scan.shape, np.bool_))[index].shape
        if target.found is None or self._below(target.found):
            return np.zeros(shape, np.bool_)
        return np.ascontiguousarray(self.planes.cut(target.found.mask)[index])

    def _below(self, found: TargetResult) -> bool:
        return self.threshold is not None and not math.isnan(found.presence) and found.presence < self.threshold

    def _known(self, name: str) -> Target:
        if name not in self._state:
            raise UsageError(f"there is no target {name!r}; expected one of {', '.join(self._state) or 'none yet'}")
        return self._state[name]

    def _edit(self, name: str, plane: int) -> PlaneEdit:
        """A target in a plane as it is now."""
        target = self._known(name)
        if not 0 <= plane < len(self.planes):
            raise UsageError(f"there is no plane {plane}; expected 0 to {len(self.planes) - 1}")
        if plane in target.edits:
            return target.edits[plane]
        asked = Prompts() if target.found is None or self._below(target.found) else target.found.prompts[plane]
        return PlaneEdit(self._plane_mask(target, plane), asked)

    def _draw(self, name: str, plane: int, prompts: Prompts) -> BoolArray:
        shown: Plane = self.planes[plane]
        segmenter = CachedSegmenter(self.pipeline.segmenter, self._encodings)
        mask, candidates = draw_prompts(segmenter, shown.pixels, prompts)
        self._set(name, plane, PlaneEdit(mask, prompts, candidates))
        return mask

    def _set(self, name: str, plane: int, edit: PlaneEdit) -> None:
        target = self._known(name)
        self._change(name, dataclasses.replace(target, edits={**target.edits, plane: edit}))

    def _change(self, name: str, target: Target) -> None:
        self._push({**self._state, name: target})

    def _push(self, state: _State) -> None:
        self._past.append(self._state)
        self._state = state
        self._future.clear()


def draw_prompts(
    segmenter: CachedSegmenter, pixels: FloatArray, prompts: Prompts
) -> tuple[BoolArray, BoolArray | None]:
    """A plane's mask by boxes and points: the union of what each box, and the points beside all boxes, ask for.

    Points inside a box belong to it, and points that say "outside" to all. A single prompt that is ambiguous (a
    point alone) is answered by the best rated of three candidates.

    Args:
        segmenter: encodes the plane once.
        pixels: float32 (h, w) or (h, w, 3) in [0, 1].
        prompts: of the plane.

    Returns:
        bool (h, w); and the three candidates (3, h, w), best rated first, where a point alone is asked.
    """
    mask = np.zeros(pixels.shape[:2], np.bool_)
    questions = _questions(prompts)
    candidates: BoolArray | None = None
    for box, points, labels in questions:
        image = segmenter.encode(pixels)
        ambiguous = box is None and len(points) == 1 and len(questions) == 1
        decoded = segmenter.decode(
            image,
            boxes=None if box is None else box[None],
            points=points[None] if len(points) else None,
            labels=labels[None] if len(points) else None,
            multimask=ambiguous,
        )
        logits = segmenter.upsample(decoded.logits[0], image)
        offered = (logits > 0).cpu().numpy()
        order = np.argsort(-decoded.iou[0].cpu().numpy(), kind="stable")
        mask |= offered[order[0]]
        if ambiguous:
            candidates = offered[order]
    return mask, candidates


def _questions(prompts: Prompts) -> list[tuple[FloatArray | None, FloatArray, np.ndarray]]:
    """Boxes with their points, then the positive points that lie in none of them."""
    points, labels = prompts.points, prompts.labels
    outside = labels == 0
    taken = np.zeros(len(points), np.bool_)
    found: list[tuple[FloatArray | None, FloatArray, np.ndarray]] = []
    for box in prompts.boxes:
        x0, y0, x1, y1 = box
        within = (points[:, 0] >= x0) & (points[:, 0] < x1) & (points[:, 1] >= y0) & (points[:, 1] < y1)
        taken |= within & ~outside
        chosen = within | outside
        found.append((box, points[chosen], labels[chosen]))
    loose = ~taken & ~outside
    if loose.any():
        chosen = loose | outside
        found.append((None, points[chosen], labels[chosen]))
    return found


def _stems(scan: str, names: tuple[str, ...]) -> list[str]:
    from lexiseg.io.names import safe_id, slugs

    return [f"{safe_id(scan)}_{slug}" for slug in slugs(names)]
