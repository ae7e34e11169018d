"""A folder of images and one of masks: which belongs to which, and what is said where that is not plain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.datasets.importing import Imported, ImportRequest, import_dataset


def imported(folder: Path, images: str, masks: str) -> Imported:
    for place, names in (("images", images), ("masks", masks)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in names.split():
            Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / place / name)
    return import_dataset(ImportRequest(layout="plain", source=folder, out=folder / "m.csv"))


def pairs(found: Imported) -> dict[str, str]:
    return {row.image.name: row.mask.name if row.mask else "" for row in found.rows}


def test_what_is_plain_is_no_problem(tmp_path: Path) -> None:
    found = imported(tmp_path, "a.png b.png B.png c.bmp x.png", "a.png b_mask.png c.tif")
    assert pairs(found) == {"a.png": "a.png", "b.png": "b_mask.png", "B.png": "", "c.bmp": "c.tif", "x.png": ""}
    assert found.problems == ()


@pytest.mark.parametrize(
    ("images", "masks", "expected", "problem"),
    [
        ("a.jpg a.png", "a.png", {"a.jpg": "", "a.png": "a.png"}, "masks: a.png fits a.jpg and a.png; a.png has it"),
        ("a.jpg a.bmp", "a.png", {"a.jpg": "", "a.bmp": ""}, "masks: a.png fits a.bmp and a.jpg; none has it"),
        (
            "d.png d_mask.png",
            "d_mask.png",
            {"d.png": "", "d_mask.png": "d_mask.png"},
            "masks: d_mask.png fits d.png and d_mask.png; d_mask.png has it",
        ),
        (
            "e.png",
            "e.jpg e_seg.png",
            {"e.png": "e.jpg"},
            "masks: e.jpg and e_seg.png fit e.png; e.jpg is",
        ),
        ("a.png", "a.png f.png", {"a.png": "a.png"}, "masks: f.png has no image of its name; left out"),
    ],
)
def test_what_is_not_is_one(tmp_path: Path, images: str, masks: str, expected: dict[str, str], problem: str) -> None:
    found = imported(tmp_path, images, masks)
    assert pairs(found) == expected
    (line,) = found.problems
    assert line.startswith(problem)


def test_problems_name_the_part(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / part
        for place, names in (("images", "a.png"), ("masks", "a.png f.png")):
            (folder / place).mkdir(parents=True)
            for name in names.split():
                Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / place / name)
    found = import_dataset(ImportRequest(layout="plain", source=tmp_path, out=tmp_path / "m.csv"))
    assert [line.partition(":")[0] for line in found.problems] == ["train/masks", "test/masks"]
