"""SAM 3 with its own text, as transformers writes it: a phrase to masks, each with a score, and a presence.

The detector (Carion et al., "SAM 3: Segment anything with concepts", 2025) reads the phrase by a text tower of its own
and answers with some hundred candidates. Where the folder has the tracker beside it, as the published one has, that
one answers boxes and clicks; both see by one image encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import resize

from lexiseg.errors import BadPhrase, BrokenWeights, UnsupportedByModel
from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.models.protocols import Decoded, EncodedImage, Instances, Segmenter
from lexiseg.models.segmenters import sam3_tracker
from lexiseg.models.segmenters.prompts import three_channels
from lexiseg.values.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from lexiseg.models.families import ModelFiles

NAME = "SAM 3 (config.json of model_type 'sam3' or 'sam3_video')"
_HALF = (0.5, 0.5, 0.5)
_LENGTH = 32  # tokens that the published text tower reads


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' Sam3Model, or of Sam3VideoModel, which has one inside."""
    return files.config.get("model_type") in ("sam3", "sam3_video")


def load(files: ModelFiles, *, device: torch.device, precision: str) -> Sam3Text:
    """The detector of a folder, and its tracker where it has one.

    Raises:
        BrokenWeights: as any family; or the folder has no tokenizer.
    """
    from transformers import Sam3Config, Sam3Model

    from lexiseg.models.from_transformers import load_folder, pixel_statistics

    whole = files.config.get("model_type") == "sam3_video"
    config = files.config.get("detector_config") if whole else files.config
    detector = load_folder(
        files,
        Sam3Model,
        Sam3Config,
        config=config or {},
        rename=lambda name: name.removeprefix("detector_model."),
        idle=(r"embeddings\.position_ids$",),
    )
    tracker: Any = None
    if whole:
        tracker = sam3_tracker.load(files, device=device, precision=precision)
        # One image encoder for both: it is most of the weights.
        tracker.model.vision_encoder.backbone = detector.vision_encoder.backbone
    mean, std = pixel_statistics(files, _HALF, _HALF)
    return Sam3Text(
        detector, _tokenizer(files), files=files, tracker=tracker, device=device, precision=precision,
        statistics=(mean, std),
    )  # fmt: skip


class Sam3Text:
    """A Sam3Model behind the protocols `TextSegmenter` and `Segmenter`, whose docstrings hold here.

    Args:
        detector: transformers' Sam3Model.
        tokenizer: transformers' tokenizer of its text tower.
        files: where it comes from.
        tracker: answers boxes and clicks; None where the folder has none.
        device: where it shall run.
        precision: "auto", "float32" or "bfloat16" for the image encoder.
        statistics: mean and deviation of the training images, three channels each.
    """

    def __init__(
        self,
        detector: Any,
        tokenizer: Any,
        *,
        files: ModelFiles,
        tracker: Segmenter | None,
        device: torch.device,
        precision: str,
        statistics: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        self._detector = detector.eval().requires_grad_(False).to(device)
        self._tokenizer, self._tracker, self._device = tokenizer, tracker, device
        self._name, self.weights = files.ref, files.info
        self._dtype = resolve_precision(precision, device)
        side = detector.config.image_size
        self._size = int(side if isinstance(side, int) else side[0])
        self._mean, self._std = (torch.tensor(each, dtype=torch.float32).view(3, 1, 1) for each in statistics)

    @property
    def name(self) -> str:
        """How the model was asked for."""
        return self._name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    @property
    def precision(self) -> str:
        """The number format of the image encoder's matrix products: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    def find(self, pixels: FloatArray, phrases: Sequence[str]) -> list[Instances]:
        """See `TextSegmenter.find`; the scan is stretched to a square and encoded once for all phrases.

        Raises:
            BadPhrase: a phrase is longer than the text tower reads.
            ValueError: the array has another shape.
        """
        square = resize(three_channels(pixels), [self._size, self._size], antialias=True)
        batch = ((square - self._mean) / self._std)[None].to(self._device)
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        with torch.inference_mode():
            with autocast(self._device, self._dtype):
                seen = self._detector.get_vision_features(batch)
            for name in ("fpn_hidden_states", "fpn_position_encoding"):
                seen[name] = tuple(each.float() for each in seen[name])
            return [self._instances(self._detector(vision_embeds=seen, **self._read(text)), shape) for text in phrases]

    def _read(self, text: str) -> dict[str, Tensor]:
        count = len(self._tokenizer(text)["input_ids"])
        if count > self._length:
            raise BadPhrase(f"{self._name} reads {self._length} tokens, and the phrase {text[:60]!r} has {count}")
        read = self._tokenizer(text, padding="max_length", max_length=self._length, return_tensors="pt")
        return {name: read[name].to(self._device) for name in ("input_ids", "attention_mask")}

    @property
    def _length(self) -> int:
        return min(_LENGTH, int(self._detector.config.text_config.max_position_embeddings))

    def _instances(self, found: Any, shape: tuple[int, int]) -> Instances:
        presence = float(found.presence_logits.float().sigmoid().reshape(-1)[0])
        scores = found.pred_logits[0].float().sigmoid() * presence
        height, width = shape
        scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=self._device)
        return Instances(shape, presence, scores, found.pred_boxes[0].float() * scale, found.pred_masks[0].float())

    def probabilities(self, instances: Instances, chosen: Sequence[int]) -> FloatArray:
        """See `TextSegmenter.probabilities`: bilinear, as published."""
        if not len(chosen):
            return np.zeros((0, *instances.shape), np.float32)
        with torch.inference_mode():
            low = instances.logits[list(chosen)].sigmoid()
            whole = interpolate(low[None], instances.shape, mode="bilinear", align_corners=False)[0]
        found: FloatArray = whole.cpu().numpy()
        return found

    @property
    def takes_masks(self) -> bool:
        """Whether a mask can be a prompt: the tracker reads one."""
        return self._tracker is not None and self._tracker.takes_masks

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """See `Segmenter.encode`; the tracker's."""
        return self._asked().encode(pixels)

    def encode_many(self, scans: Sequence[FloatArray]) -> list[EncodedImage]:
        """See `Segmenter.encode_many`; the tracker's."""
        return self._asked().encode_many(scans)

    def decode(self, image: EncodedImage, **prompts: Any) -> Decoded:
        """See `Segmenter.decode`; the tracker's."""
        return self._asked().decode(image, **prompts)

    def shrink(self, mask: BoolArray, image: EncodedImage) -> np.ndarray:
        """See `Segmenter.shrink`; the tracker's."""
        return self._asked().shrink(mask, image)

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """See `Segmenter.upsample`; the tracker's."""
        return self._asked().upsample(logits, image)

    def _asked(self) -> Segmenter:
        if self._tracker is None:
            raise UnsupportedByModel(
                f"{self._name} holds SAM 3's detector alone, which answers phrases; boxes and clicks need its tracker, "
                "as in facebook/sam3"
            )
        return self._tracker


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import AutoTokenizer

    from lexiseg.models.encoders.open_clip_text import has_tokenizer
    from lexiseg.models.families import one_line

    if not has_tokenizer(files.place):
        raise BrokenWeights(f"{files.place} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt")
    try:
        made = AutoTokenizer.from_pretrained(str(files.place), local_files_only=True, trust_remote_code=False)
        one, other = (made(text)["input_ids"] for text in ("left lung", "breast tumor"))
    except Exception as error:
        raise BrokenWeights(f"the tokenizer in {files.place} cannot be read: {one_line(error)}") from error
    if one == other:
        raise BrokenWeights(f"the tokenizer in {files.place} reads two different phrases alike: its files do not fit")
    return made
