from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trees import block, inside, mask_file, picture, run_import

from lexiseg.errors import BadDataset


class TestKvasir:
    def test_rows(self, tmp_path: Path) -> None:
        for name in ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4"):
            picture(tmp_path / "Kvasir-SEG" / "images" / f"{name}.jpg")
            mask_file(tmp_path / "Kvasir-SEG" / "masks" / f"{name}.jpg")
        (tmp_path / "Kvasir-SEG" / "kavsir_bboxes.json").write_text("{}")
        rows, imported = run_import("kvasir", tmp_path)
        assert {row.label for row in rows.values()} == {"polyp"}
        assert np.array_equal(inside(rows["cju0qkwl35piu0993l0dewei2"]), block(4, 12, 4, 12))
        assert not imported.missing


class TestIsic:
    def test_rows(self, tmp_path: Path) -> None:
        for part, name in (("Training", "ISIC_0000000"), ("Validation", "ISIC_0012255")):
            picture(tmp_path / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg")
            mask_file(tmp_path / f"ISIC2018_Task1_{part}_GroundTruth" / f"{name}_segmentation.png")
            (tmp_path / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC-0")
        picture(tmp_path / "ISIC2018_Task1-2_Test_Input" / "ISIC_0012169.jpg")
        rows, imported = run_import("isic", tmp_path)
        assert {row.id: row.extra["split"] for row in rows.values()} == {
            "ISIC_0000000": "train",
            "ISIC_0012255": "val",
        }
        assert np.array_equal(inside(rows["ISIC_0000000"]), block(4, 12, 4, 12))
        assert imported.problems == (
            "ISIC2018_Task1-2_Test_Input: left out, there is no folder of its masks beside it",
        )


class TestPlain:
    @pytest.mark.parametrize("mask", ["masks/a.png", "labels/a.png", "masks/a_mask.png", "masks/a.tif"])
    def test_names_of_masks(self, tmp_path: Path, mask: str) -> None:
        picture(tmp_path / "images" / "a.jpg")
        mask_file(tmp_path / mask)
        rows, _ = run_import("plain", tmp_path)
        assert rows["a"].mask == tmp_path / mask

    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            ("{}/images/a.png", "{}/masks/a.png"),
            ("{}_images/a.png", "{}_masks/a.png"),
        ],
    )
    def test_parts(self, tmp_path: Path, image: str, mask: str) -> None:
        for part in ("train", "val", "test"):
            picture(tmp_path / image.format(part))
            mask_file(tmp_path / mask.format(part))
        rows, imported = run_import("plain", tmp_path)
        assert sorted(row.extra["split"] for row in rows.values()) == ["test", "train", "val"]
        assert len(rows) == 3 and not imported.missing

    def test_two_sets_at_once_are_refused(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            picture(tmp_path / name / "images" / "a.png")
            mask_file(tmp_path / name / "masks" / "a.png")
        with pytest.raises(BadDataset, match=r"2 folders fit \(one, two\); name one of them"):
            run_import("plain", tmp_path)
