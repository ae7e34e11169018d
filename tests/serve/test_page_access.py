"""The page for everybody: by keyboard, by screen reader, in both themes, and with nothing from elsewhere."""

from __future__ import annotations

import os
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from pages import ServerProcess, Visit


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script, from the package axe-playwright-python or the file that AXE_CORE names."""
    named = os.environ.get("AXE_CORE")
    if named:
        return Path(named).read_text(encoding="utf-8")
    found = util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe-core is not here: install axe-playwright-python, or name axe.min.js in AXE_CORE")
    (script,) = Path(found.submodule_search_locations[0]).rglob("axe.min.js")
    return script.read_text(encoding="utf-8")


def findings(visit: Visit, axe: str) -> list[str]:
    """What axe-core finds serious or critical."""
    visit.page.evaluate(axe)
    report = visit.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in report["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, server: ServerProcess, axe: str, scheme: str) -> None:
    # axe-core itself is no script of the page.
    visit = Visit(browser, server.url, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page = visit.page
    assert findings(visit, axe) == []
    visit.try_phantom("breast-ultrasound")
    page.keyboard.press("d")
    visit.click(30, 30)
    page.click("#drawer-toggle")
    assert findings(visit, axe) == []
    page.fill("#phrase", "lung")
    page.wait_for_selector("#suggestions:not([hidden])")
    assert findings(visit, axe) == []
    page.press("#phrase", "Escape")
    page.press("#phrase", "Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    assert findings(visit, axe) == []
    visit.close()


def test_every_control_is_reached_by_tab(browser: Any, server: ServerProcess) -> None:
    visit = Visit(browser, server.url)
    page = visit.page
    page.locator("[data-phantom=breast-ultrasound]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#targets .target")
    visit.settled()
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.tool || document.activeElement.tagName"
            )
        )
    wanted = {"drawer-toggle", "undo", "theme", "help-open", "point", "CANVAS", "phrase", "ask-go", "preset",
              "target-add", "threshold", "window-name", "invert", "window-centre", "opacity", "copy-as"}  # fmt: skip
    assert wanted <= reached
    # The other tools, by arrows.
    page.locator(".tool[data-tool=point]").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.tool") == "box"
    visit.close()


def test_a_theme_is_chosen_and_kept(browser: Any, server: ServerProcess) -> None:
    visit = Visit(browser, server.url, color_scheme="light")
    page = visit.page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    visit.ready()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    visit.close()


def test_the_page_lets_no_foreign_script_in(browser: Any, server: ServerProcess) -> None:
    visit = Visit(browser, server.url)
    policy = visit.context.request.get(server.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    visit.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.got = 1'}))"
    )
    assert visit.page.evaluate("globalThis.got") is None
    assert any("Content Security Policy" in fault for fault in visit.faults)
    visit.faults.clear()
    visit.close()
