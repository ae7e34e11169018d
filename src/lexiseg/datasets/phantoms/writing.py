"""A folder of phantoms with a manifest, like any other data set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import MODALITIES, generate
from lexiseg.errors import UnwritableResult, UsageError

_COLUMNS = ("id", "image", "mask", "text", "group", "label")


def write_set(
    out_dir: str | Path,
    *,
    count: int,
    seed: int = 0,
    modalities: Sequence[str] = MODALITIES,
    size: int | tuple[int, int] = 256,
    target: bool | None = None,
    text: Literal["caption", "phrase"] = "caption",
) -> Path:
    """Write phantoms as images/ID.png, masks/ID.png and manifest.csv.

    The modalities take turns; the k-th phantom of each has the seed `seed + k`. A mask is that of the
    phantom's phrase, 0 or 255, all 0 where the phrase is absent. The label is the finding; each phantom is
    its own group. The manifest is written last, so that a folder with one is complete.

    Args:
        out_dir: folder, made if missing; files of the same names are replaced.
        count: phantoms in all.
        seed: of the first of each modality.
        modalities: which to take.
        size: (H, W), or both at once.
        target: as for `generate`.
        text: what the column "text" holds: the caption (for image-text pairs) or the phrase to segment.

    Returns:
        The manifest's path.

    Raises:
        UsageError: no modality, an unknown one, or a negative count.
        UnwritableResult: the folder or a file cannot be written.
    """
    if count < 0 or not modalities:
        raise UsageError(
            f"cannot write {count} phantoms of {len(modalities)} modalities; ask for at least one of each"
        )
    folder = Path(out_dir)
    manifest = folder / "manifest.csv"
    try:
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        rows = []
        for k in range(count):
            turn, member = divmod(k, len(modalities))
            phantom = generate(modalities[member], seed + turn, size=size, target=target)
            rows.append(_write_one(folder, phantom, text=text))
        partial = manifest.with_suffix(".csv.partial")
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(manifest)
    except OSError as error:
        raise UnwritableResult(f"cannot write phantoms to {folder}: {error.strerror or error}") from error
    return manifest


def _write_one(folder: Path, phantom: Phantom, *, text: Literal["caption", "phrase"]) -> dict[str, str]:
    name = phantom.scan.id
    image, mask = f"images/{name}.png", f"masks/{name}.png"
    Image.fromarray(np.rint(phantom.scan.pixels * 255).astype(np.uint8)).save(folder / image)
    Image.fromarray(phantom.target.astype(np.uint8) * np.uint8(255)).save(folder / mask)
    return {
        "id": name,
        "image": image,
        "mask": mask,
        "text": phantom.caption if text == "caption" else phantom.phrase,
        "group": name,
        "label": phantom.attributes["finding"],
    }
