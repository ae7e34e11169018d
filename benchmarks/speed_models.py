"""The parts of the table that the published models decide: masked views, both pipelines, fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import finetune_speed
import fullsize
import proposals
from common import peak_mib
from lexiseg.datasets.pairs.phantoms import write_phantom_pairs
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.encoders.open_clip import require_open_clip
from lexiseg.models.loading import load_encoder, resolve_precision
from lexiseg.pipelines.loading import load
from lexiseg.proposals.crops import embed_crops, pool_regions
from lexiseg.saliency.gscorecam import channel_masks
from lexiseg.saliency.settings import GScoreCAMSettings
from speed_table import CPU, Asked, Line, in_turn, operations

SHARES = {0.005: 0.53, 0.007: 0.48, 0.01: 0.44, 0.02: 0.32}
"""Tolerance -> what a hundred real scans took of the channels on average: benchmarks/channels.py."""
POINTS = 32
"""Along each side of the published grid; fewer are timed, and what grows with them is multiplied."""


def views(asked: Asked, count: int = 32) -> list[Line]:
    """Masked forwards of a ViT-B/16: as the encoder does them, against open_clip's model in one large batch."""
    path = str(fullsize.checkpoint("biomedclip", asked.checkpoints / "biomedclip"))
    encoder = load_encoder(path, device="cpu")
    model: Any = require_open_clip(load_encoder(path, device="cpu", precision="float32")).model
    generator = torch.Generator().manual_seed(0)
    view, maps = torch.rand(1, 3, 224, 224, generator=generator), torch.rand(count, 14, 14, generator=generator)
    batch = GScoreCAMSettings().batch

    def ours() -> None:
        for begin in range(0, count, batch):
            encoder.encode_image(channel_masks(maps[begin : begin + batch], 224)[:, None] * view)

    def theirs() -> None:
        with torch.inference_mode():
            model.encode_image(channel_masks(maps, 224)[:, None] * view)

    ours()
    best, other = in_turn(asked.rounds, ours, theirs)
    floor = 2 * fullsize.VIEW_MACS * count / operations(resolve_precision("auto", CPU))
    how = f"{encoder.precision}, {batch} at once"
    return [Line(f"{count} masked views", how, best, f"float32, {count} at once", other, peak_mib(), floor)]


def medclip_sam(asked: Asked) -> list[Line]:
    """One scan from pixels to mask, against the released procedure.

    With random weights all scores are alike, and a tolerance needs few forwards.  So its line is for as many as real
    scans took, at what a forward costs by the difference of the two runs.
    """
    found = fullsize.both(asked.checkpoints, tolerance=asked.tolerance)
    theirs, rate = found["released"], operations(resolve_precision("auto", CPU))
    exact, near = found["ours"], found["tolerance"]
    wanted = round(float(np.interp(asked.tolerance, [*SHARES], [*SHARES.values()])) * fullsize.CHANNELS)
    each = (exact.total - near.total) / max(1, exact.forwards - near.forwards)
    told = f"tolerance {asked.tolerance}, scaled from {near.forwards} to {wanted} forwards"
    told += f", map's correlation {fullsize.agreement(found):.3f}"
    lines = []
    for how, forwards, seconds, cost in (
        (f"exact, {exact.forwards} forwards", exact.forwards, exact.total, exact),
        (told, wanted, near.total + each * (wanted - near.forwards), near),
    ):
        # Besides the masked views one forward, a backward of twice its work, and the segmenter's encoding.
        floor = 2 * (fullsize.VIEW_MACS * (forwards + 3) + fullsize.SCAN_MACS) / rate
        other = f"as released, {theirs.forwards} forwards times {fullsize.CHANNELS / theirs.forwards:.2f}"
        lines.append(Line("medclip-sam, a scan", how, seconds, other, theirs.total, cost.peak, floor, theirs.peak))
    return lines


def every_region(asked: Asked) -> list[Line]:
    """The mask generator of SaLIP against segment-anything, without and with a layer of crops."""
    points = asked.points
    checkpoint = fullsize.checkpoint("sam-pth", asked.checkpoints / "sam_vit_b.pth")
    lines, precision = [], str(resolve_precision("auto", CPU)).removeprefix("torch.")
    for layers in (0, 1):
        found = proposals.both(checkpoint, points=points, layers=layers)
        ours, theirs = found["ours"], found["published"]
        crops = f"{1 + 4 * layers} views" if layers else "no crops"
        for side, times in ((points, 1.0), (POINTS, (POINTS / points) ** 2)):
            of, beside = (_scaled(each, times) for each in (ours, theirs))
            scaled = "" if times == 1 else f", from {points}"
            part = f"every region, {side} points a side{scaled}, {crops}"
            how = f"{precision}, {ours['masks']} masks"
            other = f"segment-anything, {theirs['masks']} masks"
            lines.append(Line(part, how, of, other, beside, 1024 * ours["peak"], None, 1024 * theirs["peak"]))
    return lines


def _scaled(found: dict[str, Any], times: float) -> float:
    """Seconds with so many times as many points: what encodes stays, all else grows."""
    encode = found["stages"]["encode"][0]
    return float(encode + times * (found["total"][0] - encode))


def regions(asked: Asked) -> list[Line]:
    """SaLIP's scores of regions: pooled out of one forward, against a crop each."""
    pipeline: Any = load("demo-salip", device="cpu")
    phantom = generate("breast-ultrasound", 0, target=True)
    (plane,) = pipeline.planes(phantom.scan)
    found = pipeline.propose(plane)
    encoder, crops = pipeline.encoder, pipeline.preset["crops"]
    ours, theirs = in_turn(
        asked.rounds,
        lambda: pool_regions(encoder, plane.pixels, found),
        lambda: embed_crops(encoder, plane.pixels, found, crops),
    )
    return [Line(f"{len(found)} regions", "pooled out of one forward", ours, "a crop each", theirs, peak_mib())]


def finetuning(asked: Asked, batch: int = 4, times: int = 16) -> list[Line]:
    """Seconds for a hundred pairs with BiomedCLIP, against open_clip's trainer; and with a larger batch."""
    encoder = fullsize.checkpoint("biomedclip", asked.checkpoints / "biomedclip")
    pairs = write_phantom_pairs(asked.folder / "pairs", count=batch * times, size=128)
    theirs, *rows = finetune_speed.speed_table(pairs, encoder=str(encoder), batch=batch, times=times, limit=2 * batch)
    lines = []
    for row in rows:
        seconds, beside = (100 / each["pairs_per_second"] for each in (row, theirs))
        how, other = (f"{each['trainer']}, batches of {each['batch']}" for each in (row, theirs))
        peaks = row["peak_mib"], theirs["peak_mib"]
        lines.append(Line("fine-tuning, 100 pairs", how, seconds, other, beside, peaks[0], None, peaks[1]))
    return lines
