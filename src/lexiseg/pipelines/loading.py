"""A preset's name to a pipeline that can be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.models import load_encoder, load_segmenter
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import Preset, load_preset

PIPELINES: dict[str, type[MedclipSam]] = {"medclip-sam": MedclipSam}
"""Name -> class; each is made of (preset, encoder, segmenter) and called with (scan, phrases)."""


def load(
    preset: str | Preset = "demo",
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
    **changes: Any,
) -> MedclipSam:
    """A pipeline, ready to be called.

    Args:
        preset: a name, a YAML file, or a `Preset`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bfloat16".
        progress: told (file, bytes done, bytes in all) while a hub model is fetched.
        changes: fields of the preset, e.g. ``encoder="hf-hub:..."`` or ``saliency={"method": "gscorecam"}``;
            a section is merged into the preset's.

    Raises:
        UsageError: an unknown preset, field, setting, model or device.
        LexisegError: weights that are missing or broken.
    """
    chosen = preset.override(**changes) if isinstance(preset, Preset) else load_preset(preset, **changes)
    if chosen.pipeline not in PIPELINES:
        raise UsageError(f"there is no pipeline {chosen.pipeline!r}; expected one of {', '.join(PIPELINES)}")
    return PIPELINES[chosen.pipeline](
        chosen,
        load_encoder(chosen.encoder, device=device, precision=precision, progress=progress),
        load_segmenter(chosen.segmenter, device=device, precision=precision, progress=progress),
    )
