"""The steps that a volume's slices take together after each was answered by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lexiseg.models.protocols import Segmenter
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.consistency import (
    close_gaps,
    drop_pieces,
    drop_unsure,
    of_one_kind,
    skipped_steps,
    smooth,
    surety,
    thickness_of,
    with_mask,
)
from lexiseg.pipelines.fusion import clean_answer, encode_queries, segment_queries
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.propagation import Carried, carrier, carry_both_ways
from lexiseg.pipelines.results import SliceResult
from lexiseg.pipelines.settings import MaskSettings, PropagationSettings, VolumeSettings
from lexiseg.saliency.kinds import KindGate
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Planes


class _Pipeline(Protocol):
    preset: Preset
    segmenter: Segmenter

    @property
    def kinds(self) -> KindGate | None: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def propagation(self) -> PropagationSettings: ...

    def mask_for(self, text: str) -> MaskSettings: ...


class _Timer(Protocol):
    def __call__(self, stage: str) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, eq=False)
class VolumeSteps:
    """What `VolumeSettings` asks for, of one scan.

    Attributes:
        settings: the preset's.
        planes: of the scan.
        positions: mm of each plane along the normal; None where nobody knows.
        area: mm2 of a pixel, 1 where nobody knows.
    """

    settings: VolumeSettings
    planes: Planes
    positions: NDArray[np.float64] | None
    area: float
    _propagation: PropagationSettings
    _mask: MaskSettings
    _mask_for: Callable[[str], MaskSettings]
    _segmenter: Segmenter
    _timer: _Timer
    _encodings: EncodingCache | None
    _kinds: KindGate | None
    _threshold: float | None

    @classmethod
    def of(cls, pipeline: _Pipeline, planes: Planes, timer: _Timer, encodings: EncodingCache | None) -> VolumeSteps:
        """The steps of a pipeline's preset for a scan."""
        spacing = planes[0].spacing if len(planes) > 1 else None
        return cls(
            settings=pipeline.preset["volume"],
            planes=planes,
            positions=None if planes.positions is None else np.asarray(planes.positions),
            area=spacing[0] * spacing[1] if spacing is not None else 1.0,
            _propagation=pipeline.propagation,
            _mask=MaskSettings(),
            _mask_for=pipeline.mask_for,
            _segmenter=pipeline.segmenter,
            _timer=timer,
            _encodings=encodings,
            _kinds=pipeline.kinds,
            _threshold=pipeline.threshold,
        )

    def notes(self) -> dict[str, str]:
        """What was asked for and not done, in words; {} where all was."""
        skipped = skipped_steps(self.settings, self.planes) if len(self.planes) > 1 else ()
        return {"volume": f"{', '.join(skipped)} left out, no distance is known"} if skipped else {}

    def __call__(self, slices: Sequence[SliceResult], text: str) -> Sequence[SliceResult]:
        """One phrase's slices after they have been compared with their neighbours; those of an image as they are."""
        if len(slices) == 1:
            return slices
        if self._kinds is not None and (holders := self._kinds.holders(text)) is not None:
            slices = of_one_kind(slices, holders, self._kinds.least, self._threshold)
        return replace(self, _mask=self._mask_for(text))._compared(slices)

    def _compared(self, slices: Sequence[SliceResult]) -> Sequence[SliceResult]:
        kept: Sequence[SliceResult] = slices
        settings, thickness = self.settings, None if self.positions is None else thickness_of(self.positions)
        if settings.propagate:
            kept = self._propagated(kept)
        if settings.smoothing > 0 and self.positions is not None:
            kept = smooth(kept, self.positions, settings.smoothing, self._recut)
        # Before gaps are closed: what is closed between two slips would pass for a target.
        kept = drop_unsure(kept, settings.gate)
        if settings.max_gap > 0 and thickness is not None and self._mask.fusion != "region":
            kept = close_gaps(kept, thickness, settings, self._redraw, min_iou=self._propagation.min_iou)
        return drop_pieces(kept, thickness, self.area, settings)

    def _recut(self, probability: np.ndarray) -> BoolArray:
        return clean_answer(probability, self._mask)

    def _redraw(self, index: int, prompts: Prompts, expected: Region, gap: SliceResult) -> SliceResult:
        """A plane drawn once more from its neighbours' prompts."""
        segmenter = CachedSegmenter(self._segmenter, self._encodings)
        with self._timer("segmenter"):
            queries = encode_queries(segmenter, self.planes[index].pixels, prompts, self._mask)
        with self._timer("mask"):
            estimate = segment_queries(segmenter, queries, expected, self._mask)
        return replace(
            gap,
            prompts=prompts,
            estimate=estimate,
            weights=expected.probability[estimate.mask],
            agreement=dice(estimate.mask, expected.mask),
            region=None if gap.region is None else expected,
        )

    def _propagated(self, slices: Sequence[SliceResult]) -> list[SliceResult]:
        """The surest slices and what the segmenter carries them to; all others are emptied."""
        sure = np.nan_to_num([surety(each) for each in slices])
        found: dict[int, SliceResult] = {}
        with self._timer("propagation"):
            carry = carrier(self._segmenter, self._propagation, self._mask, self._encodings)
            for index in np.argsort(-sure, kind="stable").tolist():
                if sure[index] == 0 or sure[index] < self._propagation.min_seed * sure.max():
                    break
                if index in found:
                    continue
                taken = frozenset(found)
                found[index] = slices[index]
                reached = carry_both_ways(carry, self.planes, index, slices[index].estimate.mask, forbidden=taken)
                found |= {k: _carried(slices[k], each) for k, each in reached.items()}
        return [found.get(k) or each.emptied() for k, each in enumerate(slices)]


def _carried(of: SliceResult, here: Carried) -> SliceResult:
    """A slice as it was carried there: how far it is like its neighbour is what the second judge says."""
    drawn = with_mask(of, here.estimate.mask)
    return replace(drawn, prompts=here.prompts, estimate=here.estimate, agreement=here.overlap)
