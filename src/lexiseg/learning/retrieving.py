"""Retrieval of an encoder on pairs, from names to numbers to files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lexiseg.datasets.pairs import PairSet, read_pairs
from lexiseg.errors import UsageError
from lexiseg.evaluation.retrieval import Retrieval, RetrievalSettings
from lexiseg.files import atomic_write
from lexiseg.learning.data import readable
from lexiseg.learning.embedding import measure_retrieval
from lexiseg.models import load_encoder

_PARTS = ("all", "train", "val", "test")


def retrieve_pairs(
    pairs: str | Path,
    encoder: str = "bundled",
    *,
    settings: RetrievalSettings | None = None,
    part: str = "all",
    min_caption: int = 1,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Read pairs, load an encoder, and measure how well images and captions find each other.

    Args:
        pairs: as for `lexiseg.datasets.pairs.read_pairs`.
        encoder: as for `lexiseg.models.load_encoder`.
        settings: of the measurement.
        part: "all", or only "train", "val" or "test" pairs of the data set's own split.
        min_caption: characters that a caption must have.
        device: where the encoder runs.
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
    model = load_encoder(encoder, device=device)
    kept, store = readable(found, model.input_size, progress=progress)
    return measure_retrieval(model, kept.pairs, store, settings=settings, progress=progress)


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
