"""The family of the first SAM: its ViTs in two layouts, and TinyViT towers like the bundled one.

Its parts are the modules ``sam_*``: `sam_folder` and `sam_checkpoint` read weights, `sam_tower` has timm's
networks for eyes, `sam_attention` is the image encoder's over a whole scan, `sam_decoder` the mask decoder for many
prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.batches import in_batches, views_at_once
from lexiseg.models.lean import LeanCopy
from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.models.segmenters.prompts import check_prompts, three_channels
from lexiseg.models.segmenters.sam_decoder import SharedImage, decode_prompts, share_image
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.values.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from lexiseg.models.families import ModelFiles

NAME = "SAM (config.json of model_type 'sam' or 'sam_tower'; a sam_vit_*.pth)"
_MARK = "image_encoder.pos_embed"
_SURE = 10.0  # logit of what a mask prompt is sure of
_CACHED_ELEMENTS = 1 << 20  # 4 MiB of image tokens, of which the decoder holds a few copies


def recognises(files: ModelFiles) -> bool:
    """A folder of a transformers SamModel or of a `TowerSam`; an original checkpoint."""
    if files.is_folder:
        return files.config.get("model_type") in ("sam", "sam_tower")
    return _MARK in files.keys


def load(files: ModelFiles, *, device: torch.device, precision: str) -> SamSegmenter:
    """The segmenter of a folder or of an original checkpoint."""
    if files.is_folder:
        from lexiseg.models.segmenters.sam_folder import load_sam_folder

        model, processor = load_sam_folder(files)
    else:
        from lexiseg.models.segmenters.sam_checkpoint import load_sam_checkpoint

        model, processor = load_sam_checkpoint(files.place)
    return SamSegmenter(model, processor, name=files.ref, device=device, precision=precision, weights=files.info)


@dataclass(frozen=True, eq=False)
class SamImage(EncodedImage):
    """A scan as SAM's image encoder sees it.

    Attributes:
        embedding: (1, C, h, w) float32.
        input_shape: (h, w) of the scan in pixels of the model's padded square input.
    """

    embedding: Tensor
    input_shape: tuple[int, int]


class SamSegmenter:
    """A transformers SamModel behind the `Segmenter` protocol, whose docstrings hold here.

    Args:
        model: a SamModel.
        processor: its SamImageProcessor: longest side, padding, mean and deviation are taken from it.
        name: how the model was asked for.
        device: where it shall run.
        precision: "auto", "float32" or "bfloat16" for the image encoder; prompts are decoded in float32.
        weights: where the weights come from, for provenance; None for a model made in memory.
        prompt_batch: prompts decoded at once, and masks brought to the scan's grid at once; bounds the
            memory.  None: 32, or on a CPU as many as its cache holds image tokens for (one with SAM's own
            sizes), which is several times faster there.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        device: torch.device,
        precision: str = "auto",
        weights: WeightsInfo | None = None,
        prompt_batch: int | None = None,
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        if hasattr(self._model.vision_encoder, "layers"):  # of a transformer: towers attend by themselves
            from lexiseg.models.segmenters.sam_attention import attend_by_rows

            attend_by_rows(self._model)
        self._processor = processor
        self._name = name
        self._device = device
        self._dtype = resolve_precision(precision, device)
        self._size = int(model.config.vision_config.image_size)
        self._batch = prompt_batch or _prompts_at_once(model.config, device)
        self._takes_masks = _was_taught_masks(model)
        tower = getattr(self._model.vision_encoder, "tower", None)
        self._lean = None if tower is None else LeanCopy(tower, device=device, dtype=self._dtype)
        self.weights = weights

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
        """The SamModel itself, for training and for whoever needs what the protocol does not offer."""
        self._lean = None  # whoever has the model may train it
        return self._model

    @property
    def precision(self) -> str:
        """The number format of the image encoder's matrix products: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def takes_masks(self) -> bool:
        """Whether its mask prompts were trained: weights whose norms are as they were initialised were not."""
        return self._takes_masks

    def encode(self, pixels: FloatArray) -> SamImage:
        """Encode a scan, float32 in [0, 1], shape (H, W) or (H, W, 3); grey is put in all three channels.

        Raises:
            ValueError: the array has another shape.
        """
        return self.encode_many([pixels])[0]

    def encode_many(self, scans: Sequence[FloatArray]) -> list[SamImage]:
        """Encode several scans, some at once: each is padded to the same square.

        Raises:
            ValueError: an array has another shape than `encode` takes, or there is none.
        """
        if not scans:
            raise ValueError("got no scan to encode, expected at least one")
        at_once = views_at_once(self._size, self._device)
        parts = in_batches(scans, at_once, self._encode_together, what="windows", device=self._device)
        return [image for part in parts for image in part]

    def _encode_together(self, scans: Sequence[FloatArray]) -> list[SamImage]:
        prepared = [self._prepare(pixels) for pixels in scans]
        batch = torch.cat([values for values, _ in prepared]).to(self._device)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            embeddings = self._embed(batch).float()
        return [
            # A copy of its own: a view would keep the whole batch in memory.
            SamImage(_grid_of(pixels), embeddings[k : k + 1].clone() if len(scans) > 1 else embeddings, shape)
            for k, (pixels, (_, shape)) in enumerate(zip(scans, prepared, strict=True))
        ]

    def _embed(self, batch: Tensor) -> Tensor:
        """Padded squares (B, 3, S, S) to embeddings (B, C, h, w)."""
        lean = self._lean
        if lean is None:
            return self._model.get_image_embeddings(batch)  # type: ignore[no-any-return]
        found: Tensor = lean.made.forward_features(batch.contiguous(memory_format=torch.channels_last))
        return found.contiguous()

    def _prepare(self, pixels: FloatArray) -> tuple[Tensor, tuple[int, int]]:
        """A scan in the padded square (1, 3, S, S), and how much of it the scan fills."""
        prepared = self._processor(
            images=three_channels(pixels),
            do_rescale=False,
            do_convert_rgb=False,
            input_data_format="channels_first",
            return_tensors="pt",
        )
        height, width = (int(side) for side in prepared["reshaped_input_sizes"][0])
        return prepared["pixel_values"], (height, width)

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

        Coordinates are scaled as SAM scales them: by the resized scan's size over the scan's, for each axis.
        SAM counts points by pixel index and adds the half pixel itself, so a point loses its half pixel
        first.

        Raises:
            ValueError: no prompt at all, or shapes that do not go together.
            TypeError: the image was encoded by a segmenter of another family.
            UnsupportedByModel: masks are given, and its weights for them were never trained.
        """
        image = _own(image)
        count = check_prompts(boxes, points, labels)
        low = self._low
        if masks is not None:
            self._check_masks(masks, (count, low, low))
        grid = self._grid(image, low)
        if count == 0:
            each = 3 if multimask else 1
            empty = torch.zeros(0, each, low, low, device=self._device)
            return Decoded(empty, torch.zeros(0, each, device=self._device), grid)
        scale = torch.tensor(
            [image.input_shape[1] / image.shape[1], image.input_shape[0] / image.shape[0]],
            dtype=torch.float32,
            device=self._device,
        )
        corners = None if boxes is None else self._tensor(boxes).view(-1, 2, 2).mul(scale).view(-1, 4)
        where = None if points is None else (self._tensor(points) - 0.5) * scale
        signs = None if labels is None else torch.as_tensor(np.asarray(labels), device=self._device).long()
        logits: list[Tensor] = []
        ious: list[Tensor] = []
        with torch.inference_mode():
            embedding = image.embedding.to(self._device)
            prompts, _ = self._model.prompt_encoder(
                None if where is None else where[None],
                None if signs is None else signs[None],
                None if corners is None else corners[None],
                None,
            )
            for part, shared in self._questions(prompts[0], embedding, masks):
                drawn, estimates = decode_prompts(self._model, shared, part, multimask=multimask)
                logits.append(drawn)
                ious.append(estimates)
        return Decoded(torch.cat(logits), torch.cat(ious), grid)

    def decode_many(
        self, images: Sequence[EncodedImage], boxes: np.ndarray, *, multimask: bool = False
    ) -> list[Decoded]:
        """See `ManyDecoder`.

        Raises:
            ValueError: as `decode`, or not as many boxes as images.
            TypeError: as `decode`.
        """
        seen = [_own(image) for image in images]
        if check_prompts(boxes, None, None) != len(seen):
            raise ValueError(f"got {len(boxes)} boxes and {len(seen)} images, expected as many")
        scales = [(image.input_shape[1] / image.shape[1], image.input_shape[0] / image.shape[0]) * 2 for image in seen]
        corners = self._tensor(boxes) * self._tensor(np.array(scales))

        def decode(part: Sequence[int]) -> list[Decoded]:
            shown = [seen[k] for k in part]
            with torch.inference_mode():
                prompts, _ = self._model.prompt_encoder(None, None, corners[None, part[0] : part[-1] + 1], None)
                shared = share_image(self._model, torch.cat([image.embedding for image in shown]).to(self._device))
                logits, ious = decode_prompts(self._model, shared, prompts[0], multimask=multimask)
            return [
                Decoded(logits[k : k + 1], ious[k : k + 1], self._grid(image, self._low))
                for k, image in enumerate(shown)
            ]

        parts = in_batches(range(len(seen)), self._batch, decode, what="boxes", device=self._device)
        return [decoded for part in parts for decoded in part]

    def _questions(
        self, prompts: Tensor, embedding: Tensor, masks: np.ndarray | None
    ) -> Iterator[tuple[Tensor, SharedImage]]:
        """Prompts that are decoded at once, with the image as they see it: each mask makes it another one."""
        if masks is None:
            shared = share_image(self._model, embedding)
            for part in torch.split(prompts, self._batch):
                yield part, shared
            return
        seen = self._model.prompt_encoder.mask_embed(self._tensor(masks)[:, None])
        for part, dense in zip(torch.split(prompts, 1), torch.split(seen, 1), strict=True):
            yield part, share_image(self._model, embedding, dense)

    @property
    def _low(self) -> int:
        """Side of the model's low resolution."""
        return 4 * int(self._model.config.prompt_encoder_config.image_embedding_size)

    def _check_masks(self, masks: np.ndarray, expected: tuple[int, ...]) -> None:
        if not self._takes_masks:
            raise UnsupportedByModel(
                f"{self._name}: it was not taught to read masks as prompts; ask it by boxes and points"
            )
        if np.shape(masks) != expected:
            raise ValueError(f"got masks of shape {np.shape(masks)}, expected {expected}")

    def shrink(self, mask: BoolArray, image: EncodedImage) -> np.ndarray:
        """A mask on the scan's grid as logits (h, w): 10 where all of a cell is inside, -10 where nothing is.

        SAM was taught by logits of its own answers, which are about as large. Bilinear with antialiasing to the
        resized scan, the padding outside, the mean of each cell.

        Raises:
            TypeError: as `decode`.
            ValueError: the mask has another shape than the scan.
        """
        image = _own(image)
        if mask.shape != image.shape:
            raise ValueError(f"got a mask of shape {mask.shape}, expected {image.shape}")
        whole = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
        seen = interpolate(whole, image.input_shape, mode="bilinear", align_corners=False, antialias=True)
        square = torch.zeros(1, 1, self._size, self._size)
        square[..., : image.input_shape[0], : image.input_shape[1]] = seen.clamp(0, 1)
        share = adaptive_avg_pool2d(square, self._low)[0, 0]
        return ((2 * share - 1) * _SURE).numpy()

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """Low-resolution logits (..., h, w) to logits on the scan's grid (..., H, W), as SAM does it.

        Bilinear to the padded input, the padding cut off, bilinear to the scan.

        Raises:
            TypeError: as `decode`.
        """
        image = _own(image)
        lead = logits.shape[:-2]
        flat = logits.reshape(-1, 1, *logits.shape[-2:])
        height, width = image.input_shape
        with torch.inference_mode():
            parts = []
            for start in range(0, len(flat), self._batch):
                part = flat[start : start + self._batch]
                padded = interpolate(part, (self._size, self._size), mode="bilinear", align_corners=False)
                scan = padded[..., :height, :width]
                parts.append(interpolate(scan, image.shape, mode="bilinear", align_corners=False))
            whole = torch.cat(parts) if parts else flat.new_zeros(0, 1, *image.shape)
        return whole.reshape(*lead, *image.shape)

    def _grid(self, image: SamImage, low: int) -> MaskGrid:
        side = self._size / low  # of a cell, in pixels of the padded input
        (height, width), (rows, columns) = image.shape, image.input_shape
        return MaskGrid(
            shape=(max(1, round(rows / side)), max(1, round(columns / side))),
            cell=(side * (width / columns), side * (height / rows)),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.float32), device=self._device)


def _own(image: EncodedImage) -> SamImage:
    if not isinstance(image, SamImage):
        raise TypeError(f"got a {type(image).__name__}; expected what a segmenter of SAM's family encoded")
    return image


def _grid_of(pixels: FloatArray) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])


def _was_taught_masks(model: Any) -> bool:
    norm = model.prompt_encoder.mask_embed.layer_norm1
    return not (bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()))


def _prompts_at_once(config: Any, device: torch.device) -> int:
    if device.type != "cpu":
        return 32
    tokens = int(config.prompt_encoder_config.image_embedding_size) ** 2
    size = tokens * int(config.mask_decoder_config.hidden_size)
    return max(1, min(32, _CACHED_ELEMENTS // size))
