"""Worklists of servers in this process: segmented, opened, judged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from serving import FAKE, RED, picture, serving

from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import RunOptions

LIST = "/api/v1/worklist"


def scans_in(folder: Path, *names: str, box: tuple[int, int, int, int] = RED) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.png").write_bytes(picture(box))
    return folder


@contextmanager
def reviewing(place: Path, folder: Path | None, out: Path, *phrases: str, **more: Any) -> Iterator[tuple[Any, Any]]:
    """A server whose worklist is segmented; without a folder that of a finished run."""
    given = {"phrases": phrases or (() if folder is None else ("red",)), **more}
    with serving(place, folder=folder, results=out, **given) as (server, client):
        server.worklist._thread.join(60)  # type: ignore[union-attr]
        yield server, client


def run(folder: Path, out: Path, phrase: str, *, resume: bool = False, preset: Any = None) -> None:
    """What `lexiseg segment` does."""
    pipeline = MedclipSam(FAKE.override(**preset or {}), NamedColours(), FakeSegmenter())
    items = gather_items([folder], phrases=(phrase,))
    run_batch(pipeline, items, out, phrases=(phrase,), options=RunOptions(resume=resume))


def opened(client: Any, number: str = "0") -> dict[str, Any]:
    reply = client.post(f"{LIST}/{number}/open")
    assert reply.status_code == 200, reply.text
    scan: dict[str, Any] = reply.json()["scan"]
    return scan


def say(client: Any, verdict: str, number: str = "0", **more: Any) -> Any:
    return client.post(f"{LIST}/{number}/verdict", json={"verdict": verdict, "seconds": 1, **more})


def refused(reply: Any, words: str, status: int = 409) -> None:
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]


def paint(client: Any, scan: str, target: int = 1, x: float = 1.5) -> None:
    edit = {"kind": "paint", "points": [[x, 1.5]], "radius": 0.5}
    client.post(f"/api/v1/scans/{scan}/targets/{target}/edits", json=edit).raise_for_status()


def kept(out: Path, name: str) -> np.ndarray:
    return np.asarray(Pillow.open(out / "reviewed" / "masks" / f"{name}_mask.png")) > 0
