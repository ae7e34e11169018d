"""Pipelines: text to mask, as compositions of the rooms below; presets say which models and settings.

    >>> import lexiseg
    >>> segment = lexiseg.load("demo")
    >>> result = segment(lexiseg.read_scan("scan.png"), "breast tumor")

A preset is a YAML file; `load` builds the pipeline that it names with the models that it names.  Names are
looked up on first use, so that listing presets needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

if TYPE_CHECKING:
    from lexiseg.pipelines.drawing import MaskSettings
    from lexiseg.pipelines.loading import PIPELINES, load
    from lexiseg.pipelines.medclip_sam import MedclipSam
    from lexiseg.pipelines.pipeline import TextPipeline
    from lexiseg.pipelines.preset import Preset, load_preset, merge_settings, parse_setting, preset_names
    from lexiseg.pipelines.result import Finding, Result, label_map
    from lexiseg.pipelines.salip import Salip
    from lexiseg.pipelines.tuning import Tuning, tune_label_free
    from lexiseg.pipelines.volumes import VolumeSettings

_HOMES = {
    "drawing": ("MaskSettings",),
    "loading": ("PIPELINES", "load"),
    "medclip_sam": ("MedclipSam",),
    "pipeline": ("TextPipeline",),
    "preset": ("Preset", "load_preset", "merge_settings", "parse_setting", "preset_names"),
    "result": ("Finding", "Result", "label_map"),
    "salip": ("Salip",),
    "tuning": ("Tuning", "tune_label_free"),
    "volumes": ("VolumeSettings",),
}

__all__ = [
    "PIPELINES",
    "Finding",
    "MaskSettings",
    "MedclipSam",
    "Preset",
    "Result",
    "Salip",
    "TextPipeline",
    "Tuning",
    "VolumeSettings",
    "label_map",
    "load",
    "load_preset",
    "merge_settings",
    "parse_setting",
    "preset_names",
    "tune_label_free",
]

__getattr__ = lazy_names(__name__, _HOMES)
