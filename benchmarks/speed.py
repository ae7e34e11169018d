"""Where a user's time goes: ours, the published way, their ratio, memory, the floor, and what share of it is reached.

    python benchmarks/speed.py [--part start,folder,...] [--rounds N] [--out speed.json] [--page FILE.md]
    python benchmarks/speed.py --read speed.json --page docs/lab/speed.md

No hub, no data: phantoms, the bundled models, and BiomedCLIP and SAM ViT-B in their published layouts with random
weights.  Both sides of a ratio take turns in one process (or in turn in fresh ones), and the least of N rounds counts:
other work on the machine only adds.  Seconds are of the processor where the part says so, else of the clock.  A file
that `--out` names keeps the parts that did not run, so that all may be measured one after the other.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

import lexiseg
import speed_models
from common import made_with, peak_mib, progress
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.machine import other_load
from lexiseg.pipelines.loading import load
from lexiseg.runs import ahead
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.table import read_results
from speed_table import Asked, Line, cpu, in_turn, kept, merge, page, table

_RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)"


def phantoms(asked: Asked) -> Path:
    """A folder with scans in scans/."""
    (asked.folder / "scans").mkdir(exist_ok=True)
    for seed in range(asked.scans):
        grey = np.asarray(generate("breast-ultrasound", seed, target=True).scan.pixels)
        Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(asked.folder / "scans" / f"{seed}.png")
    return asked.folder


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


def start(asked: Asked) -> list[Line]:
    """From the command to its end, for one scan; the floor is importing the libraries and nothing else."""
    folder = phantoms(asked)
    scan = folder / "scans" / "0.png"
    arguments = ["lexiseg", "segment", str(scan), "--text", "breast tumor", "--out", str(folder / "start"), "--quiet"]
    whole = f"import sys; sys.argv = {arguments!r}\nfrom lexiseg.cli.main import run; run()"
    bare = f"import open_clip, os; from transformers import SamModel; {_RSS}; os._exit(0)"
    ours, floor = (
        min(child(code, OMP_NUM_THREADS="1") for _ in range(asked.rounds)) for code in (whole, bare)
    )  # fmt: skip
    return [Line("one scan, processor", "the command, 1 thread", ours[0], memory=ours[1], floor=floor[0])]


def folder_of_scans(asked: Asked) -> list[Line]:
    """A folder: reading ahead and writing behind, against one after the other; the floor is the models' own work."""
    folder, rounds = phantoms(asked), asked.rounds
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
    return [Line(part, "reading ahead, writing behind", ours, "one after the other", theirs, peak_mib(), floor)]


PARTS: dict[str, Callable[[Asked], list[Line]]] = {
    "start": start,
    "folder": folder_of_scans,
    "views": speed_models.views,
    "medclip-sam": speed_models.medclip_sam,
    "every-region": speed_models.every_region,
    "regions": speed_models.regions,
    "finetuning": speed_models.finetuning,
}
"""A new part adds its line here."""


def main(
    part: Annotated[str, typer.Option(help=f"of {', '.join(PARTS)}")] = ",".join(PARTS),
    rounds: int = 3,
    scans: Annotated[int, typer.Option(help="in the folder")] = 6,
    points: Annotated[int, typer.Option(help="along each side, of which every region is made")] = 16,
    tolerance: Annotated[float, typer.Option(help="of gScoreCAM's second run")] = 0.01,
    checkpoints: Annotated[Path | None, typer.Option(help="keep BiomedCLIP's and SAM's here")] = None,
    out: Annotated[Path | None, typer.Option(help="keep the numbers as JSON")] = None,
    read: Annotated[Path | None, typer.Option(help="print kept numbers instead")] = None,
    to_page: Annotated[Path | None, typer.Option("--page", help="write the page of the table")] = None,
) -> None:
    """Print one table."""
    unknown = [name for name in part.split(",") if name not in PARTS]
    if unknown:
        raise typer.BadParameter(f"there is no part {unknown[0]!r}, expected any of {', '.join(PARTS)}")
    if read is not None:
        record = json.loads(read.read_text())
    else:
        record = {}
        with tempfile.TemporaryDirectory() as temporary:
            asked = Asked(Path(temporary), checkpoints or Path(temporary), rounds, scans, points, tolerance)
            options = f"--rounds {rounds} --scans {scans} --points {points} --tolerance {tolerance}"
            command = f"python benchmarks/speed.py --part {part} {options}"
            words = [f"{torch.get_num_threads()} threads", cpu(), f"least of {rounds} where there are rounds"]
            made = made_with(*words, f"other programs kept {other_load():.1f} cores busy at the start")
            for name in part.split(","):
                progress.print(name)
                # A process of its own: the memory of one part is not another's.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    lines = pool.submit(PARTS[name], asked).result()
                record[name] = kept(lines, command=command, made=made)
                if out is not None:
                    out.write_text(json.dumps(merge(out, record), indent=1) + "\n")
    shown = record if out is None else json.loads(out.read_text())
    if to_page is not None:
        to_page.write_text(page(shown))
    print(table(shown))


if __name__ == "__main__":
    typer.run(main)
