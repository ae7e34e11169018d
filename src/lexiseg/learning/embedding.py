"""Embeddings of pairs, and how well they find each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.datasets.pairs import Pair
from lexiseg.evaluation.retrieval import Retrieval, RetrievalSettings, retrieval
from lexiseg.learning.pixels import PixelStore
from lexiseg.models import OpenClipEncoder

logger = logging.getLogger(__name__)

_TEXTS_AT_ONCE = 4096


def padding_of(encoder: OpenClipEncoder) -> int | None:
    """The token that the text tower masks out; None where it has none."""
    found = getattr(getattr(getattr(encoder.model, "text", None), "config", None), "pad_token_id", None)
    return None if found is None else int(found)


def tokenize(encoder: OpenClipEncoder, captions: Sequence[str]) -> Tensor:
    """Token ids of captions, int64 (N, L); one log line says how many are too long to be read whole."""
    parts = [
        encoder.tokenizer(list(captions[start : start + _TEXTS_AT_ONCE]))
        for start in range(0, len(captions), _TEXTS_AT_ONCE)
    ]
    tokens = torch.cat(parts)
    full = int((tokens[:, -1] != (padding_of(encoder) or 0)).sum())
    if full:
        logger.warning(
            "%d of %d captions fill the %d tokens that %s reads: what is beyond is not read",
            full, len(tokens), tokens.shape[1], encoder.name,
        )  # fmt: skip
    return tokens


def embed_pairs(
    encoder: OpenClipEncoder,
    pairs: Sequence[Pair],
    store: PixelStore,
    *,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of images and captions, each file and each caption embedded once.

    Args:
        encoder: in evaluation mode.
        pairs: N of them.
        store: their images.
        batch: images or captions at once.
        progress: told (embedded, in all).

    Returns:
        image and text embeddings, float32 (N, E), unit length.
    """
    paths = list(dict.fromkeys(pair.image for pair in pairs))
    texts = list(dict.fromkeys(pair.text for pair in pairs))
    tokens, padding = tokenize(encoder, texts), padding_of(encoder)
    fill, total = encoder.mean.cpu(), len(paths) + len(texts)
    model = cast(Any, encoder.model)
    images, captions = [], []

    def tell(done: int) -> None:
        if progress is not None:
            progress(min(done, total), total)

    for start in range(0, len(paths), batch):
        images.append(encoder.encode_image(store.batch(paths[start : start + batch], fill)).cpu())
        tell(start + batch)
    mixed = torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=encoder.precision == "bfloat16")
    for start in range(0, len(texts), batch):
        part = tokens[start : start + batch]
        if padding is not None:
            part = part[:, : int((part != padding).any(dim=0).nonzero().max()) + 1]
        with torch.inference_mode(), mixed:
            found = model.encode_text(part.to(encoder.device)).float()
        captions.append(torch.nn.functional.normalize(found, dim=-1).cpu())
        tell(len(paths) + start + batch)
    place = {path: index for index, path in enumerate(paths)}
    says = {text: index for index, text in enumerate(texts)}
    image = torch.cat(images)[[place[pair.image] for pair in pairs]]
    text = torch.cat(captions)[[says[pair.text] for pair in pairs]]
    return image.numpy(), text.numpy()


def measure_retrieval(
    encoder: OpenClipEncoder,
    pairs: Sequence[Pair],
    store: PixelStore,
    *,
    settings: RetrievalSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Cross-modal retrieval of an encoder on pairs; see `lexiseg.evaluation.retrieval`."""
    image, text = embed_pairs(encoder, pairs, store, progress=progress)
    return retrieval(
        image,
        text,
        captions=[" ".join(pair.text.casefold().split()).rstrip(". ") for pair in pairs],
        images=[str(pair.image) for pair in pairs],
        groups=[pair.group for pair in pairs],
        settings=settings,
    )
