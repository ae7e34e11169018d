"""Many people at one server: does anybody fail, wait long, or see what is another's?

    python benchmarks/serve_load.py [--users 20] [--clicks 5] [--threads 2]

`lexiseg serve` runs as a process of its own with the bundled models. Each user is a browser of its own, with a phantom
of its own: it sends the scan, checks the hash of the pixels that come back, asks its phrase, clicks, undoes, and takes
the mask away, whose hash must be that of the mask on the page. Told are failures, mixed-up scans, and how long clicks
took.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from PIL import Image

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.serve.phantoms import OFFERS
from serve_clicks import asked, clicked, mask_of, sent
from serve_process import Command


def main(
    users: Annotated[int, typer.Option(help="At once.")] = 20,
    clicks: Annotated[int, typer.Option(help="Of each, half a second apart.")] = 5,
    threads: Annotated[int, typer.Option(help="Of the models.")] = 2,
) -> None:
    """Print one line, and fail where anything was wrong."""
    with tempfile.TemporaryDirectory() as state:
        server = Command("--port", "0", state_home=Path(state), threads=threads)
        try:
            warm = generate("breast-ultrasound", 0, target=True)
            asked(server.client, sent(server.client, warm), warm.phrase)
            people = [User(server.address, number, clicks) for number in range(users)]
            began = time.perf_counter()
            for person in people:
                person.start()
            for person in people:
                person.join()
            took = time.perf_counter() - began
        finally:
            server.stop()
    problems = [problem for person in people for problem in person.problems]
    spent = [ms for person in people for ms in person.spent]
    for problem in problems:
        print(problem)
    print(
        f"{users} users, {len(spent)} clicks in {took:.0f} s: {len(problems)} problems; click median "
        f"{np.median(spent):.0f} ms, 95 % {np.percentile(spent, 95):.0f} ms; phrase median "
        f"{np.median([person.waited for person in people]):.1f} s"
    )
    if problems:
        raise typer.Exit(1)


class User(threading.Thread):
    """A person at a browser.

    Attributes:
        spent: milliseconds of each click.
        waited: seconds for the phrase.
        problems: what went wrong.
    """

    def __init__(self, address: str, number: int, clicks: int) -> None:
        super().__init__(daemon=True)
        self._address, self._number, self._clicks = address, number, clicks
        self.spent: list[float] = []
        self.waited = 0.0
        self.problems: list[str] = []

    def run(self) -> None:
        """Work, and note what goes wrong."""
        try:
            with httpx.Client(base_url=self._address, timeout=300) as client:
                self._work(client)
        except Exception as error:  # noqa: BLE001  (a benchmark tells every failure)
            self.problems.append(f"user {self._number}: {type(error).__name__}: {error}")

    def _work(self, client: httpx.Client) -> None:
        offer = list(OFFERS.values())[self._number % len(OFFERS)]
        made = generate(offer.modality, 500 + self._number, target=True, **dict(offer.attributes))
        scan = sent(client, made)
        grey = np.rint(made.scan.pixels * 255).astype(np.uint8)
        plane = np.frombuffer(client.get(f"/api/v1/scans/{scan}/planes/image/0").content, "<u2").reshape(grey.shape)
        self._same(np.rint(plane / 257).astype(np.uint8), grey, "pixels")
        began = time.perf_counter()
        target = asked(client, scan, offer.phrase)
        self.waited = time.perf_counter() - began
        rng = np.random.default_rng(self._number)
        before = mask_of(client, scan, target, grey.shape)
        mask = before
        for _ in range(self._clicks):
            time.sleep(0.5)
            x, y = rng.uniform(20, min(grey.shape) - 20, 2)
            took, mask = clicked(client, scan, target, x, y, bool(rng.random() < 0.5), grey.shape)
            self.spent.append(took)
        file = client.get(f"/api/v1/scans/{scan}/export?format=png&targets={target}").raise_for_status().content
        self._same(np.asarray(Image.open(io.BytesIO(file))) > 0, mask, "mask taken away")
        for _ in range(self._clicks):
            client.post(f"/api/v1/scans/{scan}/undo").raise_for_status()
        self._same(mask_of(client, scan, target, grey.shape), before, "mask after all was undone")
        others = client.get("/api/v1/scans").json()
        if [each["id"] for each in others] != [scan]:
            self.problems.append(f"user {self._number}: sees {len(others)} scans, expected its own")

    def _same(self, found: np.ndarray, expected: np.ndarray, what: str) -> None:
        first, second = (hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in (found, expected))
        if first != second:
            self.problems.append(f"user {self._number}: {what} is another: {first[:12]}, expected {second[:12]}")


if __name__ == "__main__":
    typer.run(main)
