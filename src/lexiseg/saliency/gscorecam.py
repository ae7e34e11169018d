"""gScoreCAM: channels chosen by gradient, weighed by what the encoder says of the scan seen through each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.models.batches import in_batches
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, cosines, phrase_margins, stretch
from lexiseg.saliency.channel_model import adaptive_scores, mask_distances
from lexiseg.saliency.gradcam import channel_importance
from lexiseg.saliency.settings import GScoreCAMSettings
from lexiseg.text.embedding import PhraseEmbedding

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GScoreCAM(GScoreCAMSettings, SaliencyMethod):
    r"""gScoreCAM (Chen et al., ACCV 2022), which is Score-CAM (Wang et al., CVPRW 2020) on the top-k
    channels.

    With :math:`A_c` the layer's maps, :math:`X` the view, :math:`S` the phrase's score, :math:`U` upsampling
    to the input and :math:`K` the k channels of largest importance :math:`w_c`:

    .. math::
        w_c &= \frac{1}{hw} \sum_{ij} \frac{\partial S(X)}{\partial A_c^{ij}} \\
        H_c &= \frac{U(A_c) - \min U(A_c)}{\max U(A_c) - \min U(A_c)} \\
        \alpha_c &= \mathrm{softmax}_{c \in K}\, S(X \circ H_c) \\
        L &= \mathrm{ReLU}\Big(\sum_{c \in K} \alpha_c A_c\Big)

    Where the code that MedCLIP-SAM released differs from these equations, the equations hold: the mask
    multiplies the image, so what is masked out is black (the code masks the normalised pixels, which leaves
    the training set's
    mean colour: ``masked_out="mean"``); the softmax is over the k chosen channels alone (the code gives the
    others score 0 and lets them take part).  Score-CAM subtracts a baseline image's score from each: the same
    for all c, it cancels in the softmax.

    The embeddings of masked views do not depend on the phrase, so several phrases share one set of them: that
    of the union of their channels.  A map that is the same everywhere masks out everything.
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, a backward for each phrase, and ceil(n / batch) forwards of n masked views, or fewer."""
        layer = self.layer or encoder.default_layer()

        def score(embeddings: Tensor) -> Tensor:
            return self._score(encoder, embeddings, phrases)

        found = channel_importance(encoder, view, layer, score, phrases)
        chosen = top_channels(found.importance, self.k)
        union = torch.unique(chosen)
        rows = [torch.searchsorted(union, channels) for channels in chosen]
        seen = _Seen(encoder, view, found.maps[union], batch=self.batch, black=self.masked_out == "black")
        if self.tolerance:
            scores, computed = adaptive_scores(
                mask_distances(seen.maps, seen.light),
                seen.maps,
                rows,
                lambda wanted: score(seen.embed(wanted, progress)),
                tolerance=self.tolerance,
                batch=self.batch,
            )
            logger.info("gscorecam: %d of %d channels were computed", computed, len(union))
        else:
            scores = score(seen.embed(range(len(union)), progress))
        maps = []
        for index, channels in enumerate(chosen):
            own = scores[rows[index].to(scores.device), index]
            weights = torch.softmax(own, dim=0).to(found.maps)
            maps.append(torch.einsum("c,chw->hw", weights, found.maps[channels]))
        return Raw(torch.stack(maps), found.embedding[None], layer)

    def _score(self, encoder: Encoder, embeddings: Tensor, phrases: Sequence[PhraseEmbedding]) -> Tensor:
        """(B, E) to (B, N)."""
        scale = encoder.logit_scale if self.logit_scale is None else self.logit_scale
        if not self.contrast:
            return scale * cosines(embeddings, phrases)
        bare = [phrase.text for phrase in phrases if not len(phrase.negatives)]
        if bare:
            raise UsageError(f"gscorecam: contrast needs negative phrases, {bare[0]!r} has none; set contrast to false")
        return phrase_margins(embeddings, phrases, scale=scale)


class _Seen:
    """A view seen through each of a layer's maps; one batch of masked views exists at a time.

    Args:
        encoder: whose embeddings are wanted.
        view: (1, 3, S, S).
        maps: (n, h, w).
        batch: masked views per forward.
        black: what is masked out is black, else the encoder's mean colour.
    """

    def __init__(self, encoder: Encoder, view: Tensor, maps: Tensor, *, batch: int, black: bool) -> None:
        self.maps = maps
        self._encoder, self._batch = encoder, batch
        self._base = None if black else encoder.mean.to(view)
        self.light = view if self._base is None else view - self._base
        self._done = 0

    def embed(self, channels: Sequence[int], progress: Progress) -> Tensor:
        """Embeddings (n, E) of the view seen through some of the maps."""
        found = []
        device = self._encoder.device
        for rows in in_batches(list(channels), self._batch, self._forward, what="masked views", device=device):
            found.append(rows)
            self._done += len(rows)
            progress(self._done / len(self.maps))
        return torch.cat(found)

    def _forward(self, channels: Sequence[int]) -> Tensor:
        masks = channel_masks(self.maps[list(channels)], self._encoder.input_size)
        masked = masks[:, None] * self.light
        if self._base is not None:
            masked += self._base
        return self._encoder.encode_image(masked).detach().float()


def top_channels(importance: Tensor, k: int) -> Tensor:
    """Indices (N, min(k, C)), ascending, of each row's k largest importances; ties go to the lower index."""
    # topk leaves the order of ties open; a stable sort gives the same channels on every machine.
    order = torch.sort(importance, dim=1, descending=True, stable=True).indices
    return torch.sort(order[:, :k], dim=1).values


def channel_masks(maps: Tensor, size: int) -> Tensor:
    """Maps (n, h, w) upsampled bilinearly to (n, size, size), min-max normalised each; a flat map gives 0."""
    up = F.interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)
    return stretch(up[:, 0])
