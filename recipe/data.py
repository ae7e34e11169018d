"""Training samples: real scans of the four public sets and phantoms, split by patient.

Nothing of a scan is written anywhere: the sets are read from the folder that is given, into memory.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.saliency.framing import frame_scan
from recipe.concepts import HOME, is_absent

ORGAN_OF_SET = {"busi": "breast", "cxr": "chest", "hc18": "fetal", "cheng": "brain"}
ORGAN_OF_MODALITY = {
    "breast-ultrasound": "breast",
    "brain-mri": "brain",
    "chest-xray": "chest",
    "fetal-ultrasound": "fetal",
}
TRAINING_SETS = tuple(ORGAN_OF_SET)  # lgg is never trained on: it is the set that shows what generalises
CONTRADICTORY = frozenset(
    f"busi_g{n}" for n in ("039", "082", "206", "221", "287", "293", "309", "312")
)  # near-identical images that carry different labels in the original
_PHANTOM_NAMES = {
    "malignant tumor": "malignant breast tumor",
    "benign tumor": "benign breast tumor",
}


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is known of it.

    Attributes:
        image: uint8 (S, S) or in colour (S, S, 3), the scan letterboxed into a square, padding 0.
        valid: (h, w) of the scan inside that square (its origin is the middle: see `letterbox`).
        masks: concept -> uint8 (S, S): 0 outside, 1 inside, 2 unknown.
        absent: concepts of the image's own organ that are known not to be there.
        organ: which scans it belongs to; `source`: its set; `caption`: its sentence.
        exact: False where the masks come from boxes.
    """

    image: NDArray[np.uint8]
    valid: tuple[int, int]
    masks: Mapping[str, NDArray[np.uint8]]
    absent: frozenset[str]
    organ: str
    source: str
    caption: str
    exact: bool = True
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def status(self, concept: str) -> bool | None:
        """True present, False absent, None unknown."""
        if concept in self.masks:
            return True
        if concept in self.absent or (concept in HOME and is_absent(concept, self.organ)):
            return False
        return None


def patient_block(row: Mapping[str, str]) -> str:
    """The unit that a split keeps together: the group, and for `cheng` forty neighbouring numbers.

    The brain tumour set has no patient ids, but neighbouring numbers usually are one patient's slices.
    """
    number = re.search(r"(\d+)$", row["id"])
    if row["id"].startswith("cheng_") and number:
        return f"cheng-{row['label']}-{int(number.group(1)) // 40}"
    return row["group"]


def blocks(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """For each row the block it is split by; a group never lies in two blocks."""
    first: dict[str, str] = {}
    return [first.setdefault(row["group"], patient_block(row)) for row in rows]


def fold_of(block: str, folds: int = 5) -> int:
    """A block's fold, from a hash: stable whatever else is in the set."""
    return int(hashlib.sha256(block.encode()).hexdigest(), 16) % folds


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The manifest of one set."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def split_rows(folder: Path, *, validation: bool, fold: int | Sequence[int] = 0) -> list[dict[str, str]]:
    """The rows of a set's training or validation part, by patient block: of five, `fold` is validation."""
    rows, held_out = read_rows(folder), {fold} if isinstance(fold, int) else set(fold)
    return [row for row, block in zip(rows, blocks(rows), strict=True) if (fold_of(block) in held_out) == validation]


def folds_of(root: Path) -> list[int]:
    """The fold of each of `real_samples(root, ..., validation=False, fold=())`, which are all there are."""
    return [fold_of(block) for name in TRAINING_SETS for block in blocks(read_rows(root / name))]


def letterbox(
    pixels: NDArray[np.uint8], size: int, *, nearest: bool = False
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Fit (H, W) or (H, W, 3) into the middle of a (size, size) square, aspect kept, padding 0.

    The place is `lexiseg.saliency.framing`'s, which the encoder frames scans by in use.  The pixels are
    Pillow's, resized as bytes: other roundings would make other weights than those that ship.
    """
    place = frame_scan((pixels.shape[0], pixels.shape[1]), size=size)[0].place
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    square = np.zeros((size, size, *pixels.shape[2:]), np.uint8)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = np.asarray(
        Image.fromarray(pixels).resize((place.width, place.height), how)
    )
    return square, (place.height, place.width)


def _boxes(text: str) -> list[tuple[int, int, int, int]]:
    return [tuple(int(v) for v in part.split()) for part in text.split(";") if part.strip()]  # type: ignore[misc]


def _box_mask(shape: tuple[int, int], boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """The ellipse in each box is inside, the box's corners are unknown: a tumour fills its box about so."""
    mask = np.zeros(shape, np.uint8)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 2
        radius = ((columns - (x0 + x1) / 2) / ((x1 - x0) / 2)) ** 2 + ((rows - (y0 + y1) / 2) / ((y1 - y0) / 2)) ** 2
        mask[radius <= 0.8] = 1
    return mask


Known = tuple[dict[str, NDArray[np.uint8]], set[str]]


def _concepts_of(row: Mapping[str, str], mask: NDArray[np.uint8]) -> Known:
    """Masks by concept and the absent concepts of one row of a real set."""
    name = row["id"].split("_")[0]
    if name == "busi":
        return _breast(row, mask)
    if name == "cxr":
        return _lungs(row, mask)
    return ({"fetal head": mask}, {"tumor"}) if name == "hc18" else _brain(row["label"], mask)


def _breast(row: Mapping[str, str], mask: NDArray[np.uint8]) -> Known:
    label = row["label"]
    if label == "normal":
        return {}, {"breast tumor", "malignant breast tumor", "benign breast tumor", "tumor"}
    masks = {"breast tumor": mask, "tumor": mask}
    if row["group"] in CONTRADICTORY:
        return masks, set()
    other = {"benign": "malignant", "malignant": "benign"}[label]
    return {**masks, f"{label} breast tumor": mask}, {f"{other} breast tumor"}


def _lungs(row: Mapping[str, str], mask: NDArray[np.uint8]) -> Known:
    masks = {"lungs": mask, **lungs_by_side(row, mask)}
    return masks, {"tumor", "lung nodule"} if row["label"] == "normal" else set()


def lungs_by_side(row: Mapping[str, str], mask: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """The patient's right and left lung, cut apart midway between two boxes; nothing where there are not two."""
    boxes = _boxes(row["bbox"])
    if len(boxes) != 2 or boxes[0][2] > boxes[1][0]:
        return {}
    cut = (boxes[0][2] + boxes[1][0]) // 2
    left_of_image, right_of_image = mask.copy(), mask.copy()
    left_of_image[:, cut:] = 0
    right_of_image[:, :cut] = 0
    return {"right lung": left_of_image, "left lung": right_of_image}


def _brain(label: str, mask: NDArray[np.uint8]) -> Known:
    kinds = {"glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary tumor"}
    if label == "no_tumor":
        return {}, {"brain tumor", "tumor", *kinds.values()}
    own = kinds[label]
    return {"brain tumor": mask, "tumor": mask, own: mask}, set(kinds.values()) - {own}


def real_samples(
    root: Path, size: int, *, validation: bool, fold: int | Sequence[int] = 0, names: Sequence[str] = TRAINING_SETS
) -> Iterator[Sample]:
    """Every sample of the training sets' training or validation part; `names`: of these sets only."""
    for name in names:
        folder = root / name
        for row in split_rows(folder, validation=validation, fold=fold):
            pixels = np.asarray(Image.open(folder / row["image"]).convert("L"))
            if row["mask"]:
                mask = (np.asarray(Image.open(folder / row["mask"]).convert("L")) > 127).astype(np.uint8)
            else:
                mask = _box_mask(pixels.shape, _boxes(row["bbox"]))
            masks, absent = _concepts_of(row, mask)
            image, valid = letterbox(pixels, size)
            yield Sample(
                image=image,
                valid=valid,
                masks={k: letterbox(v, size, nearest=True)[0] for k, v in masks.items()},
                absent=frozenset(absent),
                organ=ORGAN_OF_SET[name],
                source=name,
                caption=row["text"],
                exact=bool(row["mask"]),
                group=row["group"],
            )


PHANTOMS = ("breast-ultrasound", "brain-mri", "chest-xray", "fetal-ultrasound")
"""The phantoms that the models learn from, in turn; the others are for tests and the demonstration."""


def phantom_samples(count: int, size: int, seed: int) -> Iterator[Sample]:
    """`count` phantoms, the modalities in turn; a third without their target."""
    for index in range(count):
        modality = PHANTOMS[index % len(PHANTOMS)]
        organ = ORGAN_OF_MODALITY[modality]
        phantom = generate(modality, seed + index, size=size)
        masks = {}
        for name, mask in phantom.structures.items():
            concept = _PHANTOM_NAMES.get(name, name)
            if HOME.get(concept) == organ and mask.any():
                masks[concept] = mask.astype(np.uint8)
        absent = {c for c, home in HOME.items() if home == organ and c in phantom.absent_phrases and c not in masks}
        tumor = masks.get("breast tumor") if organ == "breast" else masks.get("brain tumor")
        if tumor is not None:
            masks["tumor"] = tumor
        else:
            absent |= {"tumor"} | ({"breast tumor"} if organ == "breast" else set())
            absent |= {"brain tumor"} if organ == "brain" else set()
        yield Sample(
            image=np.round(np.asarray(phantom.scan.pixels) * 255).astype(np.uint8),
            valid=(size, size),
            masks=masks,
            absent=frozenset(absent),
            organ=organ,
            source="phantom",
            caption=phantom.caption,
            group=f"phantom-{seed + index}",
        )
