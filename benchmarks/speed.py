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
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer

import speed_default
import speed_models
from common import made_with, progress
from lexiseg.machine import other_load
from speed_table import Asked, Line, cpu, kept, merge, page, table

PARTS: dict[str, Callable[[Asked], list[Line]]] = {
    "scan": speed_default.scan,
    "start": speed_default.start,
    "folder": speed_default.folder_of_scans,
    "volume": speed_default.volume,
    "busy": speed_default.busy,
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
    points: Annotated[int, typer.Option(help="along each side, of which every region is made")] = 12,
    tolerance: Annotated[float, typer.Option(help="of gScoreCAM's second run")] = 0.007,
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
