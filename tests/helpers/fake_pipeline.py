"""A pipeline without models: what is brighter than the mean is found, unless the phrase says "absent"."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.results import TargetResult, Result, label_map
from lexiseg.regions.region import Region
from lexiseg.values.masks import Prompts, Saliency
from lexiseg.values.scans import Scan


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
        self.preset = preset or Preset(name="demo", presence={"threshold": 0.5})
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
        slices = list(iterate_slices(scan))
        for k in range(len(slices)):
            if progress is not None:
                progress((k + 1) / len(slices))
        findings = tuple(_finding(scan, slices, k, text, keep_stages) for k, text in enumerate(phrases))
        weights = [np.full(scan.shape, 1.0 - 0.1 * k) for k in range(len(phrases))]
        mask = label_map([f.mask for f in findings], weights, tuple(phrases))
        return Result(scan.id, findings, mask, {"total": 0.01}, self.provenance)


def _finding(scan: Scan, slices: list[Scan], k: int, text: str, keep: bool) -> TargetResult:
    present = "absent" not in text
    maps = [_grey(each) for each in slices]
    masks = [(m > scan.pixels.mean() + 0.1 * k) & present for m in maps]
    prompts = tuple(Prompts(boxes=_box(mask)) for mask in masks)
    saliency = tuple(Saliency(m, text, 1.0) for m in maps) if keep else ()
    region = tuple(Region(mask, m) for mask, m in zip(masks, maps, strict=True)) if keep else ()
    presence = 0.9 if present else 0.1
    mask = np.stack(masks) if scan.volume else masks[0]
    return TargetResult(text, mask, present, presence, 0.8, prompts, saliency, region)


def _grey(scan: Scan) -> np.ndarray:
    return scan.pixels if scan.pixels.ndim == 2 else scan.pixels.mean(-1, dtype=np.float32)


def _box(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    if not len(y):
        return np.zeros((0, 4), np.float32)
    return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
