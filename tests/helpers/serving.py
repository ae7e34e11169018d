"""Servers for tests: in this process with a fake pipeline, or as a command of its own."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from scans_of import dense_preset
from starlette.testclient import TestClient

from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import Preset
from lexiseg.serve.app import Server, make_app
from lexiseg.serve.models import Models
from lexiseg.serve.settings import ServeSettings
from lexiseg.serve.state import State
from serve_process import Command

SIZE = 64
RED = (16, 16, 32, 48)
PORT = 7860
__all__ = ["Command"]
BASE = f"http://127.0.0.1:{PORT}"
FAKE = dense_preset("demo")
"""Of a phrase that names a colour, the pixels of that colour."""


def fake_models(pipeline: Any = None) -> Models:
    """Presets "demo" and "other", answered without any weights."""

    def load(preset: Preset) -> Any:
        return pipeline or MedclipSam(preset, NamedColours(), FakeSegmenter())

    models = Models("demo", load=load)
    models.presets = {"demo": FAKE, "other": Preset(**{**vars(FAKE), "name": "other"})}
    return models


@contextmanager
def serving(
    place: Path, /, *, models: Models | None = None, token: str | None = None, kept: bool = True, **settings: Any
) -> Iterator[tuple[Server, TestClient]]:
    """A server in this process, and a browser's client of it."""
    given = ServeSettings(port=PORT, token=token, state=place if kept else None, **settings)
    server = Server(given, State(given.state, port=PORT, root=place), models or fake_models())
    app = make_app(server, port=PORT, token=token)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield server, client


def browser(client: TestClient) -> TestClient:
    """Another browser at the same server."""
    return TestClient(client.app, base_url=BASE, raise_server_exceptions=False)


def picture(box: tuple[int, int, int, int] = RED, size: int = SIZE) -> bytes:
    """A PNG that is black but for a red box x0 y0 x1 y1."""
    x0, y0, x1, y1 = box
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[y0:y1, x0:x1] = (255, 0, 0)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def sent(client: TestClient, content: bytes | None = None, name: str = "scan.png") -> dict[str, Any]:
    """Send one scan; what is told of it."""
    reply = client.post("/api/v1/scans", files=[("files", (name, content or picture(), "image/png"))])
    assert reply.status_code == 201, reply.text
    scan: dict[str, Any] = reply.json()["scans"][0]
    return scan


def asked(client: TestClient, scan: str, phrase: str, **more: Any) -> dict[str, Any]:
    """Ask for a phrase and wait; what is told of the job."""
    reply = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": phrase, **more})
    assert reply.status_code == 202, reply.text
    return finished(client, reply.json()["job"])


def finished(client: Any, job: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for a job."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told: dict[str, Any] = client.get(f"/api/v1/jobs/{job}").json()
        if told["state"] in ("done", "failed", "cancelled"):
            return told
        time.sleep(0.02)
    raise AssertionError(f"the job is still {told}")


def edit(client: TestClient, scan: str, target: int, **change: Any) -> Any:
    return client.post(f"/api/v1/scans/{scan}/targets/{target}/edits", json=change)


def volume(client: TestClient, folder: Path) -> dict[str, Any]:
    """A CT of 7 slices of 30 rows and 20 columns, stored as it is shown, 4 mm thick."""
    values = np.linspace(-1000, 3000, 20 * 30 * 7).reshape(20, 30, 7).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([-1.0, -1.0, 4.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "ct.nii.gz")
    return sent(client, (folder / "ct.nii.gz").read_bytes(), "ct.nii.gz")


def unpacked(record: dict[str, Any], shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """A mask as the interface tells it, bool (h, w): written anew, as a client would."""
    import base64

    x0, y0, x1, y1 = record["box"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(record["bits"]), np.uint8))
    mask = np.zeros(shape, np.bool_)
    mask[y0:y1, x0:x1] = bits[: (y1 - y0) * (x1 - x0)].reshape(y1 - y0, x1 - x0).astype(np.bool_)
    return mask


def boxed(x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """A mask that is a box."""
    mask = np.zeros(shape, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


@contextmanager
def live(place: Path, /, *, token: str | None = None, **more: Any) -> Iterator[tuple[Server, str]]:
    """A server that listens, in a thread of this process, and its address."""
    import socket

    import uvicorn

    settings = ServeSettings(port=0, token=token, state=place, **{k: v for k, v in more.items() if k != "models"})
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = Server(settings, State(place, port=port), more.get("models") or fake_models())
        app = make_app(server, port=port, token=token)
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not running.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield server, f"http://127.0.0.1:{port}"
        finally:
            running.should_exit = True
            thread.join(30)
