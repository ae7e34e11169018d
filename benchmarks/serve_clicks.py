"""How long a click takes on the page's interface, and what it does to the mask.

    python benchmarks/serve_clicks.py [--scans 3] [--clicks 12] [--threads 2]

`lexiseg serve` runs as a process of its own with the bundled models. Each phantom is asked for its phrase; then the
middle of the largest piece that the mask lacks or has too much is clicked, inside or outside, as a person would, until
nothing is left; then anywhere. Told are the milliseconds between request and reply as a client sees them, the Dice
before and after the first click, and the seconds from the command to the first mask.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from scipy import ndimage

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.serve.phantoms import OFFERS
from lexiseg.session.deltas import Bits
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import dice
from serve_process import Command


def main(
    scans: Annotated[int, typer.Option(help="Phantoms of each modality.")] = 3,
    clicks: Annotated[int, typer.Option(help="On each phantom.")] = 12,
    threads: Annotated[int, typer.Option(help="Of the models.")] = 2,
) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as state:
        began = time.perf_counter()
        server = Command("--port", "0", state_home=Path(state), threads=threads)
        try:
            page = time.perf_counter() - began
            offer = next(iter(OFFERS.values()))
            made = generate(offer.modality, 0, target=True)
            asked(server.client, sent(server.client, made), made.phrase)
            print(f"page after {page:.1f} s, first mask after {time.perf_counter() - began:.1f} s")
            print(
                "| modality | clicks | median ms | 95 % ms | Dice by text | after 1 click | not lower "
                "| from nothing, 1 click |"
            )
            print("|---|---|---|---|---|---|---|---|")
            every: list[float] = []
            for offered in OFFERS.values():
                rows = [one(server.client, offered, 300 + seed, clicks) for seed in range(scans)]
                spent = [ms for row in rows for ms in row[0]]
                every += spent
                texts, firsts, drawn = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
                print(
                    f"| {offered.modality} | {len(spent)} | {np.median(spent):.0f} | {np.percentile(spent, 95):.0f} "
                    f"| {texts.mean():.3f} | {firsts.mean():.3f} | {(firsts >= texts).sum()} of {scans} "
                    f"| {drawn.mean():.3f} |"
                )
            print(f"| all | {len(every)} | {np.median(every):.0f} | {np.percentile(every, 95):.0f} | | | | |")
        finally:
            server.stop()


def one(client: httpx.Client, offer: Any, seed: int, clicks: int) -> tuple[list[float], float, float, float]:
    """Milliseconds of each click; Dice by text, after the first click, and of a target drawn by one click alone."""
    made = generate(offer.modality, seed, target=True, **dict(offer.attributes))
    truth, scan = made.mask(offer.phrase), sent(client, made)
    found = asked(client, scan, offer.phrase)
    mask = mask_of(client, scan, found, truth.shape)
    spent, scores = [], [dice(mask, truth)]
    rng = np.random.default_rng(seed)
    for _ in range(clicks):
        x, y, inside = worst(mask, truth) or (*rng.uniform(0, min(truth.shape), 2), True)
        took, mask = clicked(client, scan, found, x, y, inside, truth.shape)
        spent.append(took)
        scores.append(dice(mask, truth))
    blank = client.post(f"/api/v1/scans/{scan}/targets", json={"name": "drawn"}).json()["id"]
    x, y, inside = worst(np.zeros_like(truth), truth) or (1.5, 1.5, True)
    took, mask = clicked(client, scan, blank, x, y, inside, truth.shape)
    client.delete(f"/api/v1/scans/{scan}")
    return [*spent, took], scores[0], scores[1], dice(mask, truth)


def worst(mask: BoolArray, truth: BoolArray) -> tuple[float, float, bool] | None:
    """The middle of the largest piece that differs, and whether it belongs to the target."""
    found: tuple[int, float, float, bool] | None = None
    for inside, wrong in ((True, truth & ~mask), (False, mask & ~truth)):
        numbered, count = ndimage.label(wrong)
        if not count:
            continue
        sizes = np.bincount(numbered.ravel())[1:]
        piece = numbered == sizes.argmax() + 1
        depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        if found is None or sizes.max() > found[0]:
            found = int(sizes.max()), float(x) + 0.5, float(y) + 0.5, inside
    return None if found is None else found[1:]


def sent(client: httpx.Client, made: Phantom) -> str:
    """A phantom's scan, sent as a PNG; its id."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.rint(made.scan.pixels * 255).astype(np.uint8)).save(file, format="PNG")
    reply = client.post("/api/v1/scans", files=[("files", (f"{made.scan.id}.png", file.getvalue()))])
    reply.raise_for_status()
    return str(reply.json()["scans"][0]["id"])


def asked(client: httpx.Client, scan: str, phrase: str) -> int:
    """Ask and wait; the target's id."""
    job = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": phrase}).raise_for_status().json()["job"]
    while (told := client.get(f"/api/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        time.sleep(0.02)
    assert told["state"] == "done", told
    return int(told["target"]["id"])


def mask_of(client: httpx.Client, scan: str, target: int, shape: tuple[int, ...]) -> BoolArray:
    """A target's mask."""
    return whole(client.get(f"/api/v1/scans/{scan}/targets/{target}/planes/image/0").json()["mask"], shape)


def clicked(
    client: httpx.Client, scan: str, target: int, x: float, y: float, inside: bool, shape: tuple[int, ...]
) -> tuple[float, BoolArray]:
    """Milliseconds that a click took, and the mask after it."""
    began = time.perf_counter()
    change = {"kind": "click", "x": x, "y": y, "inside": inside}
    reply = client.post(f"/api/v1/scans/{scan}/targets/{target}/edits", json=change).raise_for_status()
    took = 1000 * (time.perf_counter() - began)
    return took, whole(reply.json()["changed"]["image/0"], shape)


def whole(record: dict[str, Any], shape: tuple[int, ...]) -> BoolArray:
    """A mask as the interface tells it."""
    bits = Bits.from_dict(record)
    mask = np.zeros(shape, np.bool_)
    x0, y0, x1, y1 = bits.box
    mask[y0:y1, x0:x1] = bits.inside()
    return mask


if __name__ == "__main__":
    typer.run(main)
