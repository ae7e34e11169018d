"""The parts of the table that the default decides: a scan, starting, a folder, a volume, a busy machine."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import lexiseg
from common import peak_mib
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.loading import resolve_precision
from lexiseg.pipelines.loading import load
from lexiseg.runs import ahead
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.table import read_results
from lexiseg.saliency.dense import DenseSimilarity
from speed_table import CPU, Asked, Line, in_turn, operations
from volumes import make_ct

PHRASE = "breast tumor"
SLICES = 20
"""Of the CT; one of 300 takes fifteen times as long."""
_RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)"


def phantoms(asked: Asked) -> Path:
    """A folder with scans in scans/."""
    (asked.folder / "scans").mkdir(exist_ok=True)
    for seed in range(asked.scans):
        grey = np.asarray(generate("breast-ultrasound", seed, target=True).scan.pixels)
        Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(asked.folder / "scans" / f"{seed}.png")
    return asked.folder


def child(code: str, **environment: str) -> tuple[float, float, float]:
    """Processor seconds, seconds of the clock and peak MiB of a fresh process, with modules compiled as installed ones
    are.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    watched = f"import atexit; atexit.register(lambda: exec({_RSS!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", watched],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
    )
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, clock, float(done.stdout.split()[-1]) / 2**10


def start(asked: Asked) -> list[Line]:
    """From the command to its end, for one scan; the floor is importing the libraries and nothing else.

    The processor is counted with one thread, the clock as a user has it.
    """
    folder = phantoms(asked)
    scan = folder / "scans" / "0.png"
    arguments = ["lexiseg", "segment", str(scan), "--text", PHRASE, "--out", str(folder / "start"), "--quiet"]
    whole = f"import sys; sys.argv = {arguments!r}\nfrom lexiseg.cli.main import run; run()"
    bare = f"import open_clip, os; from transformers import SamModel; {_RSS}; os._exit(0)"
    lines = []
    for part, which, how, threads in (
        ("one scan, processor", 0, "the command, 1 thread", {"OMP_NUM_THREADS": "1"}),
        ("one scan, by the clock", 1, f"the command, {torch.get_num_threads()} threads", {}),
    ):
        ours, floor = [], []
        for _ in range(asked.rounds):
            ours.append(child(whole, **threads))
            floor.append(child(bare, **threads))
        seconds, libraries = (min(each[which] for each in side) for side in (ours, floor))
        lines.append(Line(part, how, seconds, memory=min(each[2] for each in ours), floor=libraries))
    return lines


def folder_of_scans(asked: Asked) -> list[Line]:
    """A folder: reading ahead and writing behind, against one after the other; the floor is the models' own work."""
    folder, rounds = phantoms(asked), asked.rounds
    pipeline = load("demo", device="cpu")
    items = gather_items([folder / "scans"], phrases=[PHRASE])
    largest, begin = ahead.LARGEST, ahead.Behind.begin

    def run(name: str) -> None:
        run_batch(pipeline, items, folder / name, phrases=[PHRASE])

    def at_once() -> None:
        run("at_once")

    def one_by_one() -> None:
        ahead.LARGEST, ahead.Behind.begin = -1, lambda self, work: work()  # type: ignore[method-assign]
        try:
            run("one_by_one")
        finally:
            ahead.LARGEST, ahead.Behind.begin = largest, begin  # type: ignore[method-assign]

    at_once()
    ours, theirs = in_turn(rounds, at_once, one_by_one)
    shown = [lexiseg.read_scan(item.path) for item in items]
    (floor,) = in_turn(rounds, lambda: [pipeline(scan, PHRASE) for scan in shown])
    names = ("at_once", "one_by_one")
    masks = [{path.name: path.read_bytes() for path in (folder / name).glob("*.png")} for name in names]
    assert masks[0] == masks[1] and len(read_results(folder / "at_once" / "results.csv")) == len(items)
    part = f"a folder of {len(items)} scans"
    return [Line(part, "reading ahead, writing behind", ours, "one after the other", theirs, peak_mib(), floor)]


def scan(asked: Asked) -> list[Line]:
    """A warm scan: lean networks, against the same ones as they were trained; then with every region proposed."""
    shown = [generate("breast-ultrasound", seed, target=True).scan for seed in range(asked.scans)]
    ours, plain, regions = load("demo", device="cpu"), load("demo", device="cpu"), load("demo-salip", device="cpu")
    # Who takes the model itself gets it as it is, and so does the pipeline from then on.
    models: list[Any] = [plain.encoder, plain.segmenter]
    assert all(each.model is not None for each in models)
    ways = [_each(pipeline, shown) for pipeline in (ours, plain, regions)]
    for way in ways:
        way()
    lean, trained, proposed = (seconds / len(shown) for seconds in in_turn(asked.rounds, *ways))
    floor = _floor(ways[0]) / len(shown)
    chests = [generate("chest-xray", seed, target=True).scan for seed in range(asked.scans)]
    one = _each(ours, chests, "lungs")

    def all_towers() -> None:
        DenseSimilarity.by_cosines = False
        one()
        DenseSimilarity.by_cosines = True

    one()
    alone, together = (seconds / len(chests) for seconds in in_turn(asked.rounds, one, all_towers))
    return [
        Line("demo, a scan", "lean networks", lean, "as they were trained", trained, peak_mib(), floor),
        Line("demo, a scan and a target of one tower", "that tower", alone, "all three towers", together),
        Line("demo-salip, a scan", "regions proposed near the map", proposed, "demo", lean),
    ]


def volume(asked: Asked) -> list[Line]:
    """A CT, against its slices as single images."""
    pipeline = load("demo", device="cpu")
    ct = lexiseg.read_scan(make_ct(asked.folder, SLICES))
    planes = pipeline.planes(ct)
    slices = [lexiseg.Image(planes[index].pixels, id=str(index)) for index in range(len(planes))]
    whole, alone = _each(pipeline, [ct], "brain tumor"), _each(pipeline, slices, "brain tumor")
    _each(pipeline, slices[:1], "brain tumor")()
    ours, theirs = in_turn(1, whole, alone)
    part = f"a CT of {SLICES} slices of {planes[0].shape[0]} pixels"
    return [Line(part, "as a volume", ours, "slices as images", theirs, peak_mib(), _floor(whole))]


def busy(asked: Asked) -> list[Line]:
    """A warm scan while other programs hold all cores but one, with threads as lexiseg and as torch lets them wait.

    The floor is the scan on an idle machine.
    """
    folder = phantoms(asked)
    timed = f"""
import time, lexiseg
from pathlib import Path
scans = [lexiseg.read_scan(path) for path in sorted(Path({str(folder / "scans")!r}).iterdir())]
pipeline = lexiseg.load("demo", device="cpu").pipeline
took = []
for scan in scans + scans * {asked.rounds}:
    began = time.perf_counter()
    pipeline(scan, {PHRASE!r})
    took.append(time.perf_counter() - began)
print(sorted(took[len(scans):])[len(took[len(scans):]) // 2])
"""
    chosen = "from lexiseg.machine import choose_waiting\nchoose_waiting()\n" + timed
    alone = _seconds(chosen)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 2) - 1)]
    try:
        ours, theirs = _seconds(chosen), _seconds(timed)
    finally:
        for other in others:
            other.kill()
            other.wait()
    part = f"demo, a scan beside {len(others)} busy cores, median"
    return [Line(part, "threads that sleep", ours, "threads as torch has them", theirs, floor=alone)]


def _seconds(code: str) -> float:
    """What a fresh process prints last."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _each(pipeline: Any, scans: list[Any], phrase: str = PHRASE) -> Callable[[], None]:
    """A call that asks one phrase of each scan."""

    def ask() -> None:
        for each in scans:
            pipeline(each, phrase)

    return ask


def _floor(way: Callable[[], None]) -> float:
    """Seconds that the operations of a call take at the rate of a large matrix product."""
    return counted_operations(way) / operations(resolve_precision("auto", CPU))


def counted_operations(way: Callable[[], None]) -> int:
    """Floating point operations of a call, with the packed linear layers of lean networks, which torch leaves out."""

    def packed(x: list[int], *others: object, out_shape: list[int]) -> int:
        return 2 * math.prod(out_shape) * x[-1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: packed}) as counted:
        way()
    return counted.get_total_flops()
