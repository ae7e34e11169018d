"""Visual prompts: how one region of a scan is shown to an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lexiseg.models.batches import in_batches
from lexiseg.models.protocols import Encoder
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.proposals.settings import CropSettings
from lexiseg.saliency.framing import frame_scan
from lexiseg.values.arrays import BoolArray, FloatArray

_RED = np.array([1.0, 0.0, 0.0], np.float32)
_LINE = 2 / 224


@dataclass(frozen=True, eq=False)
class Crop:
    """What the encoder is shown of one proposal, and of which one: neither goes anywhere without the other.

    Attributes:
        index: the proposal's place in its `Proposals`.
        pixels: float32 (3, S, S) in [0, 1], the encoder's input.
    """

    index: int
    pixels: Tensor


@dataclass(frozen=True, eq=False)
class CropEmbeddings:
    """Embeddings of crops, with the proposals they are of.

    Attributes:
        indices: for each row the proposal's place in its `Proposals`.
        rows: (N, E) unit length.
    """

    indices: tuple[int, ...]
    rows: Tensor


def make_crops(
    pixels: FloatArray,
    proposals: Proposals,
    settings: CropSettings,
    *,
    size: int,
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Iterator[Crop]:
    """One crop for each proposal, in order, made when it is asked for.

    What is shown keeps its aspect and lies in the middle of the square.

    Args:
        pixels: the scan, float32 in [0, 1], (H, W) or (H, W, 3).
        proposals: of this scan.
        settings: see `CropSettings`.
        size: side S of the encoder's input.
        fill: RGB in [0, 1] of padding and of what is masked out: the encoder's mean colour.

    Raises:
        ValueError: the proposals are of a scan of another shape.
    """
    if pixels.shape[:2] != proposals.shape:
        raise ValueError(f"scan has shape {pixels.shape[:2]}, the proposals are of {proposals.shape}")
    paint = VISUAL_PROMPTS[settings.visual_prompt]
    colour = np.array(fill, np.float32)
    for index, proposal in enumerate(proposals):
        shown = paint(pixels, proposal, settings, colour)
        (frame,) = frame_scan((shown.shape[0], shown.shape[1]), size=size, fill=fill)
        yield Crop(index, frame.apply(shown)[0])


def embed_crops(encoder: Encoder, pixels: FloatArray, proposals: Proposals, settings: CropSettings) -> CropEmbeddings:
    """Embeddings of all proposals' crops, `settings.batch` of them per forward; or of all from one forward.

    Args:
        encoder: the vision-language model.
        pixels: the scan, float32 in [0, 1], (H, W) or (H, W, 3).
        proposals: of this scan; there may be none.
        settings: see `CropSettings`.

    Raises:
        UnsupportedByModel: they shall be pooled or attended to, and the encoder cannot do that.
    """
    if settings.seen != "cropped":
        whole = pool_regions if settings.seen == "pooled" else attend_regions
        return whole(encoder, pixels, proposals)
    red, green, blue = (float(value) for value in encoder.mean.flatten().tolist())
    crops = make_crops(pixels, proposals, settings, size=encoder.input_size, fill=(red, green, blue))
    indices: list[int] = []
    rows: list[Tensor] = []

    def embed(some: Sequence[Crop]) -> Tensor:
        stacked = torch.stack([crop.pixels for crop in some]).to(encoder.device)
        return encoder.encode_image(stacked).detach().float()

    # Crops are made when their batch is due: all at once they would fill the memory.
    for batch in _batches(crops, settings.batch):
        indices += [crop.index for crop in batch]
        rows += in_batches(batch, settings.batch, embed, what="crops", device=encoder.device)
    return CropEmbeddings(tuple(indices), torch.cat(rows) if rows else torch.zeros(0, 0))


def pool_regions(encoder: Encoder, pixels: FloatArray, proposals: Proposals) -> CropEmbeddings:
    """Embeddings of regions out of one forward: those of the scan's positions, averaged in each mask.

    A position counts by how much of it the mask covers; of a mask that is lost in the letterbox, the nearest one.

    Args:
        encoder: the vision-language model.
        pixels: the scan, float32 in [0, 1], (H, W) or (H, W, 3).
        proposals: of this scan; there may be none.

    Raises:
        UnsupportedByModel: the encoder cannot embed positions.
        ValueError: the proposals are of a scan of another shape.
    """
    if not len(proposals):
        return CropEmbeddings((), torch.zeros(0, 0))
    view, masks = _framed(encoder, pixels, proposals)
    dense = encoder.encode_dense(view)[0].detach().float()
    weights = F.adaptive_avg_pool2d(masks[:, None], (dense.shape[-2], dense.shape[-1]))[:, 0].to(dense)
    rows = torch.einsum("nhw,chw->nc", weights, dense)
    return CropEmbeddings(tuple(range(len(proposals))), F.normalize(rows, dim=1))


def attend_regions(encoder: Encoder, pixels: FloatArray, proposals: Proposals) -> CropEmbeddings:
    """Embeddings of regions out of one forward: what the encoder's class token says that attends to a mask alone.

    Arguments and errors as of `pool_regions`; the encoder must be a ViT that pools its class token.
    """
    if not len(proposals):
        return CropEmbeddings((), torch.zeros(0, 0))
    view, masks = _framed(encoder, pixels, proposals)
    rows = encoder.encode_regions(view, masks).detach().float()
    return CropEmbeddings(tuple(range(len(proposals))), rows)


def _framed(encoder: Encoder, pixels: FloatArray, proposals: Proposals) -> tuple[Tensor, Tensor]:
    """The scan (1, 3, S, S) and its regions (N, S, S) as the encoder sees them, none of them empty."""
    if pixels.shape[:2] != proposals.shape:
        raise ValueError(f"scan has shape {pixels.shape[:2]}, the proposals are of {proposals.shape}")
    size, shape = encoder.input_size, proposals.shape
    red, green, blue = (float(value) for value in encoder.mean.flatten().tolist())
    (frame,) = frame_scan(shape, size=size, fill=(red, green, blue))
    (place,) = frame_scan(shape, size=size, fill=(0.0, 0.0, 0.0))
    masks = []
    for proposal in proposals:
        mask = place.apply(proposal.mask.astype(np.float32))[0, 0]
        if not bool(mask.sum() > 0):
            x0, y0, x1, y1 = proposal.box
            row = place.place.top + place.place.height / shape[0] * (y0 + y1) / 2
            column = place.place.left + place.place.width / shape[1] * (x0 + x1) / 2
            mask[int(row), int(column)] = 1.0
        masks.append(mask)
    return frame.apply(pixels).to(encoder.device), torch.stack(masks).to(encoder.device)


def _batches(crops: Iterator[Crop], size: int) -> Iterator[list[Crop]]:
    batch: list[Crop] = []
    for crop in crops:
        batch.append(crop)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _masked(pixels: FloatArray, proposal: Proposal, settings: CropSettings, fill: FloatArray) -> FloatArray:
    """The proposal's box with all that is not the proposal masked out."""
    rows, columns = _window(proposal, pixels.shape, settings.margin or 0.0)
    inside = proposal.mask[rows, columns, None]
    return np.where(inside, _coloured(pixels[rows, columns]), fill)


def _expanded(pixels: FloatArray, proposal: Proposal, settings: CropSettings, _: FloatArray) -> FloatArray:
    """The proposal's box and what lies around it."""
    rows, columns = _window(proposal, pixels.shape, 0.25 if settings.margin is None else settings.margin)
    return pixels[rows, columns]


def _red_box(pixels: FloatArray, proposal: Proposal, _: CropSettings, __: FloatArray) -> FloatArray:
    """The whole scan with a red frame just around the proposal's box."""
    x0, y0, x1, y1 = proposal.box
    filled = np.zeros(pixels.shape[:2], np.bool_)
    filled[y0:y1, x0:x1] = True
    return _outlined(pixels, filled)


def _greyed(pixels: FloatArray, proposal: Proposal, settings: CropSettings, fill: FloatArray) -> FloatArray:
    """The whole scan, all that is not the proposal faded towards the mean colour."""
    coloured = _coloured(pixels)
    weight = np.where(proposal.mask, np.float32(0), np.float32(settings.dim))[..., None]
    faded: FloatArray = coloured + weight * (fill - coloured)
    return faded


def _contour(pixels: FloatArray, proposal: Proposal, _: CropSettings, __: FloatArray) -> FloatArray:
    """The whole scan with a red line just around the proposal."""
    return _outlined(pixels, proposal.mask)


VisualPrompt = Callable[[FloatArray, Proposal, CropSettings, FloatArray], FloatArray]
"""(scan, proposal, settings, fill colour) -> what is shown, (h, w) or (h, w, 3) in [0, 1]."""

VISUAL_PROMPTS: Mapping[str, VisualPrompt] = {
    "masked": _masked,
    "expanded": _expanded,
    "red-box": _red_box,
    "greyed": _greyed,
    "contour": _contour,
}
"""SaLIP's five ways to show a region (Aleem et al., CVPRW 2024); the paper's choice comes first."""


def _window(proposal: Proposal, shape: tuple[int, ...], margin: float) -> tuple[slice, slice]:
    """Rows and columns of the proposal's box, grown; with its last row and column."""
    x0, y0, x1, y1 = proposal.box
    by_x, by_y = round(margin * (x1 - x0)), round(margin * (y1 - y0))
    rows = slice(max(0, y0 - by_y), min(shape[0], y1 + by_y))
    return rows, slice(max(0, x0 - by_x), min(shape[1], x1 + by_x))


def _outlined(pixels: FloatArray, mask: BoolArray) -> FloatArray:
    """The scan with a red line around a mask, which it does not hide.

    The line is about two pixels wide once the scan is in an input of 224 pixels; where the mask reaches the
    scan's border there is no room for it.
    """
    width = max(1, math.ceil(_LINE * max(mask.shape)))
    # Chebyshev distance: a box's frame keeps its corners, and a line is equally wide everywhere.
    distance = ndimage.distance_transform_cdt(~mask, metric="chessboard")
    ring = (distance > 0) & (distance <= width)
    return np.where(ring[..., None], _RED, _coloured(pixels))


def _coloured(pixels: FloatArray) -> FloatArray:
    """(h, w, 3) of a grey or colour scan; grey is not copied."""
    return pixels if pixels.ndim == 3 else np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
