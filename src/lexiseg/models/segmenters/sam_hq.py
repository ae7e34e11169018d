"""SAM-HQ as transformers writes it: SAM with one more token, which draws finer outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.loading import autocast
from lexiseg.models.protocols import Decoded, EncodedImage
from lexiseg.models.segmenters.prompts import check_prompts
from lexiseg.models.segmenters.sam import SamImage, SamSegmenter
from lexiseg.values.arrays import FloatArray

if TYPE_CHECKING:
    from lexiseg.models.families import ModelFiles

NAME = "SAM-HQ (config.json of model_type 'sam_hq')"


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' SamHQModel."""
    return files.config.get("model_type") == "sam_hq"


def load(files: ModelFiles, *, device: torch.device, precision: str) -> SamHQSegmenter:
    """The segmenter of a folder."""
    from transformers import SamHQConfig, SamHQModel

    from lexiseg.models.from_transformers import load_folder
    from lexiseg.models.segmenters.sam_folder import image_processor

    model = load_folder(files, SamHQModel, SamHQConfig)
    processor = image_processor(files.place, model.config.vision_config.image_size)
    return SamHQSegmenter(model, processor, name=files.ref, device=device, precision=precision, weights=files.info)


@dataclass(frozen=True, eq=False)
class SamHQImage(SamImage):
    """A scan as SAM-HQ's image encoder sees it.

    Attributes:
        early: (1, h, w, C) float32, after the first block that looks at the whole scan.
    """

    early: Tensor


class SamHQSegmenter(SamSegmenter):
    """A SamHQModel behind the `Segmenter` protocol, whose docstrings hold here; arguments as `SamSegmenter`.

    A prompt is answered by the finer token's logits added to SAM's own, as published; with `multimask` to each of
    SAM's three, best rated first.
    """

    def encode(self, pixels: FloatArray) -> SamHQImage:
        """Encode a scan, float32 in [0, 1], shape (H, W) or (H, W, 3); grey is put in all three channels.

        Raises:
            ValueError: the array has another shape.
        """
        values, filled = self._prepare(pixels)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            embedding, early = self._model.get_image_embeddings(values.to(self._device))
        shape = int(pixels.shape[0]), int(pixels.shape[1])
        return SamHQImage(shape, embedding.float(), filled, early[0].float())

    def encode_many(self, scans: Sequence[FloatArray]) -> list[Any]:
        """Encode several scans of any sizes, one after the other.

        Raises:
            ValueError: an array has another shape than `encode` takes, or there is none.
        """
        if not scans:
            raise ValueError("got no scan to encode, expected at least one")
        return [self.encode(pixels) for pixels in scans]

    def decode_many(
        self, images: Sequence[EncodedImage], boxes: np.ndarray, *, multimask: bool = False
    ) -> list[Decoded]:
        """See `ManyDecoder`: one after the other, since early features go in too."""
        return [
            self.decode(image, boxes=box[None], multimask=multimask) for image, box in zip(images, boxes, strict=True)
        ]

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """Masks for N prompts, boxes (N, 4), points (N, P, 2) with labels (N, P), or both; and masks (N, h, w).

        Raises:
            ValueError: no prompt at all, or shapes that do not go together.
            TypeError: the image was encoded by a segmenter of another family.
        """
        if not isinstance(image, SamHQImage):
            raise TypeError(f"got a {type(image).__name__}; expected what a segmenter of SAM-HQ's family encoded")
        count = check_prompts(boxes, points, labels)
        low = self._low
        if masks is not None and np.shape(masks) != (count, low, low):
            raise ValueError(f"got masks of shape {np.shape(masks)}, expected {(count, low, low)}")
        grid = self._grid(image, low)
        if count == 0:
            number = 3 if multimask else 1
            empty = torch.zeros(0, number, low, low, device=self._device)
            return Decoded(empty, torch.zeros(0, number, device=self._device), grid)
        scale = torch.tensor([image.input_shape[1] / image.shape[1], image.input_shape[0] / image.shape[0]])
        scale = scale.to(self._device, torch.float32)
        corners = None if boxes is None else self._tensor(boxes).view(-1, 2, 2).mul(scale).view(-1, 4)
        where = None if points is None else (self._tensor(points) - 0.5) * scale
        signs = None if labels is None else torch.as_tensor(np.asarray(labels), device=self._device).long()
        drawn = None if masks is None else self._tensor(masks)
        step = 1 if masks is not None else self._batch
        logits, ious = [], []
        with torch.inference_mode():
            for start in range(0, count, step):
                part = slice(start, start + step)
                found = self._model(
                    image_embeddings=image.embedding.to(self._device),
                    intermediate_embeddings=[image.early.to(self._device)],
                    input_points=None if where is None else where[None, part],
                    input_labels=None if signs is None else signs[None, part],
                    input_boxes=None if corners is None else corners[None, part],
                    input_masks=None if drawn is None else drawn[part, None],
                    multimask_output=multimask,
                )
                logits.append(found.pred_masks[0])
                ious.append(found.iou_scores[0])
        return Decoded(torch.cat(logits), torch.cat(ious), grid)
