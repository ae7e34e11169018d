"""A server in a process of its own, and a browser on its page."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

_COMMAND = "import sys; sys.argv[0] = 'lexiseg'; from lexiseg.cli.main import run; run()"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# core/pane.js: the share of the pane that a plane fills when it fits.
_MARGIN = 0.94


class ServerProcess:
    """`lexiseg serve` in a process that can be killed and started again on its port.

    Args:
        state: its state folder.
        log: what it prints.
        arguments: more of them.
    """

    def __init__(self, state: Path, log: Path, *arguments: str) -> None:
        self._state, self._log, self._arguments, self.port = state, log, arguments, 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it says its address."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, "serve", "--no-open", "--port", str(self.port), "--state",
                 str(self._state), *self._arguments],
                stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\S*", self._log.read_text())
            if found:
                self.url, self.port = found[0], int(found[1])
                return
            if self._process.poll() is not None:
                break
            _pause()
        raise AssertionError(f"the server did not start: {self._log.read_text()}")

    def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def _pause() -> None:
    import time

    time.sleep(0.1)


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser; the test is skipped, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


class Visit:
    """The page in a browser of its own cookies, and what went wrong there.

    Args:
        browser: see `chromium`.
        url: of the server.
        options: of the browser's context.

    Attributes:
        page: Playwright's.
        strangers: hosts that were asked besides the server.
        faults: errors that the console or the page told.
    """

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options}
        self.url, self.context = url, browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.strangers: list[str] = []
        self.faults: list[str] = []
        host = urlsplit(url).netloc
        # A file that the page made itself, to be downloaded, is asked of nobody.
        self.context.on(
            "request",
            lambda asked: (
                self.strangers.append(asked.url)
                if urlsplit(asked.url).netloc != host and not asked.url.startswith("blob:")
                else None
            ),
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.open()

    def open(self) -> None:
        """Load the page, and wait until it is ready."""
        self.page.goto(self.url)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def close(self) -> None:
        """Close it; nothing was asked of a stranger, and nothing went wrong without being expected."""
        self.context.close()
        assert not self.strangers
        assert not self.faults

    def upload(self, *paths: Path) -> None:
        """Choose files, and wait for the first picture."""
        self.page.set_input_files("#files", [str(path) for path in paths])
        self.drawn()

    def try_phantom(self, name: str) -> None:
        """Open a phantom, and wait for the answer to its phrase."""
        self.page.click(f"[data-phantom={name}]")
        self.page.wait_for_selector("#targets .target")
        self.settled()

    def ask(self, phrase: str) -> None:
        """Type a phrase, and wait for its answer."""
        before = self.page.locator("#targets .target").count()
        self.page.fill("#phrase", phrase)
        self.page.press("#phrase", "Escape")
        self.page.click("#ask-go")
        self.page.wait_for_selector(f"#targets .target >> nth={before}")
        self.page.wait_for_selector("#job", state="hidden")
        self.settled()

    def drawn(self, pane: int = 0) -> None:
        """Wait until a pane's picture and masks are there."""
        self.page.wait_for_selector(f".pane:nth-child({pane + 1}) canvas[aria-label]:not([aria-busy])")

    def settled(self) -> None:
        """Wait until every edit is answered and drawn."""
        self.page.wait_for_selector("#stage:not([aria-busy=true])")
        self.drawn()

    def at(self, x: float, y: float, pane: int = 0) -> tuple[float, float]:
        """Where a position of the plane lies on the screen, while the plane fits its pane."""
        box = self.page.locator("#panes canvas").nth(pane).bounding_box()
        label = self.page.locator("#panes canvas").nth(pane).get_attribute("aria-label")
        width, height = map(int, re.search(r"(\d+) by (\d+)", label).groups())
        scale = min(box["width"] / width, box["height"] / height) * _MARGIN
        return (
            box["x"] + box["width"] / 2 + (x - width / 2) * scale,
            box["y"] + box["height"] / 2 + (y - height / 2) * scale,
        )

    def click(self, x: float, y: float, **options: Any) -> None:
        """Click at a position of the plane."""
        self.page.mouse.click(*self.at(x, y), **options)
        self.settled()

    def drag(self, *places: tuple[float, float], button: str = "left") -> None:
        """Drag along positions of the plane."""
        first, *rest = (self.at(*place) for place in places)
        self.page.mouse.move(*first)
        self.page.mouse.down(button=button)
        for place in rest:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up(button=button)
        self.settled()

    @property
    def scan(self) -> dict[str, Any]:
        """The open scan, as the server tells it."""
        found = re.search(r"scan=([^&]+)", self.page.url)
        assert found is not None
        return self.get(f"/scans/{found[1]}")

    def get(self, path: str) -> Any:
        """What the server says to this browser."""
        return self.context.request.get(f"{self.url}api/v1{path}").json()

    def mask(self) -> NDArray[np.bool_]:
        """The selected scan's mask, as the server exports it: bool (H, W)."""
        reply = self.context.request.get(f"{self.url}api/v1/scans/{self.scan['id']}/export?format=png")
        assert reply.ok, reply.text()
        return np.array(Pillow.open(io.BytesIO(reply.body()))) > 0

    def download(self, format: str, folder: Path) -> Path:
        """Take the masks away by the page's button."""
        with self.page.expect_download() as waiting:
            self.page.click(f"[data-format={format}]")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def says(self) -> str:
        """The error that the page shows; "" where there is none."""
        alert = self.page.locator("#alert")
        return self.page.locator("#alert-text").inner_text() if alert.is_visible() else ""

    def _heard(self, message: Any) -> None:
        # The browser tells every refused request; whether the page says so too is what tests are for.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)
