"""How a scan of any shape gets into an encoder's square input, and how a map gets back, exactly.

Every view is one affine correspondence without rotation: a rectangle of whole scan pixels (the window) fills
a rectangle of whole input pixels (the place).  Pixel ``i`` covers ``[i, i + 1)`` with its centre at ``i +
0.5`` on the scan, the input and the map alike, so going there and back moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.saliency.settings import FramingMode
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True)
class Rectangle:
    """Whole pixels of a grid: rows top .. top + height - 1, columns left .. left + width - 1."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Frame:
    """One view of a scan in a square input.

    Attributes:
        shape: (H, W) of the scan.
        size: side S of the square input.
        window: the part of the scan that is seen, in scan pixels.
        place: where it lies in the square, in input pixels.
        fill: RGB in [0, 1] of the rest of the square.
    """

    shape: tuple[int, int]
    size: int
    window: Rectangle
    place: Rectangle
    fill: tuple[float, float, float]

    def apply(self, pixels: FloatArray) -> Tensor:
        """The view, float32 (1, 3, S, S) in [0, 1], resized bilinearly with antialiasing.

        Args:
            pixels: float32 (H, W) or (H, W, 3) in [0, 1].

        Raises:
            ValueError: the scan has another shape than the frame was made for.
        """
        if pixels.shape[:2] != self.shape:
            raise ValueError(f"scan has shape {pixels.shape[:2]}, the frame was made for {self.shape}")
        box = self.window
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        planes = torch.from_numpy(np.array(part, dtype=np.float32)).reshape(box.height, box.width, -1)
        # Grey is resized as one plane, then repeated: a third of the work.
        resized = F.interpolate(
            planes.permute(2, 0, 1)[None],
            size=(self.place.height, self.place.width),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        square = torch.tensor(self.fill, dtype=torch.float32).view(1, 3, 1, 1).repeat(1, 1, self.size, self.size)
        rows = slice(self.place.top, self.place.top + self.place.height)
        columns = slice(self.place.left, self.place.left + self.place.width)
        square[:, :, rows, columns] = resized.clamp(0, 1)
        return square

    def undo(self, maps: Tensor) -> Tensor:
        """A map over the square input, back on the scan's grid, interpolated bilinearly in one step.

        Args:
            maps: (h, w) or (N, h, w); covers the whole S x S input at any resolution.

        Returns:
            float32 (H, W) or (N, H, W); 0 outside the window.
        """
        stack = maps.reshape(1, -1, *maps.shape[-2:]).float()
        box, place, side = self.window, self.place, self.size
        # affine_grid speaks of coordinates that run from -1 to 1 across a grid's outer edges.
        theta = torch.tensor(
            [
                [place.width / side, 0.0, (2 * place.left + place.width) / side - 1],
                [0.0, place.height / side, (2 * place.top + place.height) / side - 1],
            ],
            dtype=torch.float32,
            device=stack.device,
        )
        grid = F.affine_grid(theta[None], [1, 1, box.height, box.width], align_corners=False)
        inside = F.grid_sample(stack, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
        whole = stack.new_zeros(inside.shape[0], *self.shape)
        whole[:, box.top : box.top + box.height, box.left : box.left + box.width] = inside
        return whole.reshape(*maps.shape[:-2], *self.shape)


def frame_scan(
    shape: tuple[int, int],
    *,
    size: int,
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0),
    mode: FramingMode = "letterbox",
    tile: int | None = None,
    overlap: float = 0.5,
) -> tuple[Frame, ...]:
    """Views that together see the whole scan.

    - ``letterbox``: one view, aspect kept (to a whole input pixel), centred, the rest filled.
    - ``stretch``: one view, both axes scaled to the whole square: nothing is filled, shapes are distorted.
    - ``tile``: square windows that overlap, for elongated scans, or for large ones with small targets.
    - ``pyramid``: the letterbox view and the tiles, averaged: context and detail.

    Args:
        shape: (H, W) of the scan.
        size: side S of the encoder's input.
        fill: RGB in [0, 1]: the encoder's mean colour.
        mode: see above.
        tile: side of a tile in scan pixels, cut to the scan's shorter side; None for the shorter side (half
            of it in a pyramid, whose letterbox view sees the whole already).
        overlap: the least fraction of a tile that its neighbour covers too, in [0, 1).

    Raises:
        UsageError: an unknown mode, or a tile or overlap out of range.
        ValueError: an empty scan or input.
    """
    height, width = shape
    if min(height, width, size) < 1:
        raise ValueError(f"cannot frame a {height} x {width} scan into {size} pixels; all must be at least 1")
    if not 0 <= overlap < 1:
        raise UsageError(f"framing: overlap is {overlap}; expected at least 0 and below 1")
    if tile is not None and tile < 1:
        raise UsageError(f"framing: tile is {tile} pixels; expected at least 1")
    whole = Rectangle(0, 0, height, width)
    square = Rectangle(0, 0, size, size)
    letterbox = Frame(shape, size, whole, _centred(height, width, size), fill)
    match mode:
        case "letterbox":
            return (letterbox,)
        case "stretch":
            return (Frame(shape, size, whole, square, fill),)
        case "tile" | "pyramid":
            shorter = min(height, width)
            side = shorter if mode == "tile" else math.ceil(shorter / 2)
            side = side if tile is None else min(tile, shorter)
            tiles = tuple(
                Frame(shape, size, Rectangle(top, left, side, side), square, fill)
                for top in _starts(height, side, overlap)
                for left in _starts(width, side, overlap)
            )
            return tiles if mode == "tile" else (letterbox, *tiles)
        case _:
            raise UsageError(f"unknown framing {mode!r}; expected letterbox, stretch, tile or pyramid")


def blend(frames: Sequence[Frame], maps: Sequence[Tensor]) -> Tensor:
    """Maps of several views as one map on the scan's grid.

    A view's weight falls linearly from its window's middle to its edges, where a view knows least about its
    surroundings; weights are normalised to sum to 1 at every pixel.

    Args:
        frames: the views, which together cover the scan.
        maps: for each view (N, h, w).

    Returns:
        float32 (N, H, W).
    """
    if len(frames) == 1:
        return frames[0].undo(maps[0])
    total: Tensor | None = None
    weights: Tensor | None = None
    for frame, stack in zip(frames, maps, strict=True):
        weight = _tent(frame).to(stack.device)
        part = frame.undo(stack) * weight
        total = part if total is None else total + part
        weights = weight if weights is None else weights + weight
    assert total is not None and weights is not None
    return total / weights


def _centred(height: int, width: int, size: int) -> Rectangle:
    """The largest rectangle of the scan's aspect in the middle of the square."""
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    return Rectangle((size - rows) // 2, (size - columns) // 2, rows, columns)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of a side begin along an axis: evenly spread from edge to edge."""
    step = max(1.0, side * (1 - overlap))
    count = 1 + math.ceil((length - side) / step)
    return [round(start) for start in np.linspace(0, length - side, count)]


def _tent(frame: Frame) -> Tensor:
    """(H, W) weight of a view: positive everywhere in its window, 0 outside."""
    box = frame.window
    rows, columns = (
        1 - ((torch.arange(length, dtype=torch.float32) + 0.5) / length * 2 - 1).abs()
        for length in (box.height, box.width)
    )
    weight = torch.zeros(frame.shape)
    weight[box.top : box.top + box.height, box.left : box.left + box.width] = rows[:, None] * columns[None, :]
    return weight
