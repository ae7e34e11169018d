"""SAM 2 with its memory of earlier planes, behind the `Tracker` protocol."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lexiseg.models.protocols import Decoded, EncodedImage
from lexiseg.models.segmenters.sam2_segmenter import Sam2Segmenter, own_image
from lexiseg.values.arrays import BoolArray

_KEPT = 15  # planes besides the first: as many as the memory looks back on


@dataclass(frozen=True, eq=False)
class Memory:
    """Planes that a target was seen in; made by `Sam2Tracker.remember`.

    Attributes:
        planes: first the one that began, then the latest.
        count: how many there were in all.
    """

    planes: tuple[dict[str, Tensor], ...]
    count: int


class Sam2Tracker(Sam2Segmenter):
    """A Sam2VideoModel: a `Segmenter` that is a `Tracker` too; arguments as `Sam2Segmenter`."""

    def remember(self, image: EncodedImage, mask: BoolArray, memory: Memory | None = None) -> Memory:
        """A memory with one more plane, whose mask is bool (H, W); the first one where there is none.

        Raises:
            TypeError: as `decode`.
        """
        image = own_image(image)
        with torch.inference_mode():
            whole = self._square(mask, image, self._size).to(self._device)
            fine = [image.fine.to(self._device), image.middle.to(self._device)]
            coarse = image.coarse.to(self._device)
            seen = self._model._use_mask_as_output(coarse, fine, whole)
            features, positions = self._model._encode_new_memory(
                current_vision_feats=coarse.flatten(2).permute(2, 0, 1),
                pred_masks_high_res=seen.high_res_masks,
                object_score_logits=seen.object_score_logits,
                is_mask_from_pts=True,
            )
        plane = {
            "maskmem_features": features,
            "maskmem_pos_enc": positions,
            "object_pointer": seen.object_pointer,
        }
        if memory is None:
            return Memory((plane,), 1)
        first, *later = memory.planes
        return Memory((first, *[*later, plane][-_KEPT:]), memory.count + 1)

    def follow(self, image: EncodedImage, memory: Memory) -> Decoded:
        """The target in another plane, N = M = 1: a mask that is nowhere positive where it has ended.

        Planes are counted as in a scan of 16 or more, the most that the memory looks back on.

        Raises:
            TypeError: as `decode`.
        """
        image = own_image(image)
        first, *later = memory.planes
        kept = {
            "cond_frame_outputs": {0: first},
            "non_cond_frame_outputs": {memory.count - len(later) + k: plane for k, plane in enumerate(later)},
        }
        session: Any = SimpleNamespace(output_dict_per_obj={0: kept}, dtype=torch.float32)
        assert self._positions is not None
        with torch.inference_mode():
            conditioned = self._model._prepare_memory_conditioned_features(
                inference_session=session,
                frame_idx=memory.count,
                obj_idx=0,
                is_initial_conditioning_frame=False,
                current_vision_features=image.coarse.to(self._device).flatten(2).permute(2, 0, 1),
                current_vision_positional_embeddings=self._positions.to(self._device),
                num_total_frames=memory.count + 1,
                streaming=True,
            )
            found = self._model._single_frame_forward(
                image_embeddings=[image.fine.to(self._device), image.middle.to(self._device), conditioned],
                multimask_output=self._model._use_multimask(False, None),
            )
        rating = found.iou_scores[0].max(-1, keepdim=True).values
        return Decoded(
            found.pred_masks[:1].reshape(1, 1, self._low, self._low), rating.reshape(1, 1), self._grid(image)
        )
