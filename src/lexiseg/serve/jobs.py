"""Long work: one thread does it, visitors take turns, everybody is told how far it is, and it can be cancelled."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from lexiseg.errors import LexisegError
from lexiseg.serve.problems import Refused, line_of

logger = logging.getLogger(__name__)

_KEPT = 600.0
"""Seconds for which a finished job is remembered."""


Work = Callable[[Callable[[float], None]], "dict[str, Any] | None"]


class Cancelled(Exception):
    """Raised inside a job that nobody wants any more."""


class Job:
    """A piece of work.

    Args:
        owner: the visitor's key.
        work: called with a function that it tells the share done, 0 to 1; returns plain values, or None where it is
            to be called again for the rest once others have had their turn.
        text: what is being done, for a person.

    Attributes:
        id: nobody can guess it.
        state: "queued", "running", "done", "failed" or "cancelled".
        share: how much is done.
        result: of a job that is done.
        error: of one that failed, one line.
        about: whatever its owner wants to remember.
    """

    def __init__(self, owner: str, work: Work, text: str) -> None:
        self.id, self.owner, self.work, self.text = secrets.token_hex(8), owner, work, text
        self.state, self.share, self.error = "queued", 0.0, ""
        self.result: dict[str, Any] = {}
        self.about: dict[str, Any] = {}
        self.ended = 0.0
        self._wanted = True
        self._changed = threading.Condition()
        self._version = 0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def tell(self, share: float) -> None:
        """How much is done.

        Raises:
            Cancelled: nobody wants the rest.
        """
        if not self._wanted:
            raise Cancelled
        self.share = share
        self._tell()

    def cancel(self) -> None:
        """Nobody wants it any more; what waits is dropped, what runs stops at its next step."""
        self._wanted = False
        if self.state == "queued":
            self.end("cancelled")

    @property
    def wanted(self) -> bool:
        """Whether it was not cancelled."""
        return self._wanted

    def start(self) -> None:
        """It runs from here on."""
        self.state = "running"
        self._tell()

    def pause(self) -> None:
        """It waits for its next turn; one that nobody wants any more is over."""
        self.state = "queued"
        if self._wanted:
            self._tell()
        else:
            self.end("cancelled")

    def end(self, state: str, error: str = "") -> None:
        """It is over."""
        self.state, self.error, self.ended = state, error, time.monotonic()
        self._tell()

    def wait(self, seconds: float) -> bool:
        """Wait until it is over; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.over, seconds)

    def listen(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have a function called, in any thread, whenever something changed; returns what ends that."""
        with self._changed:
            number = next(self._numbers)
            self._listeners[number] = call
        return lambda: self._forget(number)

    def as_dict(self) -> dict[str, Any]:
        """What is told of it."""
        told: dict[str, Any] = {"id": self.id, "state": self.state, "done": round(self.share, 4), "total": 1,
                                "text": self.text}  # fmt: skip
        if self.error:
            told["error"] = self.error
        return {**told, **self.result} if self.state == "done" else told

    def _forget(self, number: int) -> None:
        with self._changed:
            self._listeners.pop(number, None)

    def _tell(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            listeners = list(self._listeners.values())
        for call in listeners:
            call()


class Jobs:
    """A queue with one thread; visitors take turns, each one's jobs in their order.

    Args:
        queue: jobs that may wait in all.
        waiting: jobs that may wait of one visitor.

    Attributes:
        thread: that does the work.
    """

    def __init__(self, *, queue: int, waiting: int) -> None:
        self._most, self._own = queue, waiting
        self._queues: OrderedDict[str, deque[Job]] = OrderedDict()
        self._jobs: dict[str, Job] = {}
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self.thread.start()

    def submit(self, job: Job) -> Job:
        """Put a job at the end of its visitor's queue.

        Raises:
            Refused: too many wait.
        """
        with self._changed:
            self._forget()
            own, all_of_them = len(self._queues.get(job.owner, ())), sum(map(len, self._queues.values()))
            if own >= self._own:
                raise Refused(429, f"{own} of your jobs wait already; wait for them, or cancel some")
            if all_of_them >= self._most:
                raise Refused(429, f"{all_of_them} jobs of all visitors wait already; try again in a while")
            self._queues.setdefault(job.owner, deque()).append(job)
            self._jobs[job.id] = job
            self._changed.notify_all()
        return job

    def get(self, id: str, owner: str) -> Job | None:
        """A visitor's job."""
        with self._changed:
            self._forget()
            job = self._jobs.get(id)
        return job if job is not None and job.owner == owner else None

    def waiting(self) -> int:
        """How many jobs wait or run."""
        with self._changed:
            self._forget()
            return sum(map(len, self._queues.values())) + (self._running is not None)

    def close(self) -> None:
        """Cancel everything; the thread ends at its job's next step."""
        with self._changed:
            self._closed = True
            jobs = [job for queue in self._queues.values() for job in queue]
            self._queues.clear()
            self._changed.notify_all()
        for job in (*jobs, *filter(None, (self._running,))):
            job.cancel()

    def _forget(self) -> None:
        """What ended long ago, and what waits no more since it was cancelled."""
        now = time.monotonic()
        for key, job in list(self._jobs.items()):
            if job.over and now - job.ended > _KEPT:
                del self._jobs[key]
        for owner, queue in list(self._queues.items()):
            self._queues[owner] = deque(job for job in queue if job.wanted)
            if not self._queues[owner]:
                del self._queues[owner]

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closed:
                for owner, queue in self._queues.items():
                    job = queue.popleft()
                    # The next turn is somebody else's.
                    self._queues.move_to_end(owner)
                    if not queue:
                        del self._queues[owner]
                    return job
                self._changed.wait()
        return None

    def _again(self, job: Job) -> None:
        """Put a job that is not done back, behind its visitor's others; whoever else waits goes first."""
        job.pause()
        with self._changed:
            if self._closed:
                job.cancel()
            else:
                self._queues.setdefault(job.owner, deque()).append(job)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not job.wanted:
                continue
            self._running = job
            job.start()
            try:
                result = job.work(job.tell)
            except Cancelled:
                job.end("cancelled")
            except LexisegError as error:
                job.end("failed", line_of(error))
            except Exception as error:  # the thread must outlive any job
                from lexiseg.runs.batch import internal_error

                logger.debug("a job failed", exc_info=True)
                job.end("failed", internal_error(error))
            else:
                if result is None:
                    self._again(job)
                else:
                    job.result = result
                    job.end("done")
            self._running = None
