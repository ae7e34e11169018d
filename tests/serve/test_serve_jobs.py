"""Jobs: turns, progress, cancelling, limits."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from serving import asked, sent, serving

from lexiseg.serve.jobs import Job, Jobs
from lexiseg.serve.problems import Refused
from lexiseg.serve.routes_work import told_while_it_runs


class Gate:
    """Work that says it began, and waits until it may end."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, tell: Any) -> dict[str, Any]:
        self.began.set()
        while not self.open.wait(0.005):
            tell(0.5)
        return {"answer": 1}


@pytest.fixture
def jobs() -> Any:
    made = Jobs(queue=5, waiting=3)
    yield made
    made.close()


class TestTurns:
    def test_visitors_take_turns(self, jobs: Jobs) -> None:
        gate, order = Gate(), list[str]()
        first = jobs.submit(Job("a", gate, ""))
        assert gate.began.wait(120)
        waiting = [
            jobs.submit(Job(owner, lambda tell, name=name: order.append(name) or {}, ""))
            for owner, name in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1"))
        ]
        gate.open.set()
        assert all(job.wait(120) for job in (first, *waiting))
        assert first.as_dict()["answer"] == 1
        assert order.index("b1") < order.index("a2") and order.index("c1") < order.index("a2")

    def test_a_long_one_lets_others_go_between_its_parts(self, jobs: Jobs) -> None:
        gate, order = Gate(), list[str]()

        def long(tell: Any) -> dict[str, Any] | None:
            if not order:
                gate(tell)
            order.append("a")
            return {"answer": 3} if order.count("a") == 3 else None

        first = jobs.submit(Job("a", long, ""))
        assert gate.began.wait(120)
        others = [jobs.submit(Job(owner, lambda tell, name=owner: order.append(name) or {}, "")) for owner in "bc"]
        gate.open.set()
        assert all(job.wait(120) for job in (first, *others))
        assert order == ["a", "b", "c", "a", "a"] and first.as_dict()["answer"] == 3

    def test_a_long_one_is_over_when_it_is_cancelled_between_its_parts(self, jobs: Jobs) -> None:
        gate = Gate()
        first = Job("a", lambda tell: None, "")
        first.pause()
        assert first.state == "queued"
        first.cancel()
        assert first.state == "cancelled"
        wanted_no_more = Job("a", lambda tell: None, "")
        wanted_no_more.start()
        wanted_no_more.cancel()
        wanted_no_more.pause()
        assert wanted_no_more.state == "cancelled"
        endless = jobs.submit(Job("a", lambda tell: gate.began.set(), ""))
        assert gate.began.wait(120)
        endless.cancel()
        assert endless.wait(120) and endless.state == "cancelled"

    def test_too_many_are_refused(self, jobs: Jobs) -> None:
        gate = Gate()
        jobs.submit(Job("a", gate, ""))
        assert gate.began.wait(120)
        for _ in range(3):
            jobs.submit(Job("a", lambda tell: {}, ""))
        with pytest.raises(Refused, match="wait already") as caught:
            jobs.submit(Job("a", lambda tell: {}, ""))
        assert caught.value.status == 429
        jobs.submit(Job("b", lambda tell: {}, ""))
        gate.open.set()

    def test_a_failure_is_the_jobs_own(self, jobs: Jobs) -> None:
        def broken(tell: Any) -> dict[str, Any]:
            raise ValueError("PATIENT^NAME")

        failed, after = jobs.submit(Job("a", broken, "")), jobs.submit(Job("a", lambda tell: {"x": 2}, ""))
        assert failed.wait(120) and after.wait(120)
        assert failed.state == "failed" and "PATIENT" not in failed.error
        assert after.as_dict()["x"] == 2


class TestCancelling:
    def test_what_was_cancelled_does_not_wait(self, jobs: Jobs) -> None:
        gate = Gate()
        jobs.submit(Job("a", gate, ""))
        assert gate.began.wait(120)
        for _ in range(3):
            jobs.submit(Job("a", lambda tell: {}, "")).cancel()
        assert jobs.waiting() == 1
        last = jobs.submit(Job("a", lambda tell: {"answer": 2}, ""))
        gate.open.set()
        assert last.wait(120) and last.as_dict()["answer"] == 2

    def test_whose_jobs_are_too_many_is_told(self, jobs: Jobs) -> None:
        gate = Gate()
        jobs.submit(Job("a", gate, ""))
        assert gate.began.wait(120)
        for owner in "bbccd":
            jobs.submit(Job(owner, gate, ""))
        with pytest.raises(Refused, match="5 jobs of all visitors"):
            jobs.submit(Job("e", gate, ""))
        gate.open.set()

    def test_what_waits_is_dropped_and_what_runs_stops(self, jobs: Jobs) -> None:
        gate = Gate()
        running, waiting = jobs.submit(Job("a", gate, "")), jobs.submit(Job("a", lambda tell: {}, ""))
        assert gate.began.wait(120)
        waiting.cancel()
        assert waiting.state == "cancelled"
        running.cancel()
        assert running.wait(120) and running.state == "cancelled"

    def test_closing_the_stream_cancels(self, jobs: Jobs) -> None:
        gate = Gate()
        job = jobs.submit(Job("a", gate, "looking"))
        assert gate.began.wait(120)

        async def leave() -> str:
            stream = told_while_it_runs(job)
            first = await anext(stream)
            await stream.aclose()
            return first

        first = asyncio.run(leave())
        assert json.loads(first.removeprefix("data: "))["text"] == "looking"
        assert job.wait(120) and job.state == "cancelled"

    def test_a_cancelled_phrase_leaves_the_scan_as_it_was(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state") as (server, client):
            scan = sent(client)["id"]
            gate = Gate()
            server.jobs.submit(Job("somebody", gate, ""))
            assert gate.began.wait(120)
            job = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": "red"}).json()["job"]
            assert client.delete(f"/api/v1/jobs/{job}").json()["state"] == "cancelled"
            gate.open.set()
            assert client.get(f"/api/v1/scans/{scan}").json()["targets"] == []


class TestEvents:
    def test_they_end_with_the_answer(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state") as (_, client):
            scan = sent(client)["id"]
            job = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": "red"}).json()["job"]
            reply = client.get(f"/api/v1/jobs/{job}/events")
            assert reply.headers["content-type"].startswith("text/event-stream")
            told = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
            assert told[-1]["state"] == "done" and told[-1]["target"]["name"] == "red"
            assert asked(client, scan, "green")["state"] == "done"
