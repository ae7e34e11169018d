"""EdgeTAM as transformers writes it: a small SAM 2; single planes alone, its memory is not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lexiseg.models.families import ModelFiles
    from lexiseg.models.segmenters.sam2_segmenter import Sam2Segmenter

NAME = "EdgeTAM (config.json of model_type 'edgetam' or 'edgetam_video')"


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' EdgeTamModel or EdgeTamVideoModel."""
    return files.config.get("model_type") in ("edgetam", "edgetam_video")


def load(files: ModelFiles, *, device: torch.device, precision: str) -> Sam2Segmenter:
    """The segmenter of a folder."""
    from transformers import EdgeTamConfig, EdgeTamModel

    from lexiseg.models.from_transformers import load_folder, pixel_statistics
    from lexiseg.models.segmenters.sam2_segmenter import IMAGENET, Sam2Segmenter

    # The configuration of a video model has the image model's sections, and more besides.
    sections = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    config = {name: files.config[name] for name in sections if name in files.config}
    model = load_folder(files, EdgeTamModel, EdgeTamConfig, config=config)
    mean, std = pixel_statistics(files, *IMAGENET)
    return Sam2Segmenter(
        model, name=files.ref, device=device, precision=precision, weights=files.info, mean=mean, std=std
    )
