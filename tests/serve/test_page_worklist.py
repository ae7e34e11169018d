"""A folder gone through with single keys, in a browser."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pages import ServerProcess, Visit
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.datasets.phantoms.volume import generate_volume

_PATIENCE = 90_000


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def server(browser: Any, tmp_path: Path, results: Path) -> Iterator[ServerProcess]:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(4):
        pixels = generate("breast-ultrasound", seed, size=96, target=seed > 0).scan.pixels
        Pillow.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(folder / f"scan{seed}.png")
    running = ServerProcess(
        tmp_path / "state", tmp_path / "log.txt", "--folder", str(folder), "--text", "breast tumor",
        "--results", str(results),
    )  # fmt: skip
    yield running
    running.stop()


def test_a_worklist_by_keys_alone(browser: Any, server: ServerProcess, results: Path) -> None:
    visit = Visit(browser, server.url)
    page, keys = visit.page, visit.page.keyboard
    assert page.locator("#work-list li").count() == 4
    page.locator("#work-words", has_text="0 of 4 reviewed").wait_for()
    page.wait_for_selector("#work-list li:has-text('present') >> nth=0", timeout=_PATIENCE)
    while "answered by the models" in page.inner_text("#work-words"):
        page.wait_for_timeout(500)
    names = []

    def now(done: int) -> None:
        page.locator("#work-words", has_text=f"{done} of 4 reviewed").wait_for()
        page.wait_for_selector("#work-list li.active")
        visit.settled()
        names.append(page.inner_text("#scan-name"))

    keys.press("n")
    now(0)
    keys.press("c")
    assert "Nothing was changed" in page.inner_text("#note")
    keys.press("a")
    now(1)
    keys.press("d")
    page.locator("#panes canvas").focus()
    keys.press("Enter")
    keys.press("ArrowRight")
    keys.press("Enter")
    visit.settled()
    keys.press("a")
    assert "press C" in page.inner_text("#note")
    keys.press("c")
    now(2)
    # A reload comes back to the scan and its place in the list.
    page.reload()
    visit.ready()
    page.wait_for_selector("#work-list li.active")
    visit.settled()
    assert page.inner_text("#scan-name") == names[-1]
    keys.press("r")
    now(3)
    keys.press("s")
    page.locator("#note", has_text="Nothing is left").wait_for()
    visit.close()

    with (results / "results.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert [rows[name]["review"] for name in names] == ["accepted", "corrected", "rejected", "skipped"]
    assert len(set(names)) == 4
    assert all(0 <= float(rows[name]["review_seconds"]) < 600 for name in names)


def test_what_the_models_have_not_answered_cannot_be_opened(browser: Any, server: ServerProcess) -> None:
    visit = Visit(browser, server.url)
    page = visit.page
    while "answered by the models" in page.inner_text("#work-words"):
        page.wait_for_timeout(500)

    def unanswered(route: Any) -> None:
        told = route.fetch().json()
        for item in told["items"]:
            item["segmented"] = item["name"] != "scan0"
        route.fulfill(json={**told, "segmented": 3})

    page.route("**/api/v1/worklist", unanswered)
    page.reload()
    visit.ready()
    row = page.locator("#work-list li", has_text="scan0")
    assert "waiting for the models" in row.inner_text() and row.locator("button").is_disabled()
    assert page.locator("#work-list li", has_text="scan1").locator("button").is_enabled()
    visit.close()


def test_seconds_and_masks_of_a_scan_that_is_left_and_seen_elsewhere(
    browser: Any, server: ServerProcess, results: Path
) -> None:
    visit = Visit(browser, server.url)
    page = visit.page
    while "answered by the models" in page.inner_text("#work-words"):
        page.wait_for_timeout(500)
    page.keyboard.press("n")
    page.wait_for_selector("#work-list li.active")
    visit.settled()
    name = page.inner_text("#scan-name")
    # A reload, and a look at another scan, lose none of the time.
    page.wait_for_timeout(2000)
    page.reload()
    visit.ready()
    page.wait_for_selector("#work-list li.active")
    visit.settled()
    page.locator("#work-list li:not(.active) button").first.click()
    page.wait_for_selector(f"#work-list li.active:not(:has-text('{name}'))")
    page.locator("#work-list li", has_text=name).locator("button").click()
    page.wait_for_selector(f"#work-list li.active:has-text('{name}')")
    visit.settled()

    page.keyboard.press("r")
    page.locator("#work-words", has_text="1 of 4 reviewed").wait_for()
    page.wait_for_selector("#work-list li.active")
    visit.settled()
    with (results / "results.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["id"] == name]
    assert 2 <= float(row["review_seconds"]) < 60

    # A second tab, whose page does not know of a change, must not judge it.
    second = visit.context.new_page()
    second.goto(page.url)
    second.wait_for_selector("#work-list li.active")
    scan = page.evaluate("location.hash").partition("=")[2].partition("&")[0]
    edit = {"kind": "paint", "axis": "image", "plane": 0, "points": [[5.5, 5.5]], "radius": 3, "erase": False}
    reply = page.request.post(f"{server.url}api/v1/scans/{scan}/targets/1/edits", data=edit)
    assert reply.ok, reply.text()
    second.keyboard.press("a")
    second.locator("#alert-text", has_text="changed since you saw it").wait_for()
    second.wait_for_selector("#targets:has-text('corrected by hand')")
    second.locator("#work-words", has_text="1 of 4 reviewed").wait_for()
    second.close()

    page.goto("about:blank")
    page.goto(f"{server.url}#scan=0000000000000000&axis=image&k=0")
    visit.ready()
    assert "not open in this browser any more" in page.inner_text("#alert-text")
    visit.context.close()


@pytest.mark.fullsize
def test_two_people_do_not_get_the_same_scan(browser: Any, server: ServerProcess) -> None:
    first, second = Visit(browser, server.url), Visit(browser, server.url)
    for visit in (first, second):
        visit.page.wait_for_selector("#work-list li:has-text('absent')", timeout=_PATIENCE)
        while "answered by the models" in visit.page.inner_text("#work-words"):
            visit.page.wait_for_timeout(500)
        visit.page.keyboard.press("n")
        visit.page.wait_for_selector("#work-list li.active")
        visit.settled()
    assert first.page.inner_text("#scan-name") != second.page.inner_text("#scan-name")
    # The list is asked for again after the scan is shown.
    second.page.wait_for_selector("#work-list li:has-text('open elsewhere')", timeout=_PATIENCE)
    assert second.page.locator("#work-list li:has-text('open elsewhere')").count() == 1
    first.close()
    second.close()


def test_a_volume_of_the_list_comes_back_at_its_slice(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    made = generate_volume("breast-ultrasound", 1, slices=6, size=64)
    nibabel.save(
        nibabel.Nifti1Image(made.scan.values.transpose(2, 1, 0), made.scan.geometry.affine), folder / "v.nii.gz"
    )
    running = ServerProcess(
        tmp_path / "state", tmp_path / "log.txt", "--folder", str(folder), "--text", "breast tumor",
        "--results", str(tmp_path / "results"),
    )  # fmt: skip
    try:
        visit = Visit(browser, running.url)
        page = visit.page
        page.wait_for_selector("#work-list li:has-text('sent') >> nth=0", timeout=_PATIENCE)
        page.keyboard.press("n")
        page.wait_for_selector("#work-list li.active")
        visit.settled()
        for key in ("ArrowUp", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
        visit.settled()
        at = page.url
        assert "&k=" in at
        page.reload()
        visit.ready()
        # Nobody has to choose it again: it is under review, at the slice that was shown.
        page.wait_for_selector("#work-list li.active")
        visit.settled()
        assert page.url == at
        assert page.locator("#scan-list li").count() == 0
        page.keyboard.press("a")
        page.locator("#work-words", has_text="1 of 1 reviewed").wait_for()
        visit.close()
    finally:
        running.stop()
