"""Folders that are dropped, fingers, and a second tab, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_series import SeriesPlan, write_series
from pages import ServerProcess, Visit
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.registry import generate


@pytest.fixture(scope="module")
def breast_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "breast.png"
    pixels = generate("breast-ultrasound", 0, target=True).scan.pixels
    Pillow.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)
    return path


FOCUSED = "dispatchEvent(new Event('focus'))"


def drop(visit: Visit, *paths: Path) -> None:
    """Drop files or folders onto the page, as a file manager does."""
    dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    asked = visit.context.new_cdp_session(visit.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        asked.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 400, "data": dragged})


def stroke(visit: Visit, *steps: list[tuple[float, float]]) -> None:
    """Put fingers down, move them and lift them: each step has the place of every finger on the screen."""
    asked = visit.context.new_cdp_session(visit.page)
    for k, places in enumerate([*steps, []]):
        kind = "touchStart" if k == 0 else "touchMove" if places else "touchEnd"
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        asked.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    visit.settled()


class TestDrop:
    def test_a_folder_with_a_series_in_it(self, browser: Any, server: ServerProcess, tmp_path: Path) -> None:
        plan = SeriesPlan(shape=(5, 32, 40))
        write_series(tmp_path / "study" / "deeper" / "ct", plan)
        (tmp_path / "study" / "readme.txt").write_text("no scan")
        visit = Visit(browser, server.url)
        drop(visit, tmp_path / "study")
        visit.drawn()
        scan = visit.scan
        assert (scan["kind"], scan["shape"], scan["name"]) == ("volume", [5, 32, 40], "ct")
        # What was no scan is said, and hinders nothing.
        assert "readme.txt" in visit.says()
        visit.close()

    def test_files_side_by_side(self, browser: Any, server: ServerProcess, breast_file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.png"
        other.write_bytes(breast_file.read_bytes())
        visit = Visit(browser, server.url)
        drop(visit, breast_file, other)
        visit.drawn()
        assert [each["name"] for each in visit.get("/scans")] == ["breast.png", "other.png"]
        visit.close()


class TestTouch:
    @pytest.fixture
    def visit(self, browser: Any, server: ServerProcess, breast_file: Path) -> Iterator[Visit]:
        opened = Visit(browser, server.url, has_touch=True, viewport={"width": 820, "height": 1180})
        opened.upload(breast_file)
        yield opened
        opened.close()

    def test_a_tap_adds_and_a_drag_is_a_box(self, visit: Visit) -> None:
        visit.page.touchscreen.tap(*visit.at(30.5, 30.5))
        visit.settled()
        assert visit.mask()[30, 30]
        visit.page.keyboard.press("Control+z")
        visit.settled()
        stroke(visit, *([visit.at(20 + 12 * step, 20 + 10 * step)] for step in range(6)))
        target = visit.scan["targets"][0]["id"]
        boxes = visit.get(f"/scans/{visit.scan['id']}/targets/{target}/planes/image/0?layers=prompts")["boxes"]
        assert len(boxes) == 1
        np.testing.assert_allclose(boxes[0], [20, 20, 80, 70], atol=1.5)

    def test_two_fingers_zoom_and_draw_nothing(self, visit: Visit) -> None:
        before = visit.page.evaluate("document.querySelector('#panes canvas').toDataURL()")
        middle = visit.at(64, 64)
        stroke(visit, *([(middle[0] - d, middle[1]), (middle[0] + d, middle[1])] for d in (40, 60, 80, 120)))
        assert visit.page.evaluate("document.querySelector('#panes canvas').toDataURL()") != before
        assert visit.scan["targets"] == []

    def test_nothing_is_wider_than_the_tablet(self, visit: Visit) -> None:
        wide = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]


def test_a_second_tab_sees_what_the_first_did_and_loses_nothing(
    browser: Any, server: ServerProcess, breast_file: Path
) -> None:
    first = Visit(browser, server.url)
    first.upload(breast_file)
    first.click(30.5, 30.5)
    second = first.context.new_page()
    second.goto(first.page.url)
    second.wait_for_selector("html[data-ready]", state="attached")
    second.wait_for_selector("#targets .target")
    # A change of the first, which the second has not heard of; then one of the second on top of it.
    first.click(60.5, 90.5)
    before = first.mask()
    # A browser without a window focuses all its tabs at once, and tells none.
    second.evaluate(FOCUSED)
    second.locator("#note", has_text="changed in another tab").wait_for()
    # A brush's disc, where nothing is yet; both pages are laid out alike.
    assert not before[230:236, 14:20].any()
    second.keyboard.press("d")
    second.mouse.click(*first.at(17.5, 233.5))
    second.wait_for_selector("#stage:not([aria-busy=true])")
    both = first.mask()
    assert both[233, 17] and (both & before).sum() == before.sum() < both.sum()
    # Back in the first: it says so, and undo takes back the last change, whoever made it.
    first.page.evaluate(FOCUSED)
    first.page.locator("#note", has_text="changed in another tab").wait_for()
    first.page.keyboard.press("Control+z")
    first.settled()
    np.testing.assert_array_equal(first.mask(), before)
    first.close()
