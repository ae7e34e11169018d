"""Pictures of each view of the page, of phantoms alone.

    python tests/helpers/serve_screenshots.py FOLDER

FOLDER/all/ gets every view, to be looked at; FOLDER itself the few that the documentation shows.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import ServerProcess, Visit, chromium
from phantom_volume import write_head
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.registry import generate

WIDE, LARGE, TABLET = (1280, 800), (2560, 1440), (820, 1180)
SHOWN = {
    "answer-dark-1280": "serve-answer",
    "planes-light-1280": "serve-planes",
    "worklist-light-1280": "serve-worklist",
    "compare-dark-1280": "serve-compare",
    "tablet-light": "serve-tablet",
}


def answer(visit: Visit) -> None:
    visit.try_phantom("breast-ultrasound")
    visit.click(60, 60, button="right")


def heat(visit: Visit) -> None:
    visit.try_phantom("brain-mri")
    visit.page.keyboard.press("y")


def planes(visit: Visit) -> None:
    visit.upload(Path(visit.page.head))
    visit.page.click("[data-layout=three]")
    visit.ask("brain tumor")
    visit.page.keyboard.press("Escape")
    visit.page.keyboard.press("q")
    at = visit.page.locator("#panes canvas").first.bounding_box()
    visit.page.mouse.click(at["x"] + 0.58 * at["width"], at["y"] + 0.56 * at["height"])


def surface(visit: Visit) -> None:
    visit.upload(Path(visit.page.head))
    visit.ask("brain tumor")
    visit.page.click("[data-layout=surface]")
    visit.page.wait_for_timeout(5000)


def compare(visit: Visit) -> None:
    visit.try_phantom("fetal-ultrasound")
    visit.page.click("[data-layout=compare]")
    visit.page.select_option("#compare-right", "sam-unprompted")
    visit.page.click("#comparing [type=submit]")
    visit.page.wait_for_selector("#targets .target >> nth=1")


def help_(visit: Visit) -> None:
    visit.try_phantom("chest-xray")
    visit.page.keyboard.press("?")


def trouble(visit: Visit) -> None:
    visit.try_phantom("chest-xray")
    broken = Path(visit.page.head).with_name("broken.nii.gz")
    broken.write_bytes(b"no volume")
    visit.page.set_input_files("#files", str(broken))
    visit.page.wait_for_selector("#alert:not([hidden])")


def worklist(visit: Visit) -> None:
    page = visit.page
    while page.locator("#work-words", has_text="answered").count() or not page.locator("#work-list li").count():
        page.wait_for_timeout(500)
    for key in ("n", "a", "r"):
        page.keyboard.press(key)
        page.wait_for_timeout(1500)


def start(visit: Visit) -> None:
    visit.page.wait_for_timeout(200)


VIEWS: list[tuple[str, Callable[[Visit], None], dict[str, Any]]] = [
    ("start-light-1280", start, {"size": WIDE, "scheme": "light"}),
    ("start-dark-1280", start, {"size": WIDE, "scheme": "dark"}),
    ("start-light-tablet", start, {"size": TABLET, "scheme": "light"}),
    ("answer-dark-1280", answer, {"size": WIDE, "scheme": "dark"}),
    ("answer-light-2560", answer, {"size": LARGE, "scheme": "light"}),
    ("tablet-light", answer, {"size": TABLET, "scheme": "light"}),
    ("tablet-dark-wide", heat, {"size": TABLET[::-1], "scheme": "dark"}),
    ("planes-light-1280", planes, {"size": WIDE, "scheme": "light"}),
    ("planes-dark-2560", planes, {"size": LARGE, "scheme": "dark"}),
    ("planes-dark-tablet", planes, {"size": TABLET, "scheme": "dark"}),
    ("surface-dark-1280", surface, {"size": WIDE, "scheme": "dark"}),
    ("compare-dark-1280", compare, {"size": WIDE, "scheme": "dark"}),
    ("help-light-1280", help_, {"size": WIDE, "scheme": "light"}),
    ("help-dark-tablet", help_, {"size": TABLET, "scheme": "dark"}),
    ("trouble-light-1280", trouble, {"size": WIDE, "scheme": "light"}),
    ("worklist-light-1280", worklist, {"size": WIDE, "scheme": "light"}),
]


def main(folder: Path, only: str = "") -> None:
    (folder / "all").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, chromium("--enable-unsafe-swiftshader") as browser:
        place = Path(made)
        write_head(place / "head.nii.gz")
        scans = place / "scans"
        scans.mkdir()
        for seed in range(6):
            pixels = generate("breast-ultrasound", seed, size=192, target=seed != 3).scan.pixels
            Pillow.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(scans / f"scan-{seed:02}.png")
        listed = ("--folder", str(scans), "--text", "breast tumor", "--results", str(place / "results"))
        servers = [ServerProcess(place / "a", place / "a.txt"), ServerProcess(place / "b", place / "b.txt", *listed)]
        try:
            for name, view, how in VIEWS:
                if only in name:
                    shoot(visit_of(browser, servers[view is worklist], how), view, folder, name, place / "head.nii.gz")
        finally:
            for server in servers:
                server.stop()


def visit_of(browser: Any, server: ServerProcess, how: dict[str, Any]) -> Visit:
    width, height = how["size"]
    size = {"width": width, "height": height}
    return Visit(browser, server.url, viewport=size, color_scheme=how["scheme"], reduced_motion="reduce")


def shoot(visit: Visit, view: Callable[[Visit], None], folder: Path, name: str, head: Path) -> None:
    visit.page.set_default_timeout(180_000)
    visit.page.head = str(head)
    view(visit)
    visit.page.wait_for_timeout(700)
    path = folder / "all" / f"{name}.png"
    visit.page.screenshot(path=path)
    visit.context.close()
    if name in SHOWN:
        picture = Pillow.open(path).convert("RGB").quantize(200, Pillow.Quantize.MAXCOVERAGE, dither=Pillow.Dither.NONE)
        picture.save(folder / f"{SHOWN[name]}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
