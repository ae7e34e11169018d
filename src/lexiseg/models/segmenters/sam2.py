"""The family of SAM 2 and 2.1, MedSAM2 among them: transformers' folders and original checkpoints.

Its parts are `sam2_checkpoint`, which reads the latter, `sam2_segmenter`, which EdgeTAM and SAM 3's tracker share, and
`sam2_tracker`, which has the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.models.segmenters.sam2_checkpoint import MARK, input_of, rename_sam2, sam2_config

if TYPE_CHECKING:
    import torch

    from lexiseg.models.families import ModelFiles
    from lexiseg.models.segmenters.sam2_segmenter import Sam2Segmenter

NAME = "SAM 2 (config.json of model_type 'sam2' or 'sam2_video'; a sam2*.pt, MedSAM2's too)"


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' Sam2Model or Sam2VideoModel; an original checkpoint."""
    if files.is_folder:
        return files.config.get("model_type") in ("sam2", "sam2_video")
    return MARK in files.keys


def load(files: ModelFiles, *, device: torch.device, precision: str) -> Sam2Segmenter:
    """The segmenter of a folder or of an original checkpoint, with its memory where it has one."""
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    from lexiseg.models.from_transformers import build, load_folder, pixel_statistics
    from lexiseg.models.segmenters.sam2_segmenter import IMAGENET, Sam2Segmenter
    from lexiseg.models.segmenters.sam2_tracker import Sam2Tracker
    from lexiseg.models.segmenters.sam_checkpoint import read_checkpoint, reading_shapes

    if files.is_folder:
        video = files.config.get("model_type") == "sam2_video"
        kinds = (Sam2VideoModel, Sam2VideoConfig) if video else (Sam2Model, Sam2Config)
        model = load_folder(files, *kinds)
        mean, std = pixel_statistics(files, *IMAGENET)
    else:
        state = read_checkpoint(files.place)
        with reading_shapes(files.place, "SAM 2"):
            config = sam2_config(state, image_size=input_of(files.place.name))
        model = build(Sam2VideoModel, Sam2VideoConfig, config, rename_sam2(state), source=files.place)
        mean, std = IMAGENET
    # A model without a memory has no methods that ask for one: whoever carries a target tells by them.
    kind = Sam2Tracker if hasattr(model, "memory_encoder") else Sam2Segmenter
    return kind(model, name=files.ref, device=device, precision=precision, weights=files.info, mean=mean, std=std)
