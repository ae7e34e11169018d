"""SAM 3's tracker as transformers writes it, alone or inside SAM 3: prompts to masks; its text is not read here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lexiseg.models.families import ModelFiles
    from lexiseg.models.segmenters.sam2_segmenter import Sam2Segmenter

NAME = "SAM 3's tracker (config.json of model_type 'sam3_tracker', 'sam3_tracker_video' or 'sam3_video')"
_HALF = (0.5, 0.5, 0.5)


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' Sam3TrackerModel, or of a model that has one inside."""
    return files.config.get("model_type") in ("sam3_tracker", "sam3_tracker_video", "sam3_video")


def load(files: ModelFiles, *, device: torch.device, precision: str) -> Sam2Segmenter:
    """The segmenter of a folder."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    from lexiseg.models.from_transformers import load_folder, pixel_statistics
    from lexiseg.models.segmenters.sam2_segmenter import Sam2Segmenter

    whole = files.config.get("tracker_config") or files.config
    sections = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    config = {name: whole[name] for name in sections if name in whole}
    model = load_folder(files, Sam3TrackerModel, Sam3TrackerConfig, config=config, rename=_own_name)
    mean, std = pixel_statistics(files, _HALF, _HALF)
    return Sam2Segmenter(
        model, name=files.ref, device=device, precision=precision, weights=files.info, mean=mean, std=std
    )


def _own_name(key: str) -> str:
    """The tracker of a whole SAM 3 sees by the detector's image encoder, through a neck of its own."""
    key = re.sub(r"^(tracker_model\.)+", "", key)  # transformers 5 writes the prefix twice
    key = re.sub(r"^detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone.", key)
    return re.sub(r"^tracker_neck\.", "vision_encoder.neck.", key)
