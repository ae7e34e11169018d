"""A scan that is being segmented by a person with a pipeline's help.

A page or a server calls this and holds no logic of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

from lexiseg.errors import UsageError
from lexiseg.io.write import write_map, write_mask
from lexiseg.pipelines.base import Progress, StageTimer, TextPipeline
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.results import TargetResult
from lexiseg.session.board import Record
from lexiseg.session.corrections import Corrections
from lexiseg.session.later import Asked, Later, pipeline_of
from lexiseg.session.target import Found, Origin, Place
from lexiseg.text.phrases import check_phrase
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.scans import Image, Scan


class Session(Corrections):
    """A scan that is being segmented by a person with a pipeline's help.

    The pipeline may be shared by many sessions; a session is used by one thread at a time. Every change of pixels can
    be undone. Planes are encoded once, so a click costs a decode. An image has the one axis "image"; a volume has
    "axial", "coronal" and "sagittal"; a stack in time has "frames". Where no axis is named, it is that of acquisition.

    Args:
        pipeline: from `lexiseg.load` or `lexiseg.pipelines.loading.load`, or one that is loaded later.
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
        pipeline: Asked,
        scan: Scan,
        *,
        encodings: EncodingCache | None = None,
        record: Record | None = None,
    ) -> None:
        chosen, kept = pipeline_of(pipeline), EncodingCache() if encodings is None else encodings
        super().__init__(chosen, scan, encodings=kept, record=record)
        self._open: WeakKeyDictionary[TextPipeline, TextPipeline] = WeakKeyDictionary()
        self._evidence: dict[tuple[int, Place, str], tuple[FloatArray, BoolArray] | None] = {}

    @property
    def real_pipeline(self) -> TextPipeline | None:
        """The session's pipeline; None where it was not loaded yet."""
        if isinstance(self.pipeline, Later):
            return self.pipeline.real() if self.pipeline.ready else None
        return self.pipeline

    def evidence(
        self, name: str | int, plane: int, *, axis: str | None = None, pipeline: Asked | None = None
    ) -> tuple[FloatArray, BoolArray] | None:
        """Where a target's phrase is in a plane as the encoder sees it, and the region that is made of that.

        Kept from the answer where there is one plane; asked anew otherwise, and kept for the plane asked last.

        Args:
            name: the target.
            plane: its index.
            axis: of the plane.
            pipeline: that answered the phrase, where it is not the session's; see `ask`.

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
            asking = self._asking(self._chosen(pipeline))
            segmenter = CachedSegmenter(asking.segmenter, self._encodings)
            item = asking.segment_plane(self.views.plane(*place), (found.phrase,), segmenter, StageTimer()).items[0]
            heat, region = item.saliency, item.region
            self._evidence = {key: None if heat is None or region is None else (heat.map, region.mask)}
        return self._evidence[key]

    def ask(self, phrase: str, *, pipeline: Asked | None = None, progress: Progress | None = None) -> TargetResult:
        """Segment by words, in the whole scan; what was drawn before for the same phrase is replaced.

        Args:
            phrase: what to look for.
            pipeline: another than the session's, from `lexiseg.load` say; its answer is a target of its own, with the
                preset in its name.
            progress: called with the share done; what it raises stops the work, and nothing is changed.

        Returns:
            What was found; its presence is told whatever the session's threshold is.

        Raises:
            BadPhrase: the phrase is empty or has no letter.
            UsageError: its target is locked, or what is to be asked is no pipeline.
        """
        found = self.find(phrase, pipeline=pipeline, progress=progress)
        self.place(found, pipeline=pipeline)
        return found

    def find(self, phrase: str, *, pipeline: Asked | None = None, progress: Progress | None = None) -> TargetResult:
        """What `ask` finds; nothing is changed, so another thread may use the session meanwhile.

        Raises:
            BadPhrase: the phrase is empty or has no letter.
            UsageError: its target is locked, or what is to be asked is no pipeline.
        """
        words, chosen = check_phrase(phrase), self._chosen(pipeline)
        target = self._named(self._name_of(words, chosen))
        if target is not None:
            self._unlocked(target)
        keep = isinstance(self.scan, Image)
        asking = self._asking(chosen)
        return asking(self.scan, words, encodings=self._encodings, keep_stages=keep, progress=progress).targets[0]

    def place(self, result: TargetResult, *, pipeline: Asked | None = None) -> int:
        """Take what `find` found as a target; its id.

        Raises:
            UsageError: its target is locked.
        """
        chosen = self._chosen(pipeline)
        name = self._name_of(result.phrase, chosen)
        target = self._named(name)
        if target is not None:
            self._unlocked(target)
        found = Found.of(result, preset=chosen.preset.name, threshold=chosen.threshold)
        if result.plane and result.plane != self.views.acquired:
            # Boxes of other planes than those of acquisition, which had no side to show.
            found = replace(found, prompts={})
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

    def _chosen(self, given: Asked | None) -> TextPipeline | Later:
        return self.pipeline if given is None else pipeline_of(given)

    def _name_of(self, phrase: str, pipeline: TextPipeline | Later) -> str:
        """A target's name; another preset's than the session's is in it."""
        other = pipeline.preset.name != self.pipeline.preset.name
        return f"{phrase} ({pipeline.preset.name})" if other else phrase

    def _asking(self, given: TextPipeline | Later) -> TextPipeline:
        """The pipeline without its threshold: presence is compared when a mask is looked at."""
        pipeline = given.real() if isinstance(given, Later) else given
        if pipeline.threshold is None:
            return pipeline
        opened = self._open.get(pipeline)
        if opened is None:
            preset = pipeline.preset.override(presence={"threshold": None})
            opened = self._open[pipeline] = type(pipeline)(preset, pipeline.encoder, pipeline.segmenter)
        return opened
