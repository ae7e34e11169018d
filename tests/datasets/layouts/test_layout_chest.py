from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trees import block, inside, mask_file, picture, run_import

from lexiseg.errors import BadDataset

LEFT, RIGHT = block(2, 14, 1, 6), block(2, 14, 10, 15)
INFECTION = "COVID-QU-Ex Dataset/Infection Segmentation Data/Infection Segmentation Data"
LUNGS = "COVID-QU-Ex Dataset/Lung Segmentation Data/Lung Segmentation Data"


@pytest.fixture
def montgomery(tmp_path: Path) -> Path:
    root = tmp_path / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        picture(root / "CXR_png" / f"{name}.png")
        mask_file(root / "ManualMask" / "leftMask" / f"{name}.png", LEFT)
        mask_file(root / "ManualMask" / "rightMask" / f"{name}.png", RIGHT)
    (root / "CXR_png" / "Thumbs.db").write_bytes(b"not an image")
    return tmp_path


class TestMontgomery:
    def test_both_lungs_are_one_mask(self, montgomery: Path) -> None:
        rows, imported = run_import("montgomery", montgomery)
        assert [(row.id, row.label, row.group) for row in rows.values()] == [
            ("MCUCXR_0001_0", "normal", "MCUCXR_0001"),
            ("MCUCXR_0104_1", "tuberculosis", "MCUCXR_0104"),
        ]
        assert np.array_equal(inside(rows["MCUCXR_0104_1"]), LEFT | RIGHT)
        assert not imported.problems

    @pytest.mark.parametrize(("target", "expected"), [("left lung", LEFT), ("Right lung", RIGHT)])
    def test_one_lung(self, montgomery: Path, target: str, expected: np.ndarray) -> None:
        rows, _ = run_import("montgomery", montgomery, target=target)
        assert np.array_equal(inside(rows["MCUCXR_0001_0"]), expected)

    def test_half_the_truth_is_no_truth(self, montgomery: Path) -> None:
        (montgomery / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png").unlink()
        assert run_import("montgomery", montgomery)[1].missing == ("MCUCXR_0001_0",)

    def test_an_unknown_target(self, montgomery: Path) -> None:
        with pytest.raises(BadDataset, match=r"no target 'heart'.*lungs, left lung, right lung"):
            run_import("montgomery", montgomery, target="heart")


class TestShenzhen:
    def test_rows(self, tmp_path: Path) -> None:
        for name in ("CHNCXR_0001_0", "CHNCXR_0400_1"):
            picture(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / f"{name}.png")
        mask_file(tmp_path / "mask" / "mask" / "CHNCXR_0001_0_mask.png", LEFT)
        rows, imported = run_import("shenzhen", tmp_path)
        assert np.array_equal(inside(rows["CHNCXR_0001_0"]), LEFT)
        assert rows["CHNCXR_0400_1"].label == "tuberculosis"
        assert imported.missing == ("CHNCXR_0400_1",)

    def test_masks_not_unpacked(self, tmp_path: Path) -> None:
        picture(tmp_path / "CXR_png" / "CHNCXR_0001_0.png")
        with pytest.raises(BadDataset, match=r"a folder mask .*; found CXR_png/"):
            run_import("shenzhen", tmp_path)


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    for split, label, name in (
        ("Train", "COVID-19", "covid_1"),
        ("Val", "Non-COVID", "non_COVID (2)"),
        ("Test", "Normal", "Normal (3)"),
    ):
        for half in (INFECTION, LUNGS):
            picture(tmp_path / half / split / label / "images" / f"{name}.png")
            mask_file(tmp_path / half / split / label / "lung masks" / f"{name}.png", LEFT | RIGHT)
        mask_file(tmp_path / INFECTION / split / label / "infection masks" / f"{name}.png", block(5, 8, 2, 4))
    picture(tmp_path / LUNGS / "Test" / "Normal" / "images" / "Normal (4).png")
    return tmp_path


class TestCovidQuEx:
    def test_infections(self, covid: Path) -> None:
        rows, imported = run_import("covid-qu-ex", covid)
        assert [(row.id, row.label, row.extra["split"]) for row in rows.values()] == [
            ("covid_1", "COVID-19", "train"),
            ("non_COVID (2)", "Non-COVID", "val"),
            ("Normal (3)", "Normal", "test"),
        ]
        assert np.array_equal(inside(rows["covid_1"]), block(5, 8, 2, 4))
        assert not imported.missing

    def test_lungs_come_from_the_larger_half(self, covid: Path) -> None:
        rows, imported = run_import("covid-qu-ex", covid, target="lungs")
        assert rows["covid_1"].image.is_relative_to(covid / LUNGS)
        assert np.array_equal(inside(rows["covid_1"]), LEFT | RIGHT)
        assert imported.missing == ("Normal (4)",)

    def test_lungs_of_the_infection_half_alone(self, covid: Path) -> None:
        rows, _ = run_import("covid-qu-ex", covid / INFECTION, target="lungs")
        assert np.array_equal(inside(rows["covid_1"]), LEFT | RIGHT)

    def test_infections_of_the_lung_half(self, covid: Path) -> None:
        with pytest.raises(BadDataset, match="for infection; found other masks only"):
            run_import("covid-qu-ex", covid / LUNGS)
