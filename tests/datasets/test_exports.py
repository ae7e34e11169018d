from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from discs import disc, write_discs

from lexiseg.datasets.exports import export_coco, export_nnunet
from lexiseg.datasets.label_maps import laid_over, read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan


@pytest.fixture
def rows(tmp_path: Path) -> list[ManifestRow]:
    found = write_discs(tmp_path / "set", 3)
    return [replace(row, extra={"split": part}) for row, part in zip(found, ("train", "val", "train"), strict=True)]


class TestNnunet:
    def test_has_the_layout(self, rows: list[ManifestRow], tmp_path: Path) -> None:
        place = export_nnunet(rows, ["breast tumor"], tmp_path / "out")
        content = json.loads((place / "dataset.json").read_text())
        assert content == {
            "channel_names": {"0": "grey"},
            "labels": {"background": 0, "breast tumor": 1},
            "numTraining": 3,
            "file_ending": ".png",
        }
        assert json.loads((place / "splits_final.json").read_text()) == [{"train": ["d0", "d2"], "val": ["d1"]}]
        for k in range(3):
            grey, mask = disc(k)
            image = np.asarray(Image.open(place / "imagesTr" / f"d{k}_0000.png"))
            np.testing.assert_array_equal(image, grey)
            np.testing.assert_array_equal(np.asarray(Image.open(place / "labelsTr" / f"d{k}.png")), mask)

    def test_scans_of_an_earlier_export_go(self, rows: list[ManifestRow], tmp_path: Path) -> None:
        export_nnunet(rows, ["disc"], tmp_path / "out")
        place = export_nnunet(rows[1:], ["disc"], tmp_path / "out")
        assert {path.name for path in (place / "imagesTr").iterdir()} == {"d1_0000.png", "d2_0000.png"}
        assert {path.name for path in (place / "labelsTr").iterdir()} == {"d1.png", "d2.png"}

    def test_one_coloured_scan_makes_all_coloured(self, rows: list[ManifestRow], tmp_path: Path) -> None:
        colour = np.random.default_rng(0).integers(0, 255, (36, 48, 3)).astype(np.uint8)
        Image.fromarray(colour).save(rows[1].image)
        place = export_nnunet(rows, ["disc"], tmp_path / "out")
        shapes = {np.asarray(Image.open(path)).shape for path in (place / "imagesTr").iterdir()}
        assert shapes == {(36, 48, 3)}
        assert len(json.loads((place / "dataset.json").read_text())["channel_names"]) == 3


def decoded(counts: list[int], size: list[int]) -> np.ndarray:
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return values.reshape(size[1], size[0]).T.astype(bool)


class TestCoco:
    def test_masks_come_back(self, rows: list[ManifestRow], tmp_path: Path) -> None:
        content = json.loads(export_coco(rows, ["disc"], tmp_path / "set").read_text())
        assert [image["file_name"] for image in content["images"]] == [f"images/d{k}.png" for k in range(3)]
        for k, found in enumerate(content["annotations"]):
            mask = disc(k)[1]
            np.testing.assert_array_equal(decoded(**found["segmentation"]), mask)
            x, y, width, height = found["bbox"]
            assert found["area"] == mask.sum() == mask[y : y + height, x : x + width].sum()

    def test_a_mask_may_begin_in_the_corner_and_may_be_missing(self, rows: list[ManifestRow], tmp_path: Path) -> None:
        corner = np.zeros((36, 48), np.uint8)
        corner[:5, :7] = 255
        assert rows[0].mask is not None
        assert rows[1].mask is not None
        Image.fromarray(corner).save(rows[0].mask)
        Image.fromarray(corner * 0).save(rows[1].mask)
        content = json.loads(export_coco(rows, ["disc"], tmp_path / "set").read_text())
        assert [found["image_id"] for found in content["annotations"]] == [1, 3]
        np.testing.assert_array_equal(decoded(**content["annotations"][0]["segmentation"]), corner > 0)


class TestLabels:
    def test_several_targets_are_label_values(self, tmp_path: Path) -> None:
        values = np.array([[0, 1], [2, 2]], np.uint8)
        Image.fromarray(values).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "m.png", targets=2, shape=(2, 2)), values)
        with pytest.raises(UnreadableScan, match="3 values, 0, 1 and 2"):
            read_labels(tmp_path / "m.png", targets=1, shape=(2, 2))

    def test_several_values_of_one_target_are_sent_to_import(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8)).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match="make masks of one target with `lexiseg dataset import") as caught:
            read_labels(tmp_path / "m.png", targets=1, shape=(2, 2))
        assert "--label" not in str(caught.value)

    def test_other_values_and_shapes_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match="labels 0 to 2"):
            read_labels(tmp_path / "m.png", targets=2, shape=(1, 2))
        with pytest.raises(UnreadableScan, match=r"before EXIF turned the scan\?\); expected the same"):
            read_labels(tmp_path / "m.png", targets=1, shape=(2, 1))


class TestLaidOver:
    def test_of_equal_masks_the_first_is_on_top(self) -> None:
        mask = np.ones((2, 2), bool)
        assert (laid_over([mask, mask]) == 1).all()
