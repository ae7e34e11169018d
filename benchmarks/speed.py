"""Where a user's time goes: ours, the published way, their ratio, memory, the floor, and what share of it is reached.

    python benchmarks/speed.py [--part start,folder,saliency,regions] [--rounds N] [--out speed.json] [--page FILE.md]
    python benchmarks/speed.py --read speed.json --page docs/lab/speed.md

No hub, no data: phantoms, the bundled models, and a ViT-B/16 of BiomedCLIP's size with random weights.  Both sides of
a ratio take turns in one process (or in turn in fresh ones), and the least of N rounds counts: other work on the
machine only adds.  Seconds are of the processor where the column says so, else of the clock.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

import lexiseg
from common import made_with, progress, table_head, table_row
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.machine import other_load
from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.pipelines.loading import load
from lexiseg.proposals.crops import embed_crops, pool_regions
from lexiseg.runs import ahead
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.table import read_results
from lexiseg.saliency.gscorecam import channel_masks

CPU = torch.device("cpu")
_RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)"
COLUMNS = ("part", "ours", "s", "the other way", "s", "ratio", "peak memory, MiB", "floor, s", "share of floor")


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

    def cells(self) -> list[str]:
        ratio = "" if self.theirs is None else f"{self.theirs / self.seconds:.2f}"
        share = "" if self.floor is None else f"{100 * self.floor / self.seconds:.0f} %"
        numbers = ["" if each is None else f"{each:.3g}" for each in (self.theirs, self.memory, self.floor)]
        return [self.part, self.ours, f"{self.seconds:.3g}", self.other, numbers[0], ratio, *numbers[1:], share]


def in_turn(rounds: int, *ways: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """The least seconds of each way, which take turns."""
    found = [[] for _ in ways]
    for _ in range(rounds):
        for times, way in zip(found, ways, strict=True):
            began = clock()
            way()
            times.append(clock() - began)
    return [min(times) for times in found]


def child(code: str, **environment: str) -> tuple[float, float]:
    """Processor seconds and peak MiB of a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    watched = f"import atexit; atexit.register(lambda: exec({_RSS!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", watched], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, float(done.stdout.split()[-1]) / 2**10


def start(rounds: int, folder: Path) -> list[Line]:
    """From the command to its end, for one scan; the floor is importing the libraries and nothing else."""
    scan = folder / "scans" / "0.png"
    arguments = ["lexiseg", "segment", str(scan), "--text", "breast tumor", "--out", str(folder / "start"), "--quiet"]
    whole = f"import sys; sys.argv = {arguments!r}\nfrom lexiseg.cli.main import run; run()"
    bare = f"import open_clip, os; from transformers import SamModel; {_RSS}; os._exit(0)"
    ours, floor = (
        min(child(code, OMP_NUM_THREADS="1") for _ in range(rounds)) for code in (whole, bare)
    )  # fmt: skip
    return [Line("one scan, processor", "the command, 1 thread", ours[0], memory=ours[1], floor=floor[0])]


def folder_of_scans(rounds: int, folder: Path) -> list[Line]:
    """A folder: reading ahead and writing behind, against one after the other; the floor is the models' own work."""
    pipeline = load("demo", device="cpu")
    items = gather_items([folder / "scans"], phrases=["breast tumor"])
    largest, begin = ahead.LARGEST, ahead.Behind.begin

    def run(name: str) -> None:
        run_batch(pipeline, items, folder / name, phrases=["breast tumor"])

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
    (floor,) = in_turn(rounds, lambda: [pipeline(scan, "breast tumor") for scan in shown])
    names = ("at_once", "one_by_one")
    masks = [{path.name: path.read_bytes() for path in (folder / name).glob("*.png")} for name in names]
    assert masks[0] == masks[1] and len(read_results(folder / "at_once" / "results.csv")) == len(items)
    part = f"a folder of {len(items)} scans"
    return [Line(part, "reading ahead, writing behind", ours, "one after the other", theirs, _memory(), floor)]


def saliency(rounds: int, views: int) -> list[Line]:
    """Masked forwards of a ViT-B/16: the CPU's best format and small batches, against float32 and one large batch."""
    import timm

    model = timm.create_model("vit_base_patch16_224", num_classes=512).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    view, maps = torch.rand(1, 3, 224, 224, generator=generator), torch.rand(views, 14, 14, generator=generator)
    best = resolve_precision("auto", CPU)

    def forwards(batch: int, dtype: torch.dtype) -> None:
        with torch.inference_mode(), autocast(CPU, dtype):
            for begin in range(0, views, batch):
                model(channel_masks(maps[begin : begin + batch], 224)[:, None] * view)

    forwards(8, best)
    ours, theirs = in_turn(rounds, lambda: forwards(8, best), lambda: forwards(views, torch.float32))
    floor = 2 * 17.6e9 * views / multiplications(best)
    name = str(best).removeprefix("torch.")
    return [
        Line(f"{views} masked views", f"{name}, 8 at once", ours, f"float32, {views} at once", theirs, _memory(), floor)
    ]


def multiplications(dtype: torch.dtype) -> float:
    """Floating point operations a second in large matrix products."""
    one, other = torch.rand(2048, 1024).to(dtype), torch.rand(1024, 1024).to(dtype)
    (seconds,) = in_turn(5, lambda: one @ other)
    return 2 * 2048 * 1024 * 1024 / seconds


def regions(rounds: int) -> list[Line]:
    """SaLIP's scores of regions: pooled out of one forward, against a crop each."""
    pipeline: Any = load("demo-salip", device="cpu")
    phantom = generate("breast-ultrasound", 0, target=True)
    (plane,) = pipeline.planes(phantom.scan)
    found = pipeline.propose(plane)
    encoder, crops = pipeline.encoder, pipeline.preset["crops"]
    ours, theirs = in_turn(
        rounds,
        lambda: pool_regions(encoder, plane.pixels, found),
        lambda: embed_crops(encoder, plane.pixels, found, crops),
    )
    return [Line(f"{len(found)} regions", "pooled out of one forward", ours, "a crop each", theirs, _memory())]


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def page(record: dict[str, Any]) -> str:
    """The table and what made it, in Markdown."""
    lines = [Line(**each) for each in record["lines"]]
    table = [table_head(COLUMNS), *(table_row(line.cells()) for line in lines)]
    return "\n".join([f"    {record['command']}", "", *record["made"], "", *table]) + "\n"


def main(
    part: Annotated[str, typer.Option(help="of start, folder, saliency, regions")] = "start,folder,saliency,regions",
    rounds: int = 3,
    scans: Annotated[int, typer.Option(help="in the folder")] = 6,
    views: Annotated[int, typer.Option(help="masked views; a scan has 300")] = 32,
    out: Annotated[Path | None, typer.Option(help="keep the numbers as JSON")] = None,
    read: Annotated[Path | None, typer.Option(help="print kept numbers instead")] = None,
    to_page: Annotated[Path | None, typer.Option("--page", help="write the table as Markdown")] = None,
) -> None:
    """Print one table."""
    if read is not None:
        record = json.loads(read.read_text())
    else:
        load_before = other_load()
        asked, lines = part.split(","), []
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for seed in range(scans):
                scan = generate("breast-ultrasound", seed, target=True).scan
                (folder / "scans").mkdir(exist_ok=True)
                grey = np.rint(255 * np.asarray(scan.pixels)).astype(np.uint8)
                Image.fromarray(grey).save(folder / "scans" / f"{seed}.png")
            parts = {
                "start": lambda: start(rounds, folder),
                "folder": lambda: folder_of_scans(rounds, folder),
                "saliency": lambda: saliency(rounds, views),
                "regions": lambda: regions(rounds),
            }
            for name in asked:
                progress.print(name)
                lines += parts[name]()
        words = [f"{torch.get_num_threads()} threads", f"{platform.machine()}", f"least of {rounds}"]
        words.append(f"other programs kept {load_before:.1f} cores busy at the start")
        command = f"python benchmarks/speed.py --part {part} --rounds {rounds} --scans {scans} --views {views}"
        record = {"command": command, "made": [made_with(*words)], "lines": [asdict(line) for line in lines]}
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n")
    if to_page is not None:
        to_page.write_text(page(record))
    print(page(record))


if __name__ == "__main__":
    typer.run(main)
