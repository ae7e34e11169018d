"""Ultrasound: BUSI's and UDIAT's breast tumours, and HC18's fetal heads, annotated by an ellipse's outline."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

from lexiseg.datasets.layouts.generic import paired
from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source
from lexiseg.datasets.layouts.making import filled, union
from lexiseg.datasets.layouts.tree import files, find_root, is_image, same_or_nested, stem, subfolder
from lexiseg.io.names import IMAGE_SUFFIXES

_CLASSES = ("benign", "malignant", "normal")
_BUSI_LOOKS_FOR = "folders benign, malignant and normal with 'benign (1).png' and 'benign (1)_mask.png'"
_MASK = re.compile(r"(?P<image>.+)_mask(_[0-9]+)?", re.IGNORECASE)


def _accepts_busi(folder: Path) -> bool:
    first = [subfolder(folder, name) for name in ("benign", "malignant")]
    return all(each is not None and any(_MASK.fullmatch(stem(path)) for path in files(each)) for each in first)


def _find_busi(source: Source) -> Found:
    root = find_root(source.folder, _accepts_busi, _BUSI_LOOKS_FOR)
    cases: list[Case] = []
    for label in _CLASSES:
        folder = subfolder(root, label)
        if folder is None:
            continue
        masks: dict[str, list[Path]] = {}
        images = []
        for path in filter(is_image, files(folder)):
            match = _MASK.fullmatch(stem(path))
            if match:
                masks.setdefault(match["image"], []).append(path)
            else:
                images.append(path)
        cases += [Case(source=path, mask=_one(masks.get(stem(path), [])), label=label) for path in images]
    return Found(cases)


def _one(masks: list[Path]) -> Path | Derived | None:
    if len(masks) > 1:
        return union(masks)
    return masks[0] if masks else None


BUSI = Layout(
    name="busi", about="breast ultrasound, tumours (Al-Dhabyani 2020)", looks_for=_BUSI_LOOKS_FOR, find=_find_busi
)
"""Several masks of one image are merged. Normal images have masks without a tumour. There are no patients."""


_UDIAT_LOOKS_FOR = "folders original and GT with images of equal names ('000001.png')"


def _accepts_udiat(folder: Path) -> bool:
    images, masks = subfolder(folder, "original"), subfolder(folder, "GT")
    return images is not None and masks is not None and bool(files(images, IMAGE_SUFFIXES))


def _find_udiat(source: Source) -> Found:
    root = find_root(source.folder, _accepts_udiat, _UDIAT_LOOKS_FOR)
    images, masks = subfolder(root, "original"), subfolder(root, "GT")
    assert images is not None and masks is not None
    return Found(paired(images, masks, endings=("", "_GT", "_mask"), suffixes=IMAGE_SUFFIXES))


UDIAT = Layout(
    name="udiat", about="breast ultrasound B, lesions (Yap 2018)", looks_for=_UDIAT_LOOKS_FOR, find=_find_udiat
)
"""Benign and malignant are told apart in a spreadsheet only, which is not read."""


_HC18_LOOKS_FOR = "a folder training_set with '000_HC.png' and '000_HC_Annotation.png'"
_IMAGE = re.compile(r"(?P<fetus>[0-9]+)_[0-9]*HC", re.IGNORECASE)
_TABLE = "training_set_pixel_size_and_HC.csv"
_COLUMNS = {"pixel size(mm)": "pixel_mm", "head circumference (mm)": "head_circumference_mm"}


def _images(folder: Path) -> Path | None:
    training = subfolder(folder, "training_set")
    if training is None and folder.name.casefold() == "training_set":
        training = folder
    if training is None:
        return None
    training = same_or_nested(training)
    return training if any(_IMAGE.fullmatch(stem(path)) for path in files(training)) else None


def _find_hc18(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: _images(folder) is not None, _HC18_LOOKS_FOR)
    folder = _images(root)
    assert folder is not None
    there = {stem(path).casefold(): path for path in files(folder)}
    table, problems = _measures(root)
    cases = []
    for path in files(folder):
        match = _IMAGE.fullmatch(stem(path))
        if match is None:
            continue
        outline = there.get(f"{stem(path)}_annotation".casefold())
        cases.append(
            Case(
                source=path,
                mask=filled(outline) if outline else None,
                group=match["fetus"],
                label="fetal_head",
                extra=table.get(path.name, {}),
            )
        )
    return Found(cases, problems)


def _measures(root: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Pixel size and head circumference by file name, of the table beside the training set."""
    path = next((each / _TABLE for each in (root, root.parent) if (each / _TABLE).is_file()), None)
    if path is None:
        return {}, [f"{_TABLE}: not there, so that pixel sizes are not known"]
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
        return {row["filename"].strip(): _numbers(row) for row in rows}, []
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError):
        return {}, [f"{_TABLE}: cannot be read as a table with the column filename; pixel sizes are not known"]


def _numbers(row: dict[str, str]) -> dict[str, str]:
    cells = {}
    for column, name in _COLUMNS.items():
        try:
            value = float(row.get(column) or "")
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            cells[name] = f"{value:.12g}"
    return cells


HC18 = Layout(
    name="hc18", about="fetal ultrasound, heads (van den Heuvel 2018)", looks_for=_HC18_LOOKS_FOR, find=_find_hc18
)
"""Outlines are filled; the column group is the number in the name, pixel_mm the size of a pixel in mm. The
challenge's test_set has no annotations and is passed over."""
