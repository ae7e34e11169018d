"""The table of speeds: its lines, how ways of doing one thing are timed, what is kept of a run, and the page of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from common import table_head, table_row
from lexiseg.models.loading import resolve_precision

CPU = torch.device("cpu")
COLUMNS = ("part", "ours", "s", "the other way", "s", "ratio", "our peak, MiB", "theirs", "floor, s", "share of floor")
INTRODUCTION = """# Speed

Made by `python benchmarks/speed.py --out docs/lab/speed.json --page docs/lab/speed.md`; no number is written by hand.
Ours beside what a user would run instead, on phantoms and with the bundled or with random weights. Both sides take
turns, and the least seconds count. The floor is what cannot be done without: the operations at the rate of a large
matrix product, or the libraries' own import. What was tried, and what a number means, is in
[performance.md](performance.md).
"""


@dataclass(frozen=True)
class Asked:
    """What a part is told.

    Attributes:
        folder: empty, to write into.
        checkpoints: where the published models' weights lie, or are made.
        rounds: how often each way is timed, where it is short.
        scans: in a folder of scans.
        points: along each side, of which every region is made.
        tolerance: of gScoreCAM.
    """

    folder: Path
    checkpoints: Path
    rounds: int = 3
    scans: int = 6
    points: int = 12
    tolerance: float = 0.01


@dataclass(frozen=True)
class Line:
    """A line of the table; None where there is nothing to compare with, or no floor is known."""

    part: str
    ours: str
    seconds: float
    other: str = ""
    theirs: float | None = None
    memory: float | None = None
    floor: float | None = None
    their_memory: float | None = None

    def cells(self) -> list[str]:
        """As `COLUMNS`."""
        ratio = "" if self.theirs is None else f"{self.theirs / self.seconds:.2f}"
        share = "" if self.floor is None else f"{100 * self.floor / self.seconds:.0f} %"
        theirs, floor = ("" if each is None else f"{each:.3g}" for each in (self.theirs, self.floor))
        memory, their_memory = ("" if each is None else f"{each:.0f}" for each in (self.memory, self.their_memory))
        sides = [self.part, self.ours, f"{self.seconds:.3g}", self.other, theirs, ratio]
        return [*sides, memory, their_memory, floor, share]


def in_turn(rounds: int, *ways: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """The least seconds of each way, which take turns."""
    found = [[] for _ in ways]
    for _ in range(rounds):
        for times, way in zip(found, ways, strict=True):
            began = clock()
            way()
            times.append(clock() - began)
    return [min(times) for times in found]


def operations(dtype: torch.dtype) -> float:
    """Floating point operations a second in large matrix products."""
    one, other = torch.rand(2048, 1024).to(dtype), torch.rand(1024, 1024).to(dtype)
    (seconds,) = in_turn(5, lambda: one @ other)
    return 2 * 2048 * 1024 * 1024 / seconds


def cpu() -> str:
    """What the processor can do, as torch sees it; matrix units, which torch does not tell, as Linux lists them."""
    best = str(resolve_precision("auto", CPU)).removeprefix("torch.")
    listed = Path("/proc/cpuinfo")
    units = " with AMX" if listed.exists() and "amx_bf16" in listed.read_text() else ""
    return f"{torch.backends.cpu.get_cpu_capability()}{units}, {best}"


def kept(lines: list[Line], *, command: str, made: str) -> dict[str, Any]:
    """What is written down of one part's run."""
    return {"command": command, "made": made, "lines": [asdict(line) for line in lines]}


def merge(path: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a run in the place of those that a file has; the file's others stay."""
    before = json.loads(path.read_text()) if path.exists() else {}
    return {**before, **parts}


def table(record: Mapping[str, Any]) -> str:
    """The table in Markdown, and below it what made it.

    Args:
        record: part -> what `kept` returned.
    """
    lines = [Line(**each) for part in record.values() for each in part["lines"]]
    rows = [table_head(COLUMNS), *(table_row(line.cells()) for line in lines)]
    made: dict[tuple[str, str], None] = dict.fromkeys((part["command"], part["made"]) for part in record.values())
    notes = [f"    {command}\n\n{fill(f'{how}.', 120)}" for command, how in made]
    return "\n".join(rows) + "\n\n" + "\n\n".join(notes) + "\n"


def page(record: Mapping[str, Any]) -> str:
    """The whole page in docs."""
    return f"{INTRODUCTION}\n{table(record)}"
