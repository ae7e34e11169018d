"""A folder of phantoms with a manifest, like any other data set."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.abdomen import ABDOMEN
from lexiseg.datasets.phantoms.brain import BRAIN
from lexiseg.datasets.phantoms.breast import BREAST
from lexiseg.datasets.phantoms.chest import CHEST
from lexiseg.datasets.phantoms.fetal import FETAL
from lexiseg.datasets.phantoms.fundus import FUNDUS
from lexiseg.datasets.phantoms.phantom import Draw, Modality, Phantom
from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.values.scans import Image

_REGISTRY: Mapping[str, Modality] = {m.name: m for m in (BREAST, BRAIN, CHEST, FETAL, FUNDUS, ABDOMEN)}

MODALITIES: tuple[str, ...] = tuple(_REGISTRY)
"""Names that `generate` knows."""

_SMALLEST = 32


def generate(
    modality: str,
    seed: int,
    *,
    size: int | tuple[int, int] = 256,
    target: bool | None = None,
    **attributes: str,
) -> Phantom:
    """A phantom scan with the truth about it; the same arguments give the same bytes.

    Args:
        modality: one of `MODALITIES`.
        seed: not negative; each gives another patient.
        size: (H, W), or both at once, at least 32.
        target: True shows the modality's finding (a tumor, a lung nodule or opacity, a fetal head), False
            does not, None lets chance decide. A chest X-ray always shows its lungs.
        **attributes: what to fix instead of draw, see `options`. A "finding_size" is what is drawn; the mask,
            and with it the phantom's own word for the size, may be smaller where the organ cuts it off.

    Raises:
        UsageError: an unknown modality, attribute or value, or an impossible seed or size.
    """
    kind = modality_of(modality)
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(shape) < _SMALLEST:
        raise UsageError(f"a phantom of {shape[0]} x {shape[1]} pixels is too small; ask for at least {_SMALLEST}")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    check_attributes(kind, attributes)
    rng = np.random.default_rng([zlib.crc32(kind.name.encode()), seed])
    shown = bool(rng.random() < kind.present)
    draw = Draw(rng=rng, shape=shape, present=shown if target is None else target, forced=attributes)
    made = kind.build(draw)
    return Phantom(
        scan=Image(pixels=made.pixels, id=f"{kind.name}-{seed:05d}", notes={"origin": "procedural phantom"}),
        modality=kind.name,
        structures=made.structures,
        attributes=made.attributes,
        caption=made.caption,
        phrase=kind.phrase,
        absent_phrases=absent_phrases(kind, made.structures),
    )


def options(modality: str) -> Mapping[str, tuple[str, ...]]:
    """The attributes that `generate` accepts for a modality, with the values each may take.

    Raises:
        UsageError: an unknown modality.
    """
    return modality_of(modality).options


def modality_of(name: str) -> Modality:
    """The kind of phantom of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in _REGISTRY:
        raise UsageError(f"there is no phantom of {name!r}; choose one of {', '.join(MODALITIES)}")
    return _REGISTRY[name]


def check_attributes(kind: Modality, attributes: Mapping[str, str]) -> None:
    """Pass what `generate` accepts for a kind.

    Raises:
        UsageError: an unknown attribute or value.
    """
    for name, value in attributes.items():
        if name not in kind.options:
            raise UsageError(f"{kind.name} phantoms have no attribute {name!r}; choose from {', '.join(kind.options)}")
        if value not in kind.options[name]:
            raise UsageError(f"{name}={value!r} is unknown; choose from {', '.join(kind.options[name])}")


def absent_phrases(kind: Modality, structures: Mapping[str, object]) -> tuple[str, ...]:
    """Findings that are not drawn, then what only other modalities show."""
    own = [phrase for phrase in kind.findings if phrase not in structures]
    foreign = [
        phrase
        for other in _REGISTRY.values()
        if other is not kind
        for phrase in other.exclusive
        if phrase not in kind.shows and phrase not in structures
    ]
    return tuple(dict.fromkeys(own + foreign))


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
        raise UsageError(f"cannot write {count} phantoms of {len(modalities)} modalities; ask for at least one of each")
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
    Pillow.fromarray(np.rint(phantom.scan.pixels * 255).astype(np.uint8)).save(folder / image)
    Pillow.fromarray(phantom.target.astype(np.uint8) * np.uint8(255)).save(folder / mask)
    return {
        "id": name,
        "image": image,
        "mask": mask,
        "text": phantom.caption if text == "caption" else phantom.phrase,
        "group": name,
        "label": phantom.attributes["finding"],
    }
