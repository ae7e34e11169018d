"""What all saliency methods share: framing, text, blending, normalising and the evidence of presence."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lexiseg.errors import BrokenWeights
from lexiseg.models.protocols import Encoder, SelectiveEncoder
from lexiseg.saliency.framing import Frame, blend, frame_scan
from lexiseg.saliency.kinds import Gate, kind_evidence
from lexiseg.saliency.settings import SaliencySettings
from lexiseg.text.embedding import PhraseEmbedding, embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray
from lexiseg.values.masks import Saliency


def sigmoid_trained(encoder: Encoder) -> bool:
    """True where a logit alone is a probability: sigmoid training learns a bias, softmax training none."""
    return encoder.logit_bias != 0


def cosines(embeddings: Tensor, phrases: Sequence[PhraseEmbedding]) -> Tensor:
    """Cosine of each embedding with each phrase: (..., E) unit vectors and N phrases give (..., N)."""
    return embeddings @ torch.stack([phrase.positive for phrase in phrases]).T


def phrase_logits(embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float, bias: float) -> Tensor:
    """``scale * cosine + bias``: (..., E) unit vectors and N phrases give (..., N)."""
    return scale * cosines(embeddings, phrases) + bias


def phrase_margins(embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float) -> Tensor:
    r"""Log-odds of each phrase against its own negative phrases.

    .. math:: m = s\,e^\top t - \log \sum_j \exp(s\,e^\top n_j)

    so that ``sigmoid(m)`` is the phrase's share of the softmax over {phrase, negatives}.  A bias cancels.

    Args:
        embeddings: (..., E) unit vectors.
        phrases: N phrases, each with at least one negative.
        scale: s, the encoder's logit scale.

    Returns:
        (..., N).
    """
    logits = scale * cosines(embeddings, phrases)
    negatives = [torch.logsumexp(scale * embeddings @ phrase.negatives.T, dim=-1) for phrase in phrases]
    return logits - torch.stack(negatives, dim=-1)


logger = logging.getLogger(__name__)

# Of the largest magnitude: several roundings of float32.
_ROUNDING = 1e-6

Progress = Callable[[float], None]
"""Called with the share of a scan's work that is done, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Raw:
    """What a method sees in one view (or in all of them, blended).

    Attributes:
        maps: (N, h, w) one map for each phrase, over the whole view; any real values.
        embeddings: (V, E) the views' own unit embeddings; a hook gives V = 1.
        layer: the encoder's layer that the maps come from.
    """

    maps: Tensor
    embeddings: Tensor
    layer: str


class SaliencyMethod(SaliencySettings, ABC):
    """Where is the phrase?  A new method is a subclass of its settings and of this, with one hook.

    Attributes:
        sees_many: `compute_many` takes its views through the encoder together.
        by_cosines: of the encoder's embeddings of images, cosines with the phrases are all that counts, so that an
            encoder of several towers may leave out those that no phrase looks at.
    """

    sees_many: ClassVar[bool] = False
    by_cosines: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The method's."""
        return self.method

    @abstractmethod
    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """Hook: maps of N phrases in one view (1, 3, S, S); what no phrase changes is done once for all."""

    def activate(self, encoder: Encoder, raw: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Hook: raw (H, W) on the scan's grid to [0, 1]; by default ReLU, then division by the maximum.

        The ReLU comes after interpolation, so that the zero contour is the interpolated map's own; rectified
        first, a map would reach up to half a position further.  A map that is nowhere positive gives 0.
        """
        rectified = raw.clamp_min(0)
        top = rectified.max()
        if not bool(top > 0):
            logger.info("%s: the map for %r is nowhere positive", self.name, phrase.text)
            return torch.zeros_like(raw)
        return rectified / top

    def evidence(self, encoder: Encoder, saliency: Tensor, raw: Raw, phrase: PhraseEmbedding) -> dict[str, float]:
        """Hook: how much speaks for the phrase being in the scan at all; see `explain` for the names."""
        return global_evidence(encoder, raw.embeddings, phrase)

    def explain(
        self,
        encoder: Encoder,
        pixels: FloatArray,
        phrases: Sequence[PhraseSet] | Sequence[PhraseEmbedding],
        *,
        kinds: Gate | None = None,
        progress: Progress | None = None,
    ) -> list[Saliency]:
        """The saliency of each phrase.

        Args:
            encoder: the vision-language model.
            pixels: the scan, float32 in [0, 1], (H, W) or (H, W, 3).
            phrases: sets, embedded here in one call of the text tower; or embeddings made once by
                `embed_phrases` for many scans.
            kinds: tells which kind of scan is in view; None where the encoder has none.
            progress: called with the share done.

        Returns:
            One `Saliency` for each phrase, on the scan's grid.  ``evidence`` holds

            - ``logit``: ``logit_scale * cosine + logit_bias`` of the whole image and the phrase (the largest
              of the views');
            - ``margin``: its log-odds against the negative phrases, where there are any;
            - ``global``: the probability that the encoder's training gives one of the two: ``sigmoid(logit)``
              where it is sigmoid-trained, else ``sigmoid(margin)``; missing for a softmax-trained encoder
              without negatives;
            - ``dense``: for methods whose map is a probability, the mean over its largest pixels;
            - ``kind``: with `kinds`, what they say of the kind of scan in view: 1, or the small share of those that can
              hold what the phrase names.

            ``score`` is the margin for a softmax-trained encoder with negatives, else the logit.

        Raises:
            UnsupportedByModel: the encoder cannot do what the method needs.
            BrokenWeights: the map is not finite.
        """
        embedded = _embed(encoder, phrases)
        with self._held_against(encoder, embedded, kinds):
            raw = self.raw(encoder, pixels, embedded, progress=progress)
        return self._answers(encoder, raw, embedded, kinds)

    def explain_many(
        self,
        encoder: Encoder,
        scans: Sequence[FloatArray],
        phrases: Sequence[PhraseEmbedding],
        *,
        kinds: Gate | None = None,
    ) -> list[list[Saliency]]:
        """`explain` of several scans of one shape, their views in one forward where the method can.

        Equal to `explain` of each up to rounding; of a single scan to the bit.

        Args:
            encoder: the vision-language model.
            scans: each as for `explain`.
            phrases: as for `explain`, embedded.
            kinds: as for `explain`.

        Raises:
            ValueError: the scans have several shapes.
            UnsupportedByModel, BrokenWeights: as for `explain`.
        """
        if len(scans) < 2:
            return [self.explain(encoder, pixels, phrases, kinds=kinds) for pixels in scans]
        if len({pixels.shape[:2] for pixels in scans}) > 1:
            raise ValueError("the scans have several shapes, expected one: they are framed alike")
        frames = self._frames(encoder, scans[0])
        clipped = [clip_bright(pixels, self.clip_percentile) for pixels in scans]
        with self._held_against(encoder, phrases, kinds):
            seen = [
                self.compute_many(
                    encoder, torch.cat([frame.apply(pixels) for pixels in clipped]).to(encoder.device), phrases
                )
                for frame in frames
            ]
        return [
            self._answers(encoder, self._blended(encoder, frames, [views[k] for views in seen]), phrases, kinds)
            for k in range(len(scans))
        ]

    def compute_many(self, encoder: Encoder, views: Tensor, phrases: Sequence[PhraseEmbedding]) -> list[Raw]:
        """Hook: `compute_maps` of views (B, 3, S, S); by default one after the other."""
        return [self.compute_maps(encoder, view[None], phrases, lambda share: None) for view in views]

    def _held_against(
        self, encoder: Encoder, phrases: Sequence[PhraseEmbedding], kinds: Gate | None
    ) -> AbstractContextManager[None]:
        """Tells the encoder what its embeddings will be held against, where that is all they are for."""
        if not isinstance(encoder, SelectiveEncoder) or not self.by_cosines:
            return nullcontext()
        rows = [self.compared(encoder, phrase) for phrase in phrases] + ([] if kinds is None else [kinds.weights])
        return encoder.held_against(torch.cat([row.cpu() for row in rows]))  # kinds stay on the CPU

    def compared(self, encoder: Encoder, phrase: PhraseEmbedding) -> Tensor:
        """Hook: the embeddings (N, E) of phrases that a phrase's map and evidence come from."""
        return torch.cat([phrase.positive[None], phrase.negatives])

    def _answers(
        self, encoder: Encoder, raw: Raw, embedded: Sequence[PhraseEmbedding], kinds: Gate | None
    ) -> list[Saliency]:
        found = []
        for index, phrase in enumerate(embedded):
            saliency = self.activate(encoder, raw.maps[index], phrase)
            evidence = self.evidence(encoder, saliency, raw, phrase)
            if kinds is not None:
                evidence["kind"] = kinds.share(raw.embeddings, phrase.text)
                evidence |= kind_evidence(kinds, raw.embeddings)
            absolute = sigmoid_trained(encoder) or "margin" not in evidence
            found.append(
                Saliency(
                    map=saliency.cpu().numpy(),
                    phrase=phrase.text,
                    score=evidence["logit" if absolute else "margin"],
                    layer=raw.layer,
                    evidence=evidence,
                )
            )
        return found

    def raw(
        self,
        encoder: Encoder,
        pixels: FloatArray,
        phrases: Sequence[PhraseSet] | Sequence[PhraseEmbedding],
        *,
        progress: Progress | None = None,
    ) -> Raw:
        """Maps (N, H, W) on the scan's grid before they are brought to [0, 1]; arguments as for `explain`."""
        embedded = _embed(encoder, phrases)
        frames = self._frames(encoder, pixels)
        pixels = clip_bright(pixels, self.clip_percentile)
        views: list[Raw] = []
        for index, frame in enumerate(frames):
            view = frame.apply(pixels).to(encoder.device)
            views.append(self.compute_maps(encoder, view, embedded, _part(progress, index, len(frames))))
        found = self._blended(encoder, frames, views)
        if progress is not None:
            progress(1.0)
        return found

    def _frames(self, encoder: Encoder, pixels: FloatArray) -> tuple[Frame, ...]:
        return frame_scan(
            (pixels.shape[0], pixels.shape[1]),
            size=encoder.input_size,
            fill=_colour(encoder),
            mode=self.framing,
            tile=self.tile,
            overlap=self.overlap,
        )

    def _blended(self, encoder: Encoder, frames: Sequence[Frame], views: Sequence[Raw]) -> Raw:
        maps = blend(frames, [view.maps for view in views])
        if not bool(torch.isfinite(maps).all()):
            raise BrokenWeights(
                f"{encoder.name}: the {self.name} map is not finite; "
                "expected finite values; check the weights or use float32"
            )
        return Raw(maps, torch.cat([view.embeddings for view in views]), views[0].layer)


def clip_bright(pixels: FloatArray, percentile: float) -> FloatArray:
    """Grey levels scaled so that this percentile of what is not black becomes 1; what is brighter, too.

    A few very bright pixels (fat and vessels in MRI, burnt-in text) leave the tissue of some scans dark.
    Not black is what is more than 0.02 above the darkest pixel, so that air around the patient does not
    count; of a scan without such pixels nothing changes.

    Args:
        pixels: float32 in [0, 1], (H, W) or (H, W, 3); channels are scaled alike.
        percentile: 50 to 100; at 100 nothing changes.
    """
    seen = pixels[pixels > pixels.min() + np.float32(0.02)]
    if percentile == 100 or not seen.size:
        return pixels
    bright = np.percentile(seen, percentile).astype(np.float32)
    shown: FloatArray = np.minimum(pixels / bright, np.float32(1))
    return shown


def stretch(maps: Tensor) -> Tensor:
    """Each of the maps (n, h, w) min-max normalised to [0, 1]; a flat one gives 0.

    Flat up to float32 rounding counts as flat: interpolation leaves such noise, and stretching would show it.
    """
    low, top = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = top - low
    flat = spread <= _ROUNDING * torch.maximum(low.abs(), top.abs())
    return (maps - low).div_(torch.where(flat, 1.0, spread)).masked_fill_(flat, 0.0)


def global_evidence(encoder: Encoder, embeddings: Tensor, phrase: PhraseEmbedding) -> dict[str, float]:
    """``logit``, ``margin`` and ``global`` of views (V, E): the view with the most for the phrase counts."""
    scale, bias = encoder.logit_scale, encoder.logit_bias
    found = {"logit": float(phrase_logits(embeddings, [phrase], scale=scale, bias=bias).max())}
    if len(phrase.negatives):
        found["margin"] = float(phrase_margins(embeddings, [phrase], scale=scale).max())
    absolute = sigmoid_trained(encoder)
    if absolute or "margin" in found:
        found["global"] = _sigmoid(found["logit" if absolute else "margin"])
    return found


def _sigmoid(value: float) -> float:
    # tanh does not overflow where exp would.
    return 0.5 * (1 + math.tanh(value / 2))


def _embed(encoder: Encoder, phrases: Sequence[PhraseSet] | Sequence[PhraseEmbedding]) -> tuple[PhraseEmbedding, ...]:
    ready = tuple(phrase for phrase in phrases if isinstance(phrase, PhraseEmbedding))
    sets = tuple(phrase for phrase in phrases if isinstance(phrase, PhraseSet))
    if ready and sets:
        raise TypeError("phrases mix sets and embeddings; expected one kind")
    return ready or embed_phrases(encoder, sets)


def _colour(encoder: Encoder) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in encoder.mean.flatten().tolist())
    return red, green, blue


def _part(progress: Progress | None, index: int, count: int) -> Progress:
    """A progress callback for one of several views."""
    if progress is None:
        return lambda share: None
    return lambda share: progress((index + share) / count)
