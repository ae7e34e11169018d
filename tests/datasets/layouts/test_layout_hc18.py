from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.draw import ellipse
from trees import inside, mask_file, picture, run_import

from lexiseg.datasets.layouts.making import fill_outline
from lexiseg.errors import UnreadableScan

CSV = "filename,pixel size(mm),head circumference (mm)\n000_HC.png,0.0691358041432,44.3\n001_HC.png,nan,\n"


def head(row: int, column: int) -> np.ndarray:
    """A filled ellipse in 64 x 64 pixels, which may reach beyond them."""
    mask = np.zeros((64, 64), bool)
    mask[ellipse(row, column, 20, 14, shape=mask.shape, rotation=0.5)] = True
    return mask


def outline(mask: np.ndarray) -> np.ndarray:
    """The mask's edge, two pixels wide, open where the image cuts the mask."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, iterations=2, border_value=1)


class TestFillOutline:
    @pytest.mark.parametrize("place", [(32, 32), (32, 4), (4, 4), (60, 30), (62, 62)])
    def test_the_inside_and_the_outline(self, place: tuple[int, int]) -> None:
        assert np.array_equal(fill_outline(outline(head(*place))), head(*place))

    def test_across_two_borders(self) -> None:
        mask = np.zeros((20, 64), bool)
        mask[ellipse(10, 32, 25, 14, shape=mask.shape)] = True
        assert np.array_equal(fill_outline(outline(mask)), mask)

    def test_a_gap(self) -> None:
        broken = outline(head(32, 32))
        broken[:, 30:34] = False
        with pytest.raises(UnreadableScan, match="not closed"):
            fill_outline(broken)

    def test_filled_already_and_empty(self) -> None:
        assert np.array_equal(fill_outline(head(32, 32)), head(32, 32))
        assert not fill_outline(np.zeros((4, 4), bool)).any()


@pytest.fixture
def hc18(tmp_path: Path) -> Path:
    for name in ("000_HC", "000_2HC", "001_HC"):
        picture(tmp_path / "training_set" / f"{name}.png", size=64)
        mask_file(tmp_path / "training_set" / f"{name}_Annotation.png", outline(head(32, 30)))
    picture(tmp_path / "test_set" / "000_HC.png", size=64)
    (tmp_path / "training_set_pixel_size_and_HC.csv").write_text(CSV)
    return tmp_path


class TestHc18:
    def test_rows(self, hc18: Path) -> None:
        rows, imported = run_import("hc18", hc18)
        assert {row.id: row.group for row in rows.values()} == {
            "000_HC": "000",
            "000_2HC": "000",
            "001_HC": "001",
        }
        assert rows["000_HC"].extra == {"pixel_mm": "0.0691358041432", "head_circumference_mm": "44.3"}
        assert set(rows["001_HC"].extra.values()) == {""}
        assert np.array_equal(inside(rows["000_HC"]), head(32, 30))
        assert not imported.problems

    def test_the_training_set_alone(self, hc18: Path) -> None:
        rows, _ = run_import("hc18", hc18 / "training_set")
        assert rows["000_HC"].extra["pixel_mm"] == "0.0691358041432"

    def test_an_open_outline_is_named(self, hc18: Path) -> None:
        broken = outline(head(32, 30))
        broken[30:34] = False
        mask_file(hc18 / "training_set" / "001_HC_Annotation.png", broken)
        rows, imported = run_import("hc18", hc18)
        assert rows["001_HC"].mask is None and imported.missing == ("001_HC",)
        assert "001_HC_Annotation.png: its outline is not closed" in imported.problems[0]

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"name;size\n1;2\n", b""])
    def test_without_a_sound_table(self, hc18: Path, content: bytes | None) -> None:
        table = hc18 / "training_set_pixel_size_and_HC.csv"
        table.unlink() if content is None else table.write_bytes(content)
        rows, imported = run_import("hc18", hc18)
        assert len(rows) == 3
        assert len(imported.problems) == (0 if content == b"" else 1)
