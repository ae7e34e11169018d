"""Every set that may train: what its rows draw, which kind of scan it shows, and what that may hold undrawn.

`sets.yaml` is the data.  A concept is present in a sample (a mask), absent (drawn wherever it is to be seen, and not
here; or not to be seen on this kind of scan at all) or unknown (it may be there, and nobody drew it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from lexiseg.saliency.base import clip_bright
from recipe.concepts import SYNONYMS
from recipe.data import TRAINING_SETS, Sample, letterbox, lungs_by_side, real_samples, split_rows

FILE = Path(__file__).with_name("sets.yaml")
BRIGHT = 99
"""The percentile that becomes white, as in the preset `demo`: the encoder is taught what it is shown in use."""
KIND = "kind: "
"""Before a kind's name, the concept of a whole scan of that kind, which has no outline."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of scan.

    Attributes:
        name: as `Sample.organ` has it.
        says: phrases for a whole scan of the kind.
        may: concepts that may be seen on one.
    """

    name: str
    says: tuple[str, ...]
    may: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set.

    Attributes:
        name: of its folder.
        kind: of its scans.
        draws: label of the manifest -> concept, of all that is drawn wherever it is to be seen.
        partly: likewise, of what is drawn on some images only.
        silent: what an image without a mask of it does not show, though no label of the set draws it.
        together: concept -> those whose union it is.
        sides: two boxes of "lungs" are the patient's right lung and left lung.
    """

    name: str
    kind: str
    draws: Mapping[str, str]
    partly: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sides: bool = False

    @property
    def certain(self) -> frozenset[str]:
        """Concepts that an image without a mask of them does not show."""
        return frozenset({*self.draws.values(), *self.silent, *self.together})


@cache
def load_sets(file: Path = FILE) -> tuple[Mapping[str, Kind], Mapping[str, Source]]:
    """All kinds of scan and all sets, by name.

    Raises:
        ValueError: a set of an unknown kind, or one that draws what its kind cannot show.
    """
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    kinds = {
        name: Kind(name=name, says=tuple(each["says"]), may=frozenset(_flat(each["may"])))
        for name, each in fields["kinds"].items()
    }
    sources = {}
    for name, each in fields["sets"].items():
        lists = {k: tuple(v) for k, v in each.get("together", {}).items()}
        source = Source(**{**each, "name": name, "silent": tuple(each.get("silent", ())), "together": lists})
        if source.kind not in kinds:
            raise ValueError(f"{name}: kind is {source.kind!r}; expected one of {sorted(kinds)}")
        if strange := {*source.certain, *source.partly.values()} - kinds[source.kind].may:
            raise ValueError(f"{name} draws {sorted(strange)}, which {source.kind!r} may not hold")
        sources[name] = source
    return kinds, sources


def _flat(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield from part


def concepts() -> tuple[str, ...]:
    """Everything with an outline that any kind of scan may hold, then the kinds themselves; sorted."""
    kinds, _ = load_sets()
    return (*sorted({*SYNONYMS} | {c for kind in kinds.values() for c in kind.may}), *(KIND + k for k in sorted(kinds)))


def unknown_concepts(source: str, kind: str) -> frozenset[str]:
    """What an image of a set may show although it has no mask of it; of a phantom, all that its kind may hold."""
    kinds, sources = load_sets()
    certain = sources[source].certain if source in sources else frozenset()
    return kinds[kind].may - certain


def status(sample: Sample, concept: str) -> bool | None:
    """True present, False absent, None unknown: a concept with an outline."""
    if concept in sample.masks:
        return True
    if concept in sample.absent:
        return False
    return None if concept in unknown_concepts(sample.source, sample.organ) else False


def all_samples(
    root: Path, size: int, *, validation: bool, fold: int | Sequence[int] = 0, names: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Every image of the sets' training or validation part, its rows together, brightened as the encoder sees it.

    Args:
        root: the folder of the sets; those of `sets.yaml` that are not there are left out.
        size: side of the square that each is kept in, pixels.
        validation: True for the patients that are kept back.
        fold: which of five folds that is.
        names: only these sets; None for all.
    """
    _, sources = load_sets()
    older = [name for name in TRAINING_SETS if names is None or name in names]
    for sample in real_samples(root, size, validation=validation, fold=fold, names=older):
        yield brightened(sample)
    for name, source in sources.items():
        if name in TRAINING_SETS or (names is not None and name not in names):
            continue
        if not (root / name / "manifest.csv").is_file():
            continue
        rows = sorted(split_rows(root / name, validation=validation, fold=fold), key=lambda row: row["image"])
        for image, group in groupby(rows, key=lambda row: row["image"]):
            yield brightened(_sample(root / name, source, image, list(group), size))


def brightened(sample: Sample) -> Sample:
    """The sample as the preset shows it: the 99th percentile of what is not black is white."""
    pixels = clip_bright(sample.image.astype(np.float32) / np.float32(255), BRIGHT)
    image = np.round(pixels * 255).astype(np.uint8)
    return Sample(**{**vars(sample), "image": image})


def masks_of(source: Source, rows: Sequence[Mapping[str, str]], folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Concept -> uint8 (H, W) of 0 and 1: all rows of one image."""
    named = {**source.draws, **source.partly}
    masks: dict[str, NDArray[np.uint8]] = {}
    for row in rows:
        concept = named[row["label"]]
        mask = (np.asarray(Image.open(folder / row["mask"]).convert("L")) > 127).astype(np.uint8)
        masks[concept] = mask
        if source.sides and concept == "lungs":
            masks |= lungs_by_side(row, mask)
    for concept, parts in source.together.items():
        drawn = [masks[part] for part in parts if part in masks]
        if drawn:
            masks[concept] = np.maximum.reduce(drawn)
    return {concept: mask for concept, mask in masks.items() if mask.any()}


def _sample(folder: Path, source: Source, image: str, rows: Sequence[Mapping[str, str]], size: int) -> Sample:
    picture = Image.open(folder / image)
    colour = picture.mode not in ("L", "1", "I;16") and not _is_grey(picture)
    pixels = np.asarray(picture.convert("RGB" if colour else "L"))
    square, valid = letterbox(pixels, size)
    return Sample(
        image=square,
        valid=valid,
        masks={k: letterbox(v, size, nearest=True)[0] for k, v in masks_of(source, rows, folder).items()},
        absent=frozenset(),
        organ=source.kind,
        source=source.name,
        caption="",
        group=rows[0]["group"],
    )


def _is_grey(picture: Image.Image) -> bool:
    """Whether a picture of three channels shows no colour; JPEG may leave a trace."""
    planes = np.asarray(picture.convert("RGB")).astype(np.int16)
    return int((planes.max(2) - planes.min(2)).max()) <= 4
