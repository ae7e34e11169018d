"""The page in a browser: a volume whose slices are corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
