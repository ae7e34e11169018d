"""A preset's name to a pipeline that can be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from lexiseg.models.loading import load_encoder, load_segmenter, load_text_segmenter
from lexiseg.models.protocols import Encoder
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.baselines import NoEncoder, OracleBox, Unprompted
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.pipelines.salip import Salip
from lexiseg.pipelines.sam3 import Sam3

PIPELINES: Mapping[str, type[TextPipeline]] = {
    "medclip-sam": MedclipSam,
    "salip": Salip,
    "sam3": Sam3,
    "sam-unprompted": Unprompted,
    "sam-box": OracleBox,
}
"""Name -> class; each is made of (preset, encoder, segmenter) and called with (scan, phrases).  What each takes
is listed in `lexiseg.pipelines.preset.PIPELINE_SECTIONS`."""


def load(
    preset: str | Preset = "demo",
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
    **changes: Any,
) -> TextPipeline:
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
    kind = PIPELINES[chosen.pipeline]
    settings: dict[str, Any] = {"device": device, "precision": precision, "progress": progress}
    if kind.needs_encoder:
        encoder: Encoder = load_encoder(chosen.encoder, **settings)
        return kind(chosen, encoder, load_segmenter(chosen.segmenter, **settings))
    load_it: Callable[..., Any] = load_text_segmenter if kind.reads_text else load_segmenter
    segmenter = load_it(chosen.segmenter, **settings)
    return kind(chosen, cast(Encoder, NoEncoder(segmenter.device, segmenter.precision)), segmenter)
