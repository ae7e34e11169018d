"""What is looked at is encoded ahead; clicks then only decode."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from serving import FAKE, fake_models, sent, serving

from lexiseg.errors import BrokenWeights
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.serve.ahead import Ahead


def eventually(true: Any) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.01)
    return False


@contextmanager
def looked_at(state: Path, segmenter: FakeSegmenter) -> Iterator[tuple[Any, Any, str]]:
    """A server, a client and the id of a scan of whose plane the client has just had the picture."""
    with serving(state, models=fake_models(MedclipSam(FAKE, NamedColours(), segmenter))) as (server, client):
        assert eventually(lambda: server.models.ready)
        scan = sent(client)["id"]
        client.get(f"/api/v1/scans/{scan}/planes/image/0")
        yield server, client, scan


def test_a_plane_that_is_looked_at_is_encoded_once(tmp_path: Path) -> None:
    segmenter = FakeSegmenter()
    with looked_at(tmp_path / "state", segmenter) as (_, client, scan):
        assert eventually(lambda: len(segmenter.encoded) == 1)
        client.post(f"/api/v1/scans/{scan}/targets", json={"name": "cyst"})
        client.post(f"/api/v1/scans/{scan}/targets/1/edits", json={"kind": "click", "x": 5.5, "y": 5.5})
        assert len(segmenter.encoded) == 1 and segmenter.asked


class Slow(FakeSegmenter):
    """Takes half a second for a plane."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.ended = threading.Event(), threading.Event()

    def encode(self, image: Any) -> Any:
        self.began.set()
        time.sleep(0.5)
        found = super().encode(image)
        self.ended.set()
        return found


def test_a_server_that_is_closed_waits_for_its_threads(tmp_path: Path) -> None:
    segmenter = Slow()
    with looked_at(tmp_path / "state", segmenter) as (server, _, _):
        assert segmenter.began.wait(20) and not segmenter.ended.is_set()
    assert segmenter.ended.is_set()
    assert not server.ahead.thread.is_alive() and not server.jobs.thread.is_alive()
    assert server.models.thread is not None and not server.models.thread.is_alive()


def test_models_that_a_closed_server_no_longer_needs_are_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their folder goes while they are unpacked."""
    going, models = threading.Event(), fake_models()

    def load(preset: Any) -> Any:
        assert going.wait(20)
        raise BrokenWeights("config.json does not describe a model")

    models._maker = load
    close = models.close

    def closed() -> None:
        close()
        going.set()

    models.close = closed  # type: ignore[method-assign]
    with serving(tmp_path / "state", models=models) as (server, _):
        pass
    assert server.models.thread is not None and not server.models.thread.is_alive()
    assert caplog.messages == []
    open_models = fake_models()
    open_models._maker = load
    open_models.warm()
    assert open_models.thread is not None
    open_models.thread.join(20)
    assert caplog.messages == ["config.json does not describe a model"]


class Looked:
    """A session that notes what it prepares."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.prepared = broken, list[int]()

    def prepare(self, plane: int, *, axis: str) -> None:
        self.prepared.append(plane)
        if self.broken:
            raise RuntimeError


def test_the_last_look_counts_nothing_is_done_while_somebody_waits_and_a_failure_ends_nothing() -> None:
    busy = threading.Event()
    busy.set()
    ahead = Ahead(lambda: not busy.is_set(), threading.Lock())
    first, second = Looked(broken=True), Looked()
    for plane in range(5):
        ahead.look("a", first, "axial", plane)  # type: ignore[arg-type]
    time.sleep(0.4)
    assert first.prepared == []
    busy.clear()
    assert eventually(lambda: first.prepared == [4])
    ahead.look("a", second, "axial", 7)  # type: ignore[arg-type]
    assert eventually(lambda: second.prepared == [7])
    ahead.close()
