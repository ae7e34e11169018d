"""SAM 2's kin behind the `Segmenter` protocol: a scan stretched to a square, and three levels of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import resize

from lexiseg.models.batches import in_batches, views_at_once
from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.models.segmenters.prompts import check_prompts, three_channels
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.values.arrays import BoolArray, FloatArray

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SURE = 10.0  # logit of what a mask prompt is sure of
_PROMPTS = 16  # decoded at once


@dataclass(frozen=True, eq=False)
class Sam2Image(EncodedImage):
    """A scan as SAM 2's image encoder sees it.

    Attributes:
        fine: (1, C / 8, 4 h, 4 w) float32.
        middle: (1, C / 4, 2 h, 2 w) float32.
        coarse: (1, C, h, w) float32, to which nothing that concerns memory was added.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor


class Sam2Segmenter:
    """A Sam2Model, Sam2VideoModel or one of their kin behind the `Segmenter` protocol, whose docstrings hold here.

    Args:
        model: transformers' model with `get_image_features`, `prompt_encoder` and `mask_decoder`.
        name: how the model was asked for.
        device: where it shall run.
        precision: "auto", "float32" or "bfloat16" for the image encoder; prompts are decoded in float32.
        weights: where the weights come from, for provenance; None for a model made in memory.
        mean: of the training images, three channels in [0, 1].
        std: their deviation.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        device: torch.device,
        precision: str = "auto",
        weights: WeightsInfo | None = None,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._name = name
        self._device = device
        self._dtype = resolve_precision(precision, device)
        self.weights = weights
        side = model.config.prompt_encoder_config.image_size
        self._size = int(side if isinstance(side, int) else side[0])
        self._mean, self._std = (torch.tensor(each, dtype=torch.float32).view(3, 1, 1) for each in (mean, std))
        self._positions: Tensor | None = None

    @property
    def name(self) -> str:
        """How the model was asked for."""
        return self._name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    @property
    def model(self) -> Any:
        """transformers' model itself."""
        return self._model

    @property
    def precision(self) -> str:
        """The number format of the image encoder's matrix products: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def takes_masks(self) -> bool:
        """Whether a mask can be a prompt: all published weights were taught to read one."""
        return True

    def encode(self, pixels: FloatArray) -> Sam2Image:
        """Encode a scan, float32 in [0, 1], shape (H, W) or (H, W, 3); grey is put in all three channels.

        Raises:
            ValueError: the array has another shape.
        """
        return self.encode_many([pixels])[0]

    def encode_many(self, scans: Sequence[FloatArray]) -> list[Sam2Image]:
        """Encode several scans of any sizes, some at once.

        Raises:
            ValueError: an array has another shape than `encode` takes, or there is none.
        """
        if not scans:
            raise ValueError("got no scan to encode, expected at least one")
        at_once = views_at_once(self._size, self._device)
        parts = in_batches(scans, at_once, self._encode_together, what="windows", device=self._device)
        return [image for part in parts for image in part]

    def _encode_together(self, scans: Sequence[FloatArray]) -> list[Sam2Image]:
        batch = torch.stack([self._prepare(pixels) for pixels in scans]).to(self._device)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            found = self._model.get_image_features(batch, return_dict=True)
        maps = []
        for flat, (height, width) in zip(found.fpn_hidden_states, self._model.backbone_feature_sizes, strict=False):
            maps.append(flat.float().permute(1, 2, 0).reshape(len(scans), -1, height, width))
        if self._positions is None:
            self._positions = found.fpn_position_encoding[-1][:, :1].float()
        shapes = [(int(pixels.shape[0]), int(pixels.shape[1])) for pixels in scans]
        # Copies of their own where there are several: a view would keep the whole batch in memory.
        own = [[each[k : k + 1].clone() if len(scans) > 1 else each for each in maps] for k in range(len(scans))]
        return [Sam2Image(shape, *levels) for shape, levels in zip(shapes, own, strict=True)]

    def _prepare(self, pixels: FloatArray) -> Tensor:
        """A scan stretched to the square (3, S, S), normalised."""
        square = resize(three_channels(pixels), [self._size, self._size], antialias=True)
        return torch.as_tensor((square - self._mean) / self._std)

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

        SAM 2 counts points by pixel index and adds half a pixel of its square itself, so a point loses half a pixel
        of the scan first.

        Raises:
            ValueError: no prompt at all, or shapes that do not go together.
            TypeError: the image was encoded by a segmenter of another family.
        """
        image = own_image(image)
        count = check_prompts(boxes, points, labels)
        low = self._low
        if masks is not None and np.shape(masks) != (count, low, low):
            raise ValueError(f"got masks of shape {np.shape(masks)}, expected {(count, low, low)}")
        if count == 0:
            number = 3 if multimask else 1
            empty = torch.zeros(0, number, low, low, device=self._device)
            return Decoded(empty, torch.zeros(0, number, device=self._device), self._grid(image))
        scale = torch.tensor([self._size / image.shape[1], self._size / image.shape[0]], device=self._device)
        corners = None if boxes is None else (self._tensor(boxes).view(-1, 2, 2) * scale).view(-1, 4)
        where = None if points is None else (self._tensor(points) - 0.5) * scale
        signs = None if labels is None else torch.as_tensor(np.asarray(labels), device=self._device).int()
        drawn = None if masks is None else self._tensor(masks)
        image_levels = self._levels(image)
        logits, ious = [], []
        with torch.inference_mode():
            for start in range(0, count, _PROMPTS):
                part = slice(start, start + _PROMPTS)
                found = self._ask(
                    image_levels,
                    *(None if each is None else each[part] for each in (where, signs, corners, drawn)),
                    multimask=multimask,
                )
                logits.append(found[0])
                ious.append(found[1])
        return Decoded(torch.cat(logits), torch.cat(ious), self._grid(image))

    def _ask(
        self,
        levels: Sequence[Tensor],
        where: Tensor | None,
        signs: Tensor | None,
        corners: Tensor | None,
        drawn: Tensor | None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and IoUs (N, M)."""
        if drawn is None:
            return self._decoded(levels, where, signs, corners, None, multimask=multimask)
        # A mask prompt is added to the image, so that each is asked on its own.
        each = []
        for k in range(len(drawn)):
            place, sign, corner = (None if t is None else t[k : k + 1] for t in (where, signs, corners))
            each.append(self._decoded(levels, place, sign, corner, drawn[k : k + 1, None], multimask=multimask))
        return torch.cat([found[0] for found in each]), torch.cat([found[1] for found in each])

    def _decoded(
        self,
        levels: Sequence[Tensor],
        where: Tensor | None,
        signs: Tensor | None,
        corners: Tensor | None,
        drawn: Tensor | None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = self._model.prompt_encoder(
            input_points=None if where is None else where[None],
            input_labels=None if signs is None else signs[None],
            input_boxes=None if corners is None else corners[None],
            input_masks=drawn,
        )
        found, iou, *_ = self._model.mask_decoder(
            image_embeddings=levels[-1],
            image_positional_embeddings=self._model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=list(levels[:-1]),
        )
        return found[0], iou[0]

    def shrink(self, mask: BoolArray, image: EncodedImage) -> np.ndarray:
        """A mask on the scan's grid as logits (h, w): 10 where all of a cell is inside, -10 where nothing is.

        Raises:
            TypeError: as `decode`.
            ValueError: the mask has another shape than the scan.
        """
        return ((2 * self._square(mask, image, self._low) - 1) * _SURE)[0, 0].numpy()

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """Low-resolution logits (..., h, w) to logits on the scan's grid (..., H, W), bilinear.

        Raises:
            TypeError: as `decode`.
        """
        image = own_image(image)
        flat = logits.reshape(-1, 1, *logits.shape[-2:])
        with torch.inference_mode():
            parts = [interpolate(part, image.shape, mode="bilinear") for part in torch.split(flat, _PROMPTS)]
            whole = torch.cat(parts) if len(flat) else flat.new_zeros(0, 1, *image.shape)
        return whole.reshape(*logits.shape[:-2], *image.shape)

    @property
    def _low(self) -> int:
        """Side of the model's low resolution."""
        return int(self._model.prompt_encoder.mask_input_size[0])

    def _levels(self, image: Sam2Image) -> list[Tensor]:
        alone = image.coarse.to(self._device) + self._model.no_memory_embedding.view(1, -1, 1, 1)
        return [image.fine.to(self._device), image.middle.to(self._device), alone]

    def _square(self, mask: BoolArray, image: EncodedImage, side: int) -> Tensor:
        image = own_image(image)
        if mask.shape != image.shape:
            raise ValueError(f"got a mask of shape {mask.shape}, expected {image.shape}")
        whole = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
        return interpolate(whole, (side, side), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)

    def _grid(self, image: Sam2Image) -> MaskGrid:
        low = self._low
        return MaskGrid(shape=(low, low), cell=(image.shape[1] / low, image.shape[0] / low))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.float32), device=self._device)


def own_image(image: EncodedImage) -> Sam2Image:
    if not isinstance(image, Sam2Image):
        raise TypeError(f"got a {type(image).__name__}; expected what a segmenter of SAM 2's family encoded")
    return image
