"""The page in a browser: a volume whose slices are corrected, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_series import SeriesPlan, write_series
from pages import ServerProcess, Visit
from phantom_volume import write_head

SHOWN = """async (k) => {
  const { layersOf } = await import("/js/data.js");
  const { state } = await import("/js/state.js");
  const { mask } = await layersOf(state.scan, state.scan.targets[0], "axial", k, ["mask"]);
  return Boolean(mask);
}"""


@pytest.fixture
def visit(browser: Any, server: ServerProcess) -> Iterator[Visit]:
    opened = Visit(browser, server.url)
    yield opened
    opened.close()


def test_undo_shows_again_what_the_threshold_had_hidden(visit: Visit, tmp_path: Path) -> None:
    write_head(tmp_path / "head.nii.gz", slices=8)
    visit.upload(tmp_path / "head.nii.gz")
    page = visit.page
    visit.ask("brain tumor")
    at = visit.scan["targets"][0]["slices"]["axial"]
    assert len(at) >= 2
    page.fill("#threshold", "1")
    visit.settled()
    for k in (at[1], at[0]):
        page.fill("#slice", str(k))
        visit.drawn()
    assert not page.evaluate(SHOWN, at[0]) and not page.evaluate(SHOWN, at[1])
    page.locator("#panes canvas").first.focus()
    page.keyboard.press("d")
    visit.click(30, 30)
    page.fill("#threshold", "0.3")
    visit.settled()
    # What was painted counts alone; both slices are looked at as they are now.
    for k in (at[1], at[0]):
        page.fill("#slice", str(k))
        visit.drawn()
    assert page.evaluate(SHOWN, at[0]) and not page.evaluate(SHOWN, at[1])
    page.locator("#panes canvas").first.focus()
    page.keyboard.press("Control+z")
    visit.settled()
    assert visit.scan["targets"][0]["slices"]["axial"] == at
    assert page.evaluate(SHOWN, at[0]) and page.evaluate(SHOWN, at[1])


def test_slices_that_were_drawn_in_are_told_after_a_propagation(visit: Visit, tmp_path: Path) -> None:
    write_head(tmp_path / "head.nii.gz", slices=8)
    visit.upload(tmp_path / "head.nii.gz")
    page = visit.page
    for k in (5, 4):
        page.fill("#slice", str(k))
        visit.drawn()
        page.locator("#panes canvas").first.focus()
        page.keyboard.press("d")
        visit.click(60, 60)
    page.click("text=Propagate")
    page.locator("#note", has_text="1 slice that you drew in is left as it is").wait_for()


def test_slices_that_are_not_evenly_apart_are_measured_where_they_lie(visit: Visit, tmp_path: Path) -> None:
    # Along z at 0, 2, 4, 9, 14 mm; the picture has them evenly, 3.5 mm apart.
    plan = SeriesPlan(shape=(5, 64, 64), spacing=(1.0, 1.0), step=(0.0, 0.0, 2.0), places=(0, 1, 2, 4.5, 7))
    write_series(tmp_path, plan)
    visit.upload(*sorted(tmp_path.iterdir()))
    page = visit.page
    assert "2 to 5 mm apart, drawn evenly" in page.inner_text("#facts")
    tape = "(tape) => import('/js/viewer.js').then((viewer) => viewer.tapeWords(tape))"
    # In a coronal plane rows run across slices, from the head down.
    for rows, expected in (((0.5, 1.5), 5.0), ((1.5, 3.5), 7.0), ((2.5, 4.5), 4.0), ((0.0, 5.0), 17.5)):
        ends = [{"x": 9.5, "y": row} for row in rows]
        words = page.evaluate(tape, {"axis": "coronal", "from": ends[0], "to": ends[1]})
        assert words == f"{expected:.1f} mm"
    assert page.evaluate(tape, {"axis": "axial", "from": {"x": 0, "y": 0}, "to": {"x": 3, "y": 4}}) == "5.0 mm"


def test_how_far_apart_slices_are_is_told(visit: Visit, tmp_path: Path) -> None:
    write_head(tmp_path / "head.nii.gz", slices=8)
    visit.upload(tmp_path / "head.nii.gz")
    assert "4 mm apart" in visit.page.inner_text("#facts")
