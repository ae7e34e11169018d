"""What the machine can give: how threads wait, how busy other programs keep it, how a program starts and ends soon.

Nothing here imports torch: how its threads wait is decided before it is loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

BUSY = 0.5
"""From so many cores of other programs on, threads wait asleep."""

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SHORTEST = 0.05  # seconds; the kernel counts in hundredths
_started: tuple[float, float, float] | None = None


def watch_load() -> None:
    """From here on it is counted what other programs take; the earlier, the less there is to wait for."""
    global _started  # noqa: PLW0603  (one process has one start)
    if _started is None:
        _started = _sample()


def other_load() -> float:
    """How many cores other programs kept busy since `watch_load`, or for a twentieth of a second.

    Returns:
        Cores, 0 or more; 0 where the system does not tell (Linux does).

    Example:
        >>> other_load() >= 0
        True
    """
    watch_load()
    if _started is None:
        return 0.0
    began, busy, own = _started
    time.sleep(max(0.0, began + _SHORTEST - time.monotonic()))
    sample = _sample()
    if sample is None:
        return 0.0
    return max(0.0, (sample[1] - busy) - (sample[2] - own)) / (sample[0] - began)


def choose_waiting() -> None:
    """Let torch's threads sleep while they wait for each other, where other programs keep cores busy.

    Threads that wait spin, which is faster on an idle machine. Where another program holds a core it takes the time
    of the very thread that is waited for: several times slower. The number of threads does not depend on the load,
    since results would. It does nothing once torch is loaded, or where the user set one of OMP_WAIT_POLICY,
    GOMP_SPINCOUNT and KMP_BLOCKTIME.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _WAITING):
        return
    if other_load() >= BUSY:
        os.environ["GOMP_SPINCOUNT"] = "0"


def use_threads(count: int | None) -> None:
    """Compute with so many threads, from now on; None leaves the number to torch and to OMP_NUM_THREADS.

    Example:
        >>> use_threads(None)
    """
    if count is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)  # for what is not loaded yet
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Inside, modules and weights are loaded, which stay: no collection looks for garbage among them, then or later."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # Frozen objects would be taken for leaks by libraries that count them at the end.
        atexit.unregister(gc.unfreeze)
        atexit.register(gc.unfreeze)
        if enabled:
            gc.enable()


def leave(status: int) -> NoReturn:
    """End the process without taking every object apart, which takes seconds after torch was loaded.

    What was registered to be done at the end is done, and what was printed is written. Where other threads still
    work Python ends as ever, after them.

    Args:
        status: the exit status.
    """
    last = getattr(atexit, "_run_exitfuncs", None)  # Python's own, without a public name
    alone = all(thread.daemon or thread is threading.current_thread() for thread in threading.enumerate())
    if last is None or not alone:
        sys.exit(status)
    try:
        last()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # whoever read it has gone; Python says so as ever
        sys.exit(status)
    os._exit(status)


def _sample() -> tuple[float, float, float] | None:
    """The time, and the seconds of CPU that all programs and this one have taken; None where nobody says."""
    try:
        with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123  (pathlib's import takes longer)
            ticks = [int(word) for word in file.readline().split()[1:9]]
        hertz = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None
    idle, waiting = ticks[3:5]
    return time.monotonic(), (sum(ticks) - idle - waiting) / hertz, time.process_time()
