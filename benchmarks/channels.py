"""How many channels must gScoreCAM compute, on real scans?  The map, the region and its box, against all channels.

    python benchmarks/channels.py --data DIR [--scans N] [--tolerances 0.02,0.01] [--keep DIR] [--seconds N]

DIR holds busi/, cxr/, hc18/, cheng/ and lgg/.  The encoder is one tower of the bundled one (its layer has 256 channels,
all of which the exact map takes) at a smaller input.  All scores of a scan are computed once and kept with --keep; each
tolerance then asks for some of them.  The region is medclip-sam's CRF, the box that of its largest piece.  Scans that
these seconds do not suffice for are computed in the next run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

import lexiseg
from common import TARGETS, made_with, progress, scored_rows, table_head, table_row
from lexiseg.evaluation.metrics.localisation import box_iou
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.loading import load_encoder
from lexiseg.regions.crf import DenseCRF
from lexiseg.regions.refine import prompts_from_region
from lexiseg.saliency.base import cosines
from lexiseg.saliency.channel_model import adaptive_scores, mask_distances
from lexiseg.saliency.framing import Frame, frame_scan
from lexiseg.saliency.gradcam import channel_importance
from lexiseg.saliency.gscorecam import GScoreCAM, _Seen
from lexiseg.text.embedding import PhraseEmbedding, embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.values.overlap import dice

COLUMNS = ("tolerance", "forwards, mean", "median", "most", "map's correlation >= 0.99", "its least")
COLUMNS += ("box IoU >= 0.95", "its median", "its least", "region's Dice, median", "seconds to choose")


@dataclass(frozen=True, eq=False)
class Scored:
    """A scan and the scores of all of its channels.

    Attributes:
        pixels: the scan.
        frame: how the encoder sees it.
        light: (1, 3, S, S) what is masked.
        maps: (n, h, w) the layer's channels.
        scores: (n,) float64.
    """

    pixels: np.ndarray
    frame: Frame
    light: Tensor
    maps: Tensor
    scores: Tensor

    def answer(self, scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Map, region and box of some scores."""
        found = torch.einsum("c,chw->hw", torch.softmax(scores, 0).float(), self.maps)
        shown = self.frame.undo(found).clamp_min(0)
        saliency = (shown / shown.max().clamp_min(1e-12)).numpy()
        region = DenseCRF()(saliency, self.pixels)
        return saliency, region.mask, prompts_from_region(region.mask, saliency).boxes


def tower_of(index: int, size: int) -> OpenClipEncoder:
    """One tower of the bundled encoder, at an input of another size."""
    bundled: Any = load_encoder("bundled", device="cpu")
    visual = bundled.model.visual
    visual.trunk = visual.trunk.towers[index]
    visual.preprocess_cfg = {**visual.preprocess_cfg, "size": size}
    name = f"tower {index} at {size} px"
    return OpenClipEncoder(bundled.model, bundled.tokenizer, name=name, device=bundled.device)


def part_of(phrase: PhraseEmbedding, index: int, towers: int) -> PhraseEmbedding:
    """A phrase as one of several towers knows it."""
    return replace(phrase, positive=F.normalize(phrase.positive.chunk(towers)[index], dim=0))


def scored(encoder: OpenClipEncoder, pixels: np.ndarray, phrase: PhraseEmbedding, keep: Path | None) -> Scored:
    """All scores of a scan, computed or kept."""
    red, green, blue = (float(value) for value in encoder.mean.flatten())
    (frame,) = frame_scan(pixels.shape[:2], size=encoder.input_size, fill=(red, green, blue))
    view, method = frame.apply(pixels), GScoreCAM()
    if keep is not None and keep.exists():
        found = torch.load(keep)
    else:
        layer = encoder.default_layer()
        maps = channel_importance(encoder, view, layer, lambda e: cosines(e, [phrase]), [phrase]).maps
        seen = _Seen(encoder, view, maps, batch=method.batch, black=True).embed(range(len(maps)), lambda share: None)
        found = {"maps": maps, "scores": encoder.logit_scale * cosines(seen, [phrase])[:, 0].double()}
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            torch.save(found, keep)
    return Scored(pixels, frame, view, found["maps"], found["scores"])


def compared(scan: Scored, tolerance: float) -> list[float]:
    """Forwards, correlation, box IoU, Dice of the region, seconds."""
    began = time.perf_counter()
    everything = [torch.arange(len(scan.maps))]
    scores, computed = adaptive_scores(
        mask_distances(scan.maps, scan.light),
        scan.maps,
        everything,
        lambda wanted: scan.scores[wanted][:, None],
        tolerance=tolerance,
        batch=GScoreCAM().batch,
    )
    spent = time.perf_counter() - began
    (saliency, region, boxes), (exact, expected, true) = scan.answer(scores[:, 0]), scan.answer(scan.scores)
    same = float(len(boxes) == len(true)) if not len(boxes) or not len(true) else box_iou(boxes[0], true[0])
    correlation = float(np.corrcoef(saliency.ravel(), exact.ravel())[0, 1])
    return [computed, correlation, same, dice(region, expected), spent]


def scans(data: Path, count: int) -> Iterator[tuple[str, Path, str]]:
    """Set, file and id of scans with a target, from each set in turn."""
    sets = [
        [
            (name, data / name / row["image"], row["id"])
            for row in scored_rows(data / name, limit=-(-count // len(TARGETS)), wanted=lambda row: row["bbox"])
        ]
        for name in TARGETS
    ]
    yield from (each for together in zip(*sets, strict=False) for each in together)


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18, cheng and lgg")],
    count: Annotated[int, typer.Option("--scans", help="of all sets together")] = 60,
    tolerances: str = "0.05,0.02,0.01,0.005",
    tower: Annotated[int, typer.Option(help="of the bundled encoder, from 0")] = 0,
    size: Annotated[int, typer.Option(help="of its input, in pixels")] = 256,
    keep: Annotated[Path | None, typer.Option(help="folder for scores, which are not computed again")] = None,
    seconds: Annotated[float, typer.Option(help="after so many no further scan is computed")] = float("inf"),
) -> None:
    """Print a row for each tolerance."""
    began, towers = time.perf_counter(), 3
    encoder = tower_of(tower, size)
    phrases = {
        name: part_of(embed_phrases(encoder, [phrase_set(text, ensemble=False)])[0], tower, towers)
        for name, text in TARGETS.items()
    }
    found: dict[str, list[list[float]]] = {each: [] for each in tolerances.split(",")}
    left = 0
    for name, file, scan_id in scans(data, count):
        place = keep / f"{name}_{scan_id}_{tower}_{size}.pt" if keep else None
        if time.perf_counter() - began > seconds and not (place and place.exists()):
            left += 1
            continue
        progress.print(scan_id)
        scan = scored(encoder, np.asarray(lexiseg.read_scan(file).pixels), phrases[name], place)
        for each, rows in found.items():
            rows.append(compared(scan, float(each)))
    details = f"{encoder.name}, {len(next(iter(found.values())))} scans", f"{left} left for want of time"
    print(f"{made_with(*details)}\n\n{table_head(COLUMNS)}")
    for tolerance, rows in found.items():
        n, r, iou, overlap, spent = np.array(rows).T
        cells = [tolerance, f"{n.mean():.0f}", f"{np.median(n):.0f}", f"{n.max():.0f}"]
        cells += [f"{100 * (r >= 0.99).mean():.0f} %", f"{r.min():.4f}", f"{100 * (iou >= 0.95).mean():.0f} %"]
        cells += [f"{np.median(iou):.3f}", f"{iou.min():.2f}", f"{np.median(overlap):.3f}", f"{spent.mean():.2f}"]
        print(table_row(cells))


if __name__ == "__main__":
    typer.run(main)
