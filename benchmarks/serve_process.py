"""`lexiseg serve` as a process of its own, for benchmarks and tests."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx


class Command:
    """A server, and a browser's client of it.

    Args:
        options: of the command.
        state_home: instead of the user's state folder.
        cookies: of an earlier client, to be the same browser.
        threads: of the models.
    """

    def __init__(self, *options: str, state_home: Path, cookies: Any = None, threads: int = 1) -> None:
        env = {**os.environ, "XDG_STATE_HOME": str(state_home), "OMP_NUM_THREADS": str(threads)}
        env |= {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        code = "from lexiseg.cli.main import run; run()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--no-open", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
        )
        self.lines: list[str] = []
        self._told: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._address()
        self.client = httpx.Client(base_url=self.address, cookies=cookies, timeout=60)

    def kill(self) -> None:
        """As the kernel does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.client.close()

    def stop(self) -> int:
        """As Ctrl-C does; the exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self.client.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._told.put(line)
        self._told.put(None)

    def _address(self) -> str:
        while (line := self._told.get(timeout=60)) is not None:
            if found := re.search(r"http://\S+", line):
                return found[0]
        raise AssertionError("".join(self.lines))
