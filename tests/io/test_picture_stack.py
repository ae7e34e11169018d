"""Pictures as the slices of a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import UnreadableScan
from lexiseg.io.find import describe_inputs, find_sources
from lexiseg.io.sources import SourceOptions, read_source
from lexiseg.values.scans import Volume

OPTIONS = SourceOptions(stack=True, spacing=(4.0, 0.5, 0.25))
GREY = np.random.default_rng(0).integers(0, 256, (11, 6, 5)).astype(np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4096, (11, 6, 5)).astype(np.uint16)
COLOUR = np.random.default_rng(2).integers(0, 256, (11, 6, 5, 3)).astype(np.uint8)


def read(path: Path) -> Volume:
    (source,) = find_sources([path], OPTIONS)
    scan = read_source(source)
    assert isinstance(scan, Volume)
    return scan


@pytest.mark.parametrize("values", [GREY, DEEP, COLOUR])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_folder_in_the_order_of_the_numbers_in_its_names(tmp_path: Path, values: np.ndarray, ending: str) -> None:
    for k, array in enumerate(values):
        Image.fromarray(array).save(tmp_path / f"slice{k}.{ending}")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.values, values)
    assert volume.spacing == (4, 0.5, 0.25)
    assert "nobody knows how the pictures lie" in volume.notes["orientation"]
    if values.dtype == np.uint8:
        np.testing.assert_array_equal(np.rint(volume.planes().window.apply(values) * 255), values)


def test_the_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = [Image.fromarray(array) for array in DEEP]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    volume = read(tmp_path / "stack.tif")
    np.testing.assert_array_equal(volume.values, DEEP)
    (found,) = describe_inputs([tmp_path / "stack.tif"], OPTIONS)
    assert (found.kind, found.shape, found.spacing_mm, found.files) == ("volume", (11, 6, 5), (4, 0.5, 0.25), 1)


def test_without_it_each_picture_is_a_scan(tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(GREY[k]).save(tmp_path / f"{k}.png")
    assert len(find_sources([tmp_path])) == 3


@pytest.mark.parametrize("other", [GREY[0, :4], DEEP[0], COLOUR[0]])
def test_pictures_of_another_size_or_kind_are_refused(tmp_path: Path, other: np.ndarray) -> None:
    for k in range(3):
        Image.fromarray(GREY[k]).save(tmp_path / f"{k}.png")
    Image.fromarray(other).save(tmp_path / "9.png")
    with pytest.raises(UnreadableScan, match=r"its slice 4 \(9\.png\) is .*; expected pictures of one size and kind"):
        read(tmp_path)


def test_a_limit_holds(tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(GREY[k]).save(tmp_path / f"{k}.png")
    (source,) = find_sources([tmp_path], OPTIONS)
    with pytest.raises(UnreadableScan, match="more than 50 voxels"):
        read_source(source, max_voxels=50)


def test_a_damaged_slice_is_one_line(tmp_path: Path) -> None:
    for k in range(2):
        Image.fromarray(GREY[k]).save(tmp_path / f"{k}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(UnreadableScan) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
