from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scans_of import volume_of

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.pipelines.results import TargetResult
from lexiseg.runs.table import (
    COLUMNS,
    Row,
    append_results,
    boxes_cell,
    number,
    read_results,
    refuse_other,
    write_results,
)
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import Prompts
from lexiseg.values.scans import Image


def row(name: str, **fields: str) -> Row:
    return Row(**{"id": name, "image": f"{name}.png", "text": 'a, "b"', "preset": "demo", **fields})


class TestRow:
    def test_columns_are_the_contract(self) -> None:
        assert ",".join(COLUMNS) == (
            "id,image,text,preset,present,presence,confidence,boxes,seconds,status,error,notes,"
            "verdict,area_px,area_mm2,slices,volume_mm3,diameter_mm,reviewed,review,review_seconds,read_as"
        )

    def test_a_line_reads_back(self) -> None:
        original = row("x", present="true", boxes="1 2 3 4;5 6 7 8")
        assert Row.from_line(original.to_line()) == original

    def test_a_row_is_one_line_whatever_is_in_it(self) -> None:
        line = row("x\ny", error="one\r\ntwo\u2028three").to_line()
        assert line.endswith("\n")
        assert len(line.splitlines()) == 1

    def test_undefined_numbers_are_empty(self) -> None:
        assert number(float("nan")) == ""
        assert number(0.5) == "0.5000"

    def test_boxes_of_images_and_volumes(self) -> None:
        one = Prompts(boxes=np.array([[1, 2, 3.5, 4], [5, 6, 7, 8]], np.float32))
        finding = TargetResult("t", np.zeros((2, 2), bool), True, 1, 1, prompts=(one, Prompts()))
        image = Image(np.zeros((9, 9), np.float32))
        assert boxes_cell(finding, image.planes()) == "1 2 3.5 4;5 6 7 8"
        volume = volume_of(np.zeros((2, 9, 9), np.float32))
        assert boxes_cell(finding, volume.planes()) == "0:1 2 3.5 4;0:5 6 7 8"

    def test_boxes_of_a_mirrored_image_lie_on_its_stored_pixels(self) -> None:
        one = Prompts(boxes=np.array([[1, 2, 3.5, 4]], np.float32))
        finding = TargetResult("t", np.zeros((9, 9), bool), True, 1, 1, prompts=(one,))
        mirrored = Geometry.of_picture((9, 9), np.array([[1.0, 0, 0], [0, -1, 0]]))
        image = Image(np.zeros((9, 9), np.float32), geometry=mirrored)
        assert boxes_cell(finding, image.planes()) == "5.5 2 8 4"


class TestTable:
    def test_appended_rows_follow_written_ones(self, tmp_path: Path) -> None:
        table = tmp_path / "results.csv"
        write_results(table, [row("a")])
        append_results(table, [row("b"), row("c")])
        assert [each.id for each in read_results(table)] == ["a", "b", "c"]

    @pytest.mark.parametrize("cut", [1, 5, 20])
    def test_a_torn_last_line_is_dropped(self, tmp_path: Path, cut: int) -> None:
        table = tmp_path / "results.csv"
        write_results(table, [row("a"), row("b")])
        table.write_bytes(table.read_bytes()[:-cut])
        assert [each.id for each in read_results(table)] == ["a"]

    def test_a_torn_header_is_no_row(self, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text("id,ima")
        assert read_results(tmp_path / "results.csv") == []

    def test_another_programs_table_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text("name,dice\nx,1\n")
        with pytest.raises(UsageError, match="written by no lexiseg"):
            read_results(tmp_path / "results.csv")

    def test_an_older_versions_table_is_called_so(self, tmp_path: Path) -> None:
        header = ",".join(COLUMNS[:11])
        (tmp_path / "results.csv").write_text(f"{header}\n")
        with pytest.raises(UsageError, match="written by another version of lexiseg"):
            read_results(tmp_path / "results.csv")

    def test_a_table_without_the_last_columns_is_read_with_empty_cells(self, tmp_path: Path) -> None:
        table = tmp_path / "results.csv"
        table.write_text(
            ",".join(COLUMNS[:-1]) + "\n" + row("a", review="accepted").to_line().removesuffix(",\n") + "\n"
        )
        assert read_results(table) == [row("a", review="accepted")]

    def test_a_failed_append_leaves_the_table_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table = tmp_path / "results.csv"
        write_results(table, [row("a")])
        before = table.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UnwritableResult, match=r"No space left.*--resume"):
            append_results(table, [row("b")])
        assert table.read_bytes() == before


def test_a_run_goes_on_with_less_at_once() -> None:
    """Killed for memory, it could not otherwise; what decides the results is compared as ever."""
    before = {"preset": {"saliency": {"batch": 16, "k": 3}, "proposals": {"points_per_batch": 64}}, "seed": 0}
    less = {"preset": {"saliency": {"batch": 2, "k": 3}, "proposals": {"points_per_batch": 2}}, "seed": 0}
    refuse_other(before, less, Path("out"))
    with pytest.raises(UsageError, match="other preset"):
        refuse_other(before, {"preset": {**less["preset"], "saliency": {"batch": 2, "k": 4}}, "seed": 0}, Path("out"))
