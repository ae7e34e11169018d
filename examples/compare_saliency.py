"""Where is the phrase?  Three answers to the same question, side by side.

    python examples/compare_saliency.py [SCAN] [--text PHRASE] [--out FILE.png]

Without a scan a phantom is used.  gScoreCAM scores a few hundred masked copies of the scan: give it a minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from PIL import Image

import lexiseg
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.io.pictures import saliency_overlay
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.settings import explain
from lexiseg.text.phrases import phrase_set


def main() -> None:
    """Write one picture with the three maps from left to right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="?", type=Path)
    parser.add_argument("--text", default="breast tumor")
    parser.add_argument("--out", type=Path, default=Path("saliency.png"))
    asked = parser.parse_args()
    scan = lexiseg.read_scan(asked.scan) if asked.scan else generate("breast-ultrasound", 7, target=True).scan
    encoder = load_encoder("bundled")
    tiles = []
    for method in ("dense", "gradcam", "gscorecam"):
        began = time.perf_counter()
        (found,) = explain(encoder, scan.pixels, [phrase_set(asked.text)], method=method)
        print(f"{method}: {time.perf_counter() - began:.1f} s, layer {found.layer}, score {found.score:.2f}")
        tiles.append(Image.fromarray(saliency_overlay(scan, found.map)))
    picture = Image.new("RGB", (sum(t.width for t in tiles), tiles[0].height))
    for index, tile in enumerate(tiles):
        picture.paste(tile, (index * tile.width, 0))
    picture.save(asked.out)
    print(f"{asked.out}: dense | gradcam | gscorecam")


if __name__ == "__main__":
    main()
