from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trees import block, inside, mask_file, picture, run_import, save

from lexiseg.errors import BadDataset


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    root = tmp_path / "Dataset_BUSI_with_GT"
    for label in ("benign", "malignant", "normal"):
        for number in (1, 2, 10):
            picture(root / label / f"{label} ({number}).png")
            empty = label == "normal"
            mask_file(root / label / f"{label} ({number})_mask.png", block(0, 0, 0, 0) if empty else None)
    mask_file(root / "benign" / "benign (2)_mask_1.png", block(0, 2, 0, 2))
    mask_file(root / "benign" / "benign (2)_mask_2.png", block(14, 16, 14, 16))
    return tmp_path


class TestBusi:
    def test_rows(self, busi: Path) -> None:
        rows, imported = run_import("busi", busi)
        assert list(rows)[:4] == ["benign (1)", "benign (2)", "benign (10)", "malignant (1)"]
        assert [row.label for row in rows.values()] == ["benign"] * 3 + ["malignant"] * 3 + ["normal"] * 3
        assert not imported.missing and not imported.problems
        assert {row.group for row in rows.values()} == {""}
        assert rows["benign (1)"].mask == busi / "Dataset_BUSI_with_GT/benign/benign (1)_mask.png"

    def test_several_masks_are_merged_beside_the_manifest(self, busi: Path) -> None:
        rows, _ = run_import("busi", busi)
        merged = rows["benign (2)"]
        expected = block(4, 12, 4, 12) | block(0, 2, 0, 2) | block(14, 16, 14, 16)
        assert np.array_equal(inside(merged), expected)
        assert merged.mask == busi / "manifest_lexiseg/masks/benign (2)_mask.png"

    def test_importing_again_gives_the_same_bytes(self, busi: Path) -> None:
        run_import("busi", busi)
        first = (busi / "manifest.csv").read_bytes()
        run_import("busi", busi, overwrite=True)
        assert (busi / "manifest.csv").read_bytes() == first

    def test_a_missing_mask_is_listed_and_left_empty(self, busi: Path) -> None:
        (busi / "Dataset_BUSI_with_GT/normal/normal (1)_mask.png").unlink()
        rows, imported = run_import("busi", busi)
        assert imported.missing == ("normal (1)",)
        assert rows["normal (1)"].mask is None

    def test_masks_of_two_sizes_cost_the_mask_alone(self, busi: Path) -> None:
        save(busi / "Dataset_BUSI_with_GT/benign/benign (2)_mask_1.png", np.zeros((4, 4)))
        rows, imported = run_import("busi", busi)
        assert rows["benign (2)"].mask is None
        (problem,) = imported.problems
        assert problem.startswith("benign (2): without a mask") and "(4, 4)" in problem

    def test_another_layout_is_one_line(self, tmp_path: Path) -> None:
        picture(tmp_path / "original" / "000001.png")
        with pytest.raises(BadDataset, match=r"looked for folders benign, .*; found original/$") as error:
            run_import("busi", tmp_path)
        assert "\n" not in str(error.value)


class TestUdiat:
    def test_rows(self, tmp_path: Path) -> None:
        for name in ("000001", "000002"):
            picture(tmp_path / "BUS" / "original" / f"{name}.png")
        mask_file(tmp_path / "BUS" / "GT" / "000001.png")
        rows, imported = run_import("udiat", tmp_path)
        assert np.array_equal(inside(rows["000001"]), block(4, 12, 4, 12))
        assert imported.missing == ("000002",)
