"""What the full-size medclip-sam preset costs: time by stage and peak memory, with random weights.

    python benchmarks/fullsize.py [--out DIR]

No hub is needed: BiomedCLIP (open_clip folder) and SAM ViT-B (transformers folder) are made in the published
layouts with random weights, which cost what the real ones cost.  The scan is a 500 x 400 phantom.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import lexiseg
from lexiseg.datasets.phantoms.registry import generate

HELPER = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "checkpoints.py"


def make(what: str, folder: Path) -> Path:
    """A checkpoint, made by another process: its memory is not the pipeline's."""
    if not folder.exists():
        subprocess.run([sys.executable, str(HELPER), what, str(folder)], check=True)
    return folder


def main(
    out: Annotated[Path | None, typer.Option(help="keep the checkpoints here, for the next run")] = None,
    phrase: str = "breast tumor",
) -> None:
    """Print time by stage and peak memory."""
    with tempfile.TemporaryDirectory() as temporary:
        root = out or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        encoder, segmenter = make("biomedclip", root / "biomedclip"), make("sam", root / "sam-vit-base")
        scan = generate("breast-ultrasound", 7, size=(400, 500), target=True).scan
        pipeline = lexiseg.load(
            "medclip-sam", encoder=str(encoder), segmenter=str(segmenter), presence={"threshold": 0.0}
        )
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        result = pipeline(scan, phrase, keep_stages=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found: Any = result[phrase]
    print(
        f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads, {date.today()}"
    )
    layer, boxes = found.saliency[0].layer, found.prompts[0].boxes.tolist()
    print(f"scan {scan.shape[1]} x {scan.shape[0]}, layer {layer}, boxes {boxes}")
    print("\n| stage | seconds |\n|---|---|")
    for stage, seconds in result.seconds.items():
        print(f"| {stage} | {seconds:.1f} |")
    print(f"\npeak memory {peak:.1f} GiB ({loaded:.1f} GiB once loaded)")


if __name__ == "__main__":
    typer.run(main)
