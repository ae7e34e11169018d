"""A pipeline without models: what is brighter than the mean is found, unless the phrase says "unseen"."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import MaskEstimate, Result, SliceResult, label_map, target_result
from lexiseg.values.masks import Prompts, Region, Saliency
from lexiseg.values.scans import Plane, Planes, Scan


class FakePipeline:
    """Deterministic answers from the pixels alone, in the shape of a real pipeline's."""

    def __init__(
        self,
        preset: Preset | None = None,
        *,
        weights: str = "0" * 64,
        fails: Exception | None = None,
        pause: float = 0,
    ) -> None:
        self.preset = preset or Preset(name="demo").override(presence={"threshold": 0.5})
        self.encoder = SimpleNamespace(device="cpu", precision="float32")
        self.segmenter = SimpleNamespace(device="cpu", precision="float32")
        self.weights, self.fails, self.pause = weights, fails, pause
        self.seen: list[str] = []

    @property
    def provenance(self) -> Mapping[str, Any]:
        model = {
            "name": self.preset.encoder,
            "file": "model.safetensors",
            "sha256": self.weights,
            "repo": "org/model",
            "revision": "abc",
            "licence": "MIT",
        }
        return {"preset": self.preset.as_dict(), "encoder": model, "segmenter": model}

    def __call__(
        self,
        scan: Scan,
        phrases: Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Result:
        self.seen.append(scan.id)
        time.sleep(self.pause)
        if self.fails is not None and "bad" in scan.id:
            raise self.fails
        planes = self.planes(scan)
        for k in range(len(planes)):
            if progress is not None:
                progress((k + 1) / len(planes))
        slices = [_slices(planes, k, text, keep_stages) for k, text in enumerate(phrases)]
        targets = tuple(
            dataclasses.replace(target_result(text, each, planes, threshold=None, keep=keep_stages), confidence=0.8)
            for text, each in zip(phrases, slices, strict=True)
        )
        mask = label_map(slices, planes, tuple(phrases))
        return Result(scan.id, targets, mask, {"total": 0.01}, self.provenance, planes.record())

    def planes(self, scan: Scan, phrases: Sequence[str] = ()) -> Planes:
        return scan.planes(self.preset["volume"].plane, self.preset["volume"].window)


def _slices(planes: Planes, k: int, text: str, keep: bool) -> list[SliceResult]:
    present = "unseen" not in text
    presence = 0.9 if present else 0.1
    maps = [_grey(each) for each in planes]
    mean = np.mean([each.mean() for each in maps])
    found = []
    for grey in maps:
        mask = (grey > mean + 0.1 * k) & present
        each = SliceResult.of(
            saliency=Saliency(grey, text, 1.0),
            region=Region(mask, grey),
            prompts=Prompts(boxes=_box(mask)),
            estimate=MaskEstimate(mask, 0.8, grey),
            presence=presence,
            agreement=0.8,
        )
        found.append(dataclasses.replace(each, weights=np.full(mask.sum(), 1.0 - 0.1 * k, np.float32)))
    return found


def _grey(plane: Plane) -> np.ndarray:
    return plane.pixels if plane.pixels.ndim == 2 else plane.pixels.mean(-1, dtype=np.float32)


def _box(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    if not len(y):
        return np.zeros((0, 4), np.float32)
    return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
