"""A written set of phantoms is an ordinary data set."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.datasets.phantoms.registry import MODALITIES, generate, write_set
from lexiseg.errors import UnwritableResult, UsageError


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_manifest_lists_images_and_masks(tmp_path: Path) -> None:
    manifest = write_set(tmp_path / "set", count=6, seed=3, size=(48, 64))
    assert manifest == tmp_path / "set" / "manifest.csv"
    table = rows(manifest)
    assert list(table[0]) == ["id", "image", "mask", "text", "group", "label"]
    assert len({row["id"] for row in table}) == 6
    assert [row["id"].rsplit("-", 1)[0] for row in table[: len(MODALITIES)]] == list(MODALITIES)
    for row in table:
        image, mask = (Image.open(manifest.parent / row[key]) for key in ("image", "mask"))
        assert image.size == mask.size == (64, 48)
        assert set(np.unique(mask)) <= {0, 255}


def test_files_hold_the_phantoms(tmp_path: Path) -> None:
    row = rows(write_set(tmp_path, count=1, seed=5, modalities=["fetal-ultrasound"], size=64, target=True))[0]
    phantom = generate("fetal-ultrasound", 5, size=64, target=True)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / row["image"])) / 255, phantom.scan.pixels, atol=0.003)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / row["mask"])) > 0, phantom.target)
    assert (row["text"], row["label"]) == (phantom.caption, "fetal head")


def test_absent_targets_have_empty_masks(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, count=2, modalities=["brain-mri"], size=48, target=False, text="phrase")
    table = rows(manifest)
    assert len(table) == 2
    for row in table:
        assert (row["label"], row["text"]) == ("none", "brain tumor")
        assert not np.asarray(Image.open(tmp_path / row["mask"])).any()


def test_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_set(tmp_path / name, count=4, size=40)
    first = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(first) == 9
    for path in first:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_no_phantoms_give_an_empty_manifest(tmp_path: Path) -> None:
    assert rows(write_set(tmp_path, count=0)) == []


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-1 phantoms"):
        write_set(tmp_path, count=-1)
    with pytest.raises(UsageError, match="0 modalities"):
        write_set(tmp_path, count=1, modalities=[])
    with pytest.raises(UsageError, match="'ct'"):
        write_set(tmp_path, count=1, modalities=["ct"])


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableResult, match="cannot write phantoms"):
        write_set(tmp_path / "file", count=1, size=32)
