"""Our automatic mask generator and the published one, on the same weights in one run: time and peak memory.

    python benchmarks/proposals.py [--layers 0|1] [--points N] [--threads N] [--precision float32]

SAM ViT-B with random weights (they cost what the real ones cost), a 500 x 400 phantom, no mask filtered out:
the worst case for both.  Needs segment-anything.  Each side has a process of its own, so that its peak memory
is its own; processor time is what to compare on a machine that does other things as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from common import made_with, peak_mib, table_head, table_row
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.loading import load_segmenter
from lexiseg.proposals.generator import propose
from lexiseg.proposals.settings import ProposalSettings

HELPER = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "checkpoints.py"
app = typer.Typer(add_completion=False)


class Watch:
    """A segmenter that notes how long each of its parts takes."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter = segmenter
        self.name, self.device = segmenter.name, segmenter.device
        self.seconds: dict[str, list[float]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            answer = getattr(self._segmenter, name)(*args, **kwargs)
            spent = self.seconds.setdefault(name, [0.0, 0.0])
            spent[0] += time.perf_counter() - wall
            spent[1] += time.process_time() - cpu
            return answer

        return timed


def ours(checkpoint: Path, scan: np.ndarray, points: int, layers: int, precision: str) -> dict[str, Any]:
    """Time by stage of `propose`."""
    segmenter = Watch(load_segmenter(str(checkpoint), device="cpu", precision=precision))
    settings = ProposalSettings(
        points_per_side=points,
        pred_iou_threshold=0,
        stability_threshold=0,
        crop_layers=layers,
        crop_points_downscale=2,
    )
    return _watched(lambda: propose(segmenter, scan, settings), segmenter.seconds)


def published(checkpoint: Path, scan: np.ndarray, points: int, layers: int) -> dict[str, Any]:
    """The automatic mask generator of segment-anything."""
    from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    model = sam_model_registry["vit_b"](checkpoint=str(checkpoint))
    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=points,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        crop_n_layers=layers,
        crop_n_points_downscale_factor=2,
    )
    stages: dict[str, list[float]] = {}
    names = {"encode": "image_encoder", "decode": "mask_decoder"}
    for stage, name in names.items():
        part = getattr(model, name)
        part.forward = _timed(part.forward, stages.setdefault(stage, [0.0, 0.0]))
    return _watched(lambda: generator.generate(scan), stages)


def _watched(generate_masks: Callable[[], Any], stages: dict[str, list[float]]) -> dict[str, Any]:
    loaded, wall, cpu = peak_mib() / 2**10, time.perf_counter(), time.process_time()
    masks = len(generate_masks())
    total = [time.perf_counter() - wall, time.process_time() - cpu]
    return {"loaded": loaded, "masks": masks, "stages": stages, "total": total, "peak": peak_mib() / 2**10}


def _timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        answer = call(*args, **kwargs)
        spent[0] += time.perf_counter() - wall
        spent[1] += time.process_time() - cpu
        return answer

    return timed


@app.command(hidden=True)
def side(name: str, checkpoint: Path, points: int, layers: int, threads: int, precision: str) -> None:
    """One generator in this process; prints a line of JSON."""
    torch.set_num_threads(threads)
    pixels = generate("breast-ultrasound", 7, size=(400, 500), target=True).scan.pixels
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if name == "published":
        print(json.dumps(published(checkpoint, np.rint(colour * 255).astype(np.uint8), points, layers)))
    else:
        print(json.dumps(ours(checkpoint, colour, points, layers, precision)))


def both(
    checkpoint: Path, *, points: int, layers: int, threads: int | None = None, precision: str = "auto"
) -> dict[str, dict[str, Any]]:
    """What each generator's process found."""
    found = {}
    for name in ("ours", "published"):
        command = [sys.executable, __file__, "side", name, checkpoint, points, layers]
        command += [threads or torch.get_num_threads(), precision]
        answer = subprocess.run([str(each) for each in command], check=True, stdout=subprocess.PIPE, text=True).stdout
        found[name] = dict(json.loads(answer.splitlines()[-1]))
    return found


@app.command()
def compare(
    layers: Annotated[int, typer.Option(help="crop layers")] = 0,
    points: Annotated[int, typer.Option(help="along each side")] = 32,
    threads: int | None = None,
    precision: Annotated[str, typer.Option(help="of our image encoder; auto is what a user gets")] = "auto",
    checkpoint: Annotated[Path | None, typer.Option(help="an original ViT-B checkpoint")] = None,
) -> None:
    """Print both generators' time by stage, their ratio and their peak memory."""
    how = f"{threads or torch.get_num_threads()} threads", f"{precision} precision"
    print(f"{made_with(*how)}; {points} points per side, {layers} crop layers\n")
    with tempfile.TemporaryDirectory() as temporary:
        if checkpoint is None:
            checkpoint = Path(temporary) / "sam_vit_b.pth"
            subprocess.run([sys.executable, str(HELPER), "sam-pth", str(checkpoint)], check=True)
        sides = both(checkpoint, points=points, layers=layers, threads=threads, precision=precision)
    print(table_head(["", "stage", "seconds", "processor seconds"]))
    for name, found in sides.items():
        rest = np.array(found["total"]) - sum(np.array(spent) for spent in found["stages"].values())
        for stage, spent in {**found["stages"], "rest": rest, "total": found["total"]}.items():
            print(table_row([name, stage, f"{spent[0]:.1f}", f"{spent[1]:.1f}"]))
    for name, found in sides.items():
        memory = f"peak {found['peak']:.2f} GiB ({found['loaded']:.2f} once loaded)"
        print(f"\n{name}: {found['masks']} masks, {memory}")
    wall, cpu = (sides["published"]["total"][k] / sides["ours"]["total"][k] for k in (0, 1))
    print(f"\nours is {wall:.1f} times faster, {cpu:.1f} times by processor time")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("side", "compare", "--help"):
        sys.argv.insert(1, "compare")
    app()
