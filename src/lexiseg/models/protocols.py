"""What lexiseg asks of models: an `Encoder` of pixels and phrases, a promptable `Segmenter`.

What only some of them can do is a small protocol of its own, which callers ask for by `isinstance`.

One loaded model may be shared between threads: no method leaves anything behind that another thread sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.calibration import Calibration


@runtime_checkable
class Encoder(Protocol):
    """A pair of towers that put pixels and phrases into one space (CLIP, BiomedCLIP, ...).

    Pixels handed to an encoder are float32 in [0, 1], shape (B, 3, S, S) with ``S = input_size``: framing a
    scan into that square is the caller's work (`lexiseg.saliency.framing`), normalising with the model's own
    mean and deviation is the encoder's.  Embeddings are float32 and of unit length.
    """

    @property
    def name(self) -> str:
        """How the model was asked for: "bundled", a hub id or a folder."""

    @property
    def input_size(self) -> int:
        """Side S of the square input, in pixels."""

    @property
    def device(self) -> torch.device:
        """Where the weights are; every returned tensor is there too."""

    @property
    def logit_scale(self) -> float:
        """exp of the learnt log-temperature: logits = logit_scale * cosine + logit_bias."""

    @property
    def logit_bias(self) -> float:
        """The learnt bias of a sigmoid-trained model, else 0."""

    @property
    def mean(self) -> Tensor:
        """Mean of the training images, shape (3, 1, 1): what "nothing here" looks like to the model."""

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        """Embeddings of the phrases, shape (N, E), unit length."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embeddings of the images, shape (B, E), unit length; no gradient."""

    def encode_dense(self, pixels: Tensor, attention: str = "value") -> Tensor:
        """One embedding for each position, shape (B, E, h, w), unit length over E; no gradient.

        Args:
            pixels: (B, 3, S, S).
            attention: "value", the family's own way; or, of a ViT, "sclip", "clearclip", "naclip" or "gem".

        Raises:
            UnsupportedByModel: the tower's pooling does not let a position be projected on its own, or it has no
                such attention.
        """

    def encode_dense_and_image(self, pixels: Tensor, attention: str = "value") -> tuple[Tensor, Tensor]:
        """What `encode_dense` and `encode_image` return, from one forward where the tower allows it.

        Raises:
            UnsupportedByModel: as `encode_dense`.
        """

    def encode_regions(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Embeddings of regions of one image, (R, E), unit length, from one forward; no gradient.

        Each is what the tower says of the image where its class token attends to the region alone.

        Args:
            pixels: (1, 3, S, S).
            masks: (R, S, S) float32 in [0, 1], none of them empty.

        Raises:
            UnsupportedByModel: the tower is no ViT that pools a class token.
        """

    def default_layer(self) -> str:
        """The name of the saliency layer: the deepest whose every position influences the embedding."""

    def layers(self) -> tuple[str, ...]:
        """Names that `activations` takes, shallow to deep."""

    def activations(
        self, pixels: Tensor, layer: str, score: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """A layer's maps, and the gradient of a score with respect to them.

        Args:
            pixels: (1, 3, S, S).
            layer: one of `layers()`.
            score: takes the image's unit embedding (1, E) to scores (N,); None for no gradient.

        Returns:
            maps (C, h, w) and gradients (N, C, h, w), tokens already put back on their grid and the class
            token dropped; None instead of gradients where no score was given.

        Raises:
            UnsupportedByModel: no such layer, or its output is not a map.
        """

    def patched(self, layer: str, function: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        """A context in which a layer's features are replaced by ``function(features)``.

        It holds for this thread's calls of `encode_image`, `encode_dense` and `activations`, and for as long
        as the context lasts.  Inside, `encode_image` gives an embedding that may be differentiated with
        respect to whatever the function brings in, unless gradients are off (`torch.no_grad`).

        Args:
            layer: one of `layers()`.
            function: takes all features of the layer and returns as many, in the same form: maps
                (B, C, h, w), or the tokens of a transformer (B, p + h w, C), p of them (class, registers) in
                front of the h rows of w positions.  It is called once in each forward.

        Raises:
            UnsupportedByModel: no such layer, or its output is neither maps nor tokens; on entering or in
                the forward.
            ValueError: in the forward, what the function returned has another shape.
        """

    def forward_from(self, layer: str, features: Tensor) -> Tensor:
        """Embeddings (B, E), unit length, of images of which a layer's features are known.

        Only what follows the layer is run.  The gradient reaches `features` where they ask for one.

        Args:
            layer: one of `layers()` that everything after it depends on alone: a whole block or stage.
            features: as `patched` hands them to its function, B of them.

        Raises:
            UnsupportedByModel: no such layer, or what follows needs more than its output (a residual branch
                passes it by); use `patched`, which runs the whole tower.
        """


@runtime_checkable
class WordJudge(Protocol):
    """What an encoder offers besides whose text tower came with the wordings that it was taught.

    A class that has the method may hold a model without such wordings, so callers ask `word_judge`.
    """

    @property
    def judges_words(self) -> bool:
        """Whether `names` can be asked."""

    @property
    def words(self) -> frozenset[str]:
        """Whole words of English that its tokenizer has, lower case; none of one that does not say."""

    def names(self, phrase: str) -> str | None:
        """What a phrase names: a concept, "" for something that no scan was drawn with, None for an unknown word.

        Raises:
            UnsupportedByModel: nobody knows what the model was taught (`judges_words`).
        """


def word_judge(encoder: object) -> WordJudge | None:
    """The encoder where it judges words itself; None of one that cannot, or whose model came without wordings."""
    return encoder if isinstance(encoder, WordJudge) and encoder.judges_words else None


@runtime_checkable
class CalibratedEncoder(Protocol):
    """What an encoder offers besides whose maps were held against true masks, phrase by phrase."""

    def calibration(self, phrase: str) -> Calibration:
        """What was measured of what a phrase names; of what nobody measured, log-odds as they are and no size."""


@runtime_checkable
class SelectiveEncoder(Protocol):
    """What an encoder of several image towers offers besides that leaves out those that no phrase looks at."""

    def held_against(self, texts: Tensor) -> AbstractContextManager[None]:
        """A context, of this thread, in which images' embeddings need be right for products with texts (N, E) alone."""


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A scan that a segmenter has encoded once, to be prompted many times.

    What else it holds is the affair of the family that made it, which adds it in a subclass.

    Attributes:
        shape: (H, W) of the scan in its own pixels; prompts and final masks are on this grid.
    """

    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """How much memory its tensors take, for whoever keeps many."""
        held = (getattr(self, field.name) for field in fields(self))
        return sum(each.nbytes for each in held if isinstance(each, Tensor))


@dataclass(frozen=True)
class MaskGrid:
    """Where low-resolution logits lie on the scan they were decoded from.

    Attributes:
        shape: (h, w): so many rows and columns, from the first on, show the scan; the others are padding.
        cell: (x, y) size of one of their cells in scan pixels.
    """

    shape: tuple[int, int]
    cell: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks for N prompts with M candidates each, before they are brought back to the scan's grid.

    Attributes:
        logits: (N, M, h, w) float32 at the model's low resolution.
        iou: (N, M) the model's own estimate of each mask's IoU.
        grid: where the logits lie on the scan.
    """

    logits: Tensor
    iou: Tensor
    grid: MaskGrid


@runtime_checkable
class Segmenter(Protocol):
    """A promptable segmenter (SAM and its like): encode a scan once, decode prompts in batches."""

    @property
    def name(self) -> str:
        """How the model was asked for: "bundled", a hub id, a folder or a .pth file."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def takes_masks(self) -> bool:
        """Whether it was taught to read a mask as a prompt; one that was not must be asked by boxes and points."""

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """Encode a scan, float32 in [0, 1], shape (H, W) or (H, W, 3)."""

    def encode_many(self, scans: Sequence[FloatArray]) -> list[EncodedImage]:
        """Encode several scans of any sizes, as many at once as pay; equal to `encode` up to rounding."""

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
        """Masks for N prompts.

        Args:
            image: from this segmenter's `encode`.
            boxes: (N, 4) x0 y0 x1 y1 in scan pixels, end-exclusive; or None.
            points: (N, P, 2) x y in scan pixels (a pixel's centre is at +0.5); or None.
            labels: (N, P) 1 inside, 0 outside, -1 padding; with points only.
            masks: (N, h, w) logits at the model's low resolution, as `shrink` makes them of a mask; beside boxes
                or points, or None.
            multimask: three candidates for each prompt instead of one.

        Raises:
            UnsupportedByModel: masks are given to a segmenter that was not taught to read them.
        """

    def shrink(self, mask: BoolArray, image: EncodedImage) -> np.ndarray:
        """A mask on the scan's grid, bool (H, W), as logits (h, w) for `decode`; the way back of `upsample`."""

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """Low-resolution logits (..., h, w) to logits on the scan's grid (..., H, W); threshold at 0."""


@runtime_checkable
class ManyDecoder(Protocol):
    """What a segmenter offers besides that decodes boxes in several scans at once."""

    def decode_many(
        self, images: Sequence[EncodedImage], boxes: np.ndarray, *, multimask: bool = False
    ) -> list[Decoded]:
        """What `decode` answers for one box (N, 4) in each of N images, up to rounding."""


@runtime_checkable
class Tracker(Protocol):
    """What a segmenter with a memory of earlier planes offers besides (SAM 2 and its like).

    Where a segmenter has it, a target is carried from plane to plane by the memory, else by prompts.
    """

    def remember(self, image: EncodedImage, mask: BoolArray, memory: Any = None) -> Any:
        """A memory with one more plane, whose mask is bool (H, W); the first one where there is none."""

    def follow(self, image: EncodedImage, memory: Any) -> Decoded:
        """The target in another plane: one prompt's candidate, N = M = 1."""


@dataclass(frozen=True, eq=False)
class Instances:
    """What a phrase names in one scan, as a segmenter that reads text sees it: Q candidates.

    Attributes:
        shape: (H, W) of the scan.
        presence: the probability that the phrase is there at all, 0 to 1.
        scores: (Q,) the probability of each that it is what the phrase names, presence included.
        boxes: (Q, 4) x0 y0 x1 y1 in scan pixels, end-exclusive.
        logits: (Q, h, w) at the model's low resolution, over the whole scan.
    """

    shape: tuple[int, int]
    presence: float
    scores: Tensor
    boxes: Tensor
    logits: Tensor


@runtime_checkable
class TextSegmenter(Protocol):
    """A segmenter that reads the phrase itself (SAM 3): no encoder beside it."""

    @property
    def name(self) -> str:
        """How the model was asked for."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def find(self, pixels: FloatArray, phrases: Sequence[str]) -> list[Instances]:
        """Every phrase in a scan, float32 in [0, 1], shape (H, W) or (H, W, 3)."""

    def probabilities(self, instances: Instances, chosen: Sequence[int]) -> FloatArray:
        """Probability of each pixel of some candidates, by their places, float32 (n, H, W)."""
