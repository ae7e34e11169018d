"""Dense similarity: each position's own embedding against the phrase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.models.batches import in_batches
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, phrase_logits, phrase_margins, sigmoid_trained, stretch
from lexiseg.saliency.presence import top_fraction_mean
from lexiseg.saliency.settings import Activation, DenseSettings
from lexiseg.text.embedding import PhraseEmbedding

T = TypeVar("T")


def shift_offsets(stride: float, shifts: int) -> list[int]:
    """Where the n views of an axis look from, in whole input pixels, centred on 0.

    With stride s and n shifts, position i of view k is centred on ``(i + 1/2) s + (k - (n - 1) / 2) s / n``,
    which is ``(i n + k + 1/2) s / n``: interleaved, the n maps are exactly one map of stride s / n.  Offsets
    that are not whole are rounded (2 or 4 shifts of stride 16 or 32 are whole; no error exceeds half an input
    pixel).
    """
    return [round((k - (shifts - 1) / 2) * stride / shifts) for k in range(shifts)]


def shifted_views(view: Tensor, strides: tuple[float, float], shifts: int) -> Tensor:
    """All n * n shifted copies of a view (1, 3, S, S) as one batch (n * n, 3, S, S), row shift outermost.

    What comes into view at an edge repeats the edge's pixels (the fill, where the view is letterboxed); what
    leaves it there is seen by the opposite shift.
    """
    rows, columns = (shift_offsets(stride, shifts) for stride in strides)
    margin = max(abs(offset) for offset in (*rows, *columns))
    side = view.shape[-1]
    wide = F.pad(view, (margin,) * 4, mode="replicate") if margin else view
    return torch.cat(
        [wide[:, :, margin + y : margin + y + side, margin + x : margin + x + side] for y in rows for x in columns]
    )


def interleave(maps: Tensor, shifts: int) -> Tensor:
    """Maps (n * n, E, h, w) of `shifted_views` as one map (E, h * n, w * n) over the unshifted view."""
    _, channels, height, width = maps.shape
    grid = maps.reshape(shifts, shifts, channels, height, width)
    return grid.permute(2, 3, 0, 4, 1).reshape(channels, height * shifts, width * shifts)


_GRIDS: WeakKeyDictionary[Encoder, tuple[int, int]] = WeakKeyDictionary()
_GRIDS_LOCK = Lock()  # threads share encoders, and the dictionary is not made for that


@dataclass(frozen=True, kw_only=True)
class DenseSimilarity(DenseSettings, SaliencyMethod):
    r"""Cosine between each position's projected feature :math:`f_{ij}` and the phrase :math:`t` (as in
    MaskCLIP, Zhou et al., ECCV 2022), made a saliency by one of

    - ``sigmoid``: :math:`\sigma(\alpha (s f_{ij}^\top t + b) + \beta)`, the probability that a tower trained with
      a sigmoid at each position gives, with :math:`\alpha` and :math:`\beta` of the phrase's calibration (1 and 0
      where the encoder has none);
    - ``softmax``: :math:`\exp(s f^\top t) / (\exp(s f^\top t) + \sum_j \exp(s f^\top n_j))`, the phrase's
      share against its negative phrases :math:`n_j`;
    - ``minmax``: the cosine stretched to [0, 1] over the scan.  It always marks something: absence is lost;
    - ``auto``: sigmoid where the encoder has a logit bias, else softmax where the phrase has negatives, else
      minmax.

    Log-odds, not probabilities, are interpolated to the scan's grid, so that a 0.5 contour lies where a
    linear boundary between two positions would.

    Test-time averaging: ``shifts`` (below) and ``framing="pyramid"`` (two scales).  Flips are not offered: a
    mirrored left lung is a right lung.
    """

    sees_many: ClassVar[bool] = True
    by_cosines: ClassVar[bool] = True

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward where the tower allows it, with shifts their square and one more; for all phrases."""
        found = self._maps(encoder, *self._encoded(encoder, view), phrases)
        progress(1.0)
        return found

    def compute_many(self, encoder: Encoder, views: Tensor, phrases: Sequence[PhraseEmbedding]) -> list[Raw]:
        """One forward of all views; with shifts, which are a batch by themselves, one view after the other."""
        if self.shifts > 1:
            return super().compute_many(encoder, views, phrases)

        def maps(rows: Sequence[int]) -> list[Raw]:
            dense, whole = encoder.encode_dense_and_image(views[rows[0] : rows[-1] + 1], *self._how)
            dense = dense.detach().float()
            return [self._maps(encoder, dense[k], whole[k : k + 1], phrases) for k in range(len(dense))]

        count = len(views)
        return [raw for some in _forwards(encoder, count, count, maps) for raw in some]

    def _maps(self, encoder: Encoder, dense: Tensor, whole: Tensor, phrases: Sequence[PhraseEmbedding]) -> Raw:
        """What positions (E, h, w) and the view's embedding (1, E) say of each phrase."""
        positions = dense.permute(1, 2, 0)
        maps = [self._log_odds(encoder, positions, phrase) for phrase in phrases]
        return Raw(torch.stack(maps), whole.detach().float(), "dense")

    def activate(self, encoder: Encoder, raw: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Log-odds to a probability, by the phrase's calibration where the encoder has one; or the stretch."""
        kind = self._kind(encoder, phrase)
        if kind == "sigmoid":
            return torch.sigmoid(raw * phrase.calibration.slope + phrase.calibration.offset)
        if kind == "softmax":
            return torch.sigmoid(raw)
        return stretch(raw[None])[0]

    def evidence(self, encoder: Encoder, saliency: Tensor, raw: Raw, phrase: PhraseEmbedding) -> dict[str, float]:
        """The global evidence, and ``dense`` where the map is a probability; no ``margin`` where a logit is one."""
        found, kind = super().evidence(encoder, saliency, raw, phrase), self._kind(encoder, phrase)
        if kind == "sigmoid" and sigmoid_trained(encoder):
            found.pop("margin", None)
        if kind != "minmax":
            share = phrase.calibration.top_fraction(self.top_fraction)
            found["dense"] = top_fraction_mean(saliency.cpu().numpy(), share)
        return found

    def compared(self, encoder: Encoder, phrase: PhraseEmbedding) -> Tensor:
        """The phrase alone where a logit is a probability: negative phrases have no say."""
        alone = self._kind(encoder, phrase) == "sigmoid" and sigmoid_trained(encoder)
        return phrase.positive[None] if alone else super().compared(encoder, phrase)

    def _kind(self, encoder: Encoder, phrase: PhraseEmbedding) -> Activation:
        if self.activation != "auto":
            return self.activation
        if sigmoid_trained(encoder):
            return "sigmoid"
        return "softmax" if len(phrase.negatives) else "minmax"

    def _log_odds(self, encoder: Encoder, positions: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Positions (h, w, E) to (h, w)."""
        if self._kind(encoder, phrase) == "softmax":
            if not len(phrase.negatives):
                raise UsageError(f"dense: softmax needs negative phrases, {phrase.text!r} has none; use minmax")
            return phrase_margins(positions, [phrase], scale=encoder.logit_scale)[..., 0]
        scale, bias = encoder.logit_scale, encoder.logit_bias
        return phrase_logits(positions, [phrase], scale=scale, bias=bias)[..., 0]

    @property
    def _how(self) -> tuple[str, ...]:
        """The attention, where it is not the family's own way."""
        return () if self.attention == "value" else (self.attention,)

    def _encoded(self, encoder: Encoder, view: Tensor) -> tuple[Tensor, Tensor]:
        """(E, h * shifts, w * shifts) of the positions, and (1, E) of the view."""
        if self.shifts == 1:
            dense, whole = encoder.encode_dense_and_image(view, *self._how)
            return dense[0].detach().float(), whole
        height, width = _grid(encoder, view)
        strides = (view.shape[-2] / height, view.shape[-1] / width)
        views = shifted_views(view, strides, self.shifts)

        def encode(rows: Sequence[int]) -> Tensor:
            return encoder.encode_dense(views[rows[0] : rows[-1] + 1], *self._how).detach().float()

        maps = torch.cat(list(_forwards(encoder, len(views), self.batch, encode)))
        return interleave(maps, self.shifts), encoder.encode_image(view)


def _forwards(encoder: Encoder, count: int, batch: int, work: Callable[[Sequence[int]], T]) -> Iterator[T]:
    return in_batches(range(count), batch, work, what="views", device=encoder.device)


def _grid(encoder: Encoder, view: Tensor) -> tuple[int, int]:
    """(h, w) of the encoder's dense map, asked once for each encoder: shifts must know the stride first."""
    with _GRIDS_LOCK:
        known = _GRIDS.get(encoder)
    if known is None:
        height, width = encoder.encode_dense(view).shape[-2:]
        known = (int(height), int(width))
        with _GRIDS_LOCK:
            _GRIDS[encoder] = known
    return known
