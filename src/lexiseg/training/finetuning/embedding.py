"""Retrieval of an encoder on pairs, from names to numbers to files."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.datasets.pairs.pairs import Pair, PairSet
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.errors import UsageError
from lexiseg.evaluation.retrieval import Retrieval, RetrievalSettings, retrieval
from lexiseg.files import atomic_write
from lexiseg.models.batches import in_batches
from lexiseg.models.encoders.open_clip import OpenClipEncoder, require_open_clip
from lexiseg.models.loading import load_encoder
from lexiseg.training.finetuning.data import PixelStore, readable

logger = logging.getLogger(__name__)

_TEXTS_AT_ONCE = 4096
_PARTS = ("all", "train", "val", "test")


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

    def embed(some: Sequence[Path]) -> Tensor:
        return encoder.encode_image(store.batch(some, fill)).cpu()

    done = 0
    for rows in in_batches(paths, batch, embed, what="images", device=encoder.device):
        images.append(rows)
        done += len(rows)
        tell(done)
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
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Cross-modal retrieval of an encoder on pairs; see `lexiseg.evaluation.retrieval`."""
    image, text = embed_pairs(encoder, pairs, store, batch=batch, progress=progress)
    return retrieval(
        image,
        text,
        captions=[" ".join(pair.text.casefold().split()).rstrip(". ") for pair in pairs],
        images=[str(pair.image) for pair in pairs],
        groups=[pair.group for pair in pairs],
        settings=settings,
    )


def retrieve_pairs(
    pairs: str | Path,
    encoder: str = "bundled",
    *,
    settings: RetrievalSettings | None = None,
    part: str = "all",
    min_caption: int = 1,
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Read pairs, load an encoder, and measure how well images and captions find each other.

    Args:
        pairs: as for `lexiseg.datasets.pairs.read.read_pairs`.
        encoder: as for `lexiseg.models.loading.load_encoder`.
        settings: of the measurement.
        part: "all", or only "train", "val" or "test" pairs of the data set's own split.
        min_caption: characters that a caption must have.
        device: where the encoder runs.
        precision: as for `lexiseg.models.loading.load_encoder`.
        batch: images or captions at once; 32 when None.
        progress: told (done, in all) of images read, then of images and captions embedded.

    Raises:
        UsageError: bad pairs or settings, or a part with fewer than two pairs.
        LexisegError: an encoder that cannot be loaded.
    """
    if part not in _PARTS:
        raise UsageError(f"the split {part!r} is unknown; expected one of {', '.join(_PARTS)}")
    found = read_pairs(pairs, min_caption=min_caption)
    if part != "all":
        chosen = tuple(pair for pair in found.pairs if pair.part == part)
        if len(chosen) < 2:
            raise UsageError(f"{pairs}: {len(chosen)} pairs are of the split {part!r}, expected at least 2")
        found = PairSet(chosen, found.skipped)
    model = require_open_clip(load_encoder(encoder, device=device, precision=precision))
    kept, store = readable(found, model.input_size, progress=progress)
    return measure_retrieval(model, kept.pairs, store, settings=settings, batch=batch or 32, progress=progress)


def write_retrieval(found: Retrieval, folder: Path, *, encoder: str) -> None:
    """Write retrieval.csv and retrieval.json, the same numbers twice.

    Raises:
        UnwritableResult: the file system refused.
    """
    rows = [{"encoder": encoder, **row} for row in plain_rows(found)]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write(folder / "retrieval.csv", lambda file: file.write(text.getvalue().encode()))
    content = json.dumps(rows, indent=2) + "\n"
    atomic_write(folder / "retrieval.json", lambda file: file.write(content.encode()))


def plain_rows(found: Retrieval) -> list[dict[str, Any]]:
    """`Retrieval.rows` for JSON, which knows no NaN: None where there is no spread or interval."""
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in found.rows()
    ]
