"""How much SaLIP's retrieval adds: beside the same segmenter without a phrase, and with true boxes.

    python benchmarks/salip.py --data ../shared/data [--segmenter mobile-sam] [--limit N] [--kept FOLDER]
        [--set section.key=value]

Scored are scans with their target whose patients the bundled models never saw, with one generic phrase for each set,
on the CPU.  All rows of the table choose among the same proposals.  Each way to weigh them takes the best region (of
lungs the best two), whose boxes ask the segmenter again, as published: nothing is called absent, and no map has a say
in the outline.  "the preset" is all of it.  With `--kept` proposals and scores of each scan are written to that
folder, and a scan whose scores are there is not done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from common import TARGETS, Row, boxes_of, made_with, progress, score, scored_rows, table_head, table_row, truth_of
from lexiseg.errors import UnsupportedByModel
from lexiseg.io.read import read_scan
from lexiseg.pipelines.baselines import picked
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.loading import load
from lexiseg.pipelines.preset import merge_settings
from lexiseg.pipelines.salip import Salip
from lexiseg.proposals.crops import embed_crops
from lexiseg.proposals.files import read_proposals, write_proposals
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches, retrieve
from lexiseg.proposals.settings import VISUAL_PROMPTS, CropSettings, RetrievalSettings
from lexiseg.regions.refine import prompts_from_region
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.scans import Plane

PHRASES = {**TARGETS, "brain_t1": "brain"}
SETS = ("cxr", "hc18", "busi", "cheng", "brain_t1")
AIMS = {"cxr": 50, "hc18": 31, "brain_t1": 63}
"""The paper's gains over un-prompted SAM, in Dice points."""
MAP_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PER_TRUTH = {"cxr": 2}
WEIGHED = {
    **{f"crops: {name}": CropSettings(visual_prompt=name) for name in VISUAL_PROMPTS},
    "mask pooling": CropSettings(seen="pooled"),
    "masked attention": CropSettings(seen="attended"),
}
ROWS = (
    "un-prompted, largest",
    "un-prompted, central",
    *WEIGHED,
    "map",
    "crops: masked, and map",
    "the preset",
    "map, boxes of the map asked",
    "best proposals by the truth",
    "best proposals by the truth, boxes of the map asked",
    "true boxes",
)
SECONDS = ("encode", "grid", "boxes of the map", *WEIGHED, "map")


@dataclass(frozen=True)
class Asked:
    """One scan and how an answer is scored.

    Attributes:
        plane: what is looked at.
        text: the phrase.
        truth: the true mask; None where only a box is known.
        row: of the manifest.
        count: how many regions the target consists of.
    """

    plane: Plane
    text: str
    truth: BoolArray | None
    row: Row
    count: int

    def __call__(self, mask: BoolArray) -> float:
        """Dice, or box IoU where there is no true mask."""
        return score(mask, self.row, self.truth) if mask.any() else 0.0

    @property
    def boxes(self) -> FloatArray:
        """The true boxes."""
        if self.truth is None:
            return np.array(boxes_of(self.row), np.float32).reshape(-1, 4)
        return prompts_from_region(self.truth, boxes="all", min_area=0.002).boxes


class Clock:
    """Seconds of the processor, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do it and note how long it took."""
        began = time.process_time()
        done = work()
        self.seconds[name] = time.process_time() - began
        return done


def best_proposals(proposals: Proposals, asked: Asked) -> float:
    """The score of the regions that a person who knows the truth would pick, one after the other."""
    union, best = np.zeros(proposals.shape, np.bool_), 0.0
    for _ in range(asked.count):
        scores = [asked(union | proposal.mask) for proposal in proposals]
        if not scores or max(scores) <= best:
            break
        best = max(scores)
        union = union | proposals[int(np.argmax(scores))].mask
    return best


def drawn(segmenter: CachedSegmenter, asked: Asked, boxes: FloatArray) -> BoolArray:
    """What the segmenter draws of boxes, together."""
    if not len(boxes):
        return np.zeros(asked.plane.shape, np.bool_)
    image = segmenter.encode(asked.plane.pixels)
    logits = segmenter.upsample(segmenter.decode(image, boxes=boxes).logits[:, 0], image)
    together: BoolArray = (logits > 0).any(0).cpu().numpy()
    return together


def boxes_of_matches(matches: Matches) -> FloatArray:
    """Boxes of what was retrieved."""
    return np.array([match.proposal.box for match in matches.items], np.float32).reshape(-1, 4)


def score_scan(salip: Salip, asked: Asked, weighed: Sequence[str], kept: Path | None) -> dict[str, Any]:
    """All rows of one scan, with seconds and counts."""
    plane, clock, scores = asked.plane, Clock(), {}
    segmenter = CachedSegmenter(salip.segmenter)
    (phrase,) = salip.embed([asked.text])
    (saliency,) = clock("map", lambda: salip._maps(plane, [phrase]))
    clock("encode", lambda: segmenter.encode(plane.pixels))
    if kept is not None and kept.is_file():
        proposals = read_proposals(kept)
    else:
        proposals = clock("grid", lambda: salip._propose(segmenter, plane, None))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_proposals(kept, proposals, image_id=asked.row["id"])
    for pick in ("largest", "central"):
        taken = picked(proposals, pick)
        scores[f"un-prompted, {pick}"] = asked(taken.mask) if taken else 0.0

    def retrieved(among: Proposals, how: str, crops: Any = None) -> float:
        maps = None if how == "crop" else [saliency.map]
        settings = RetrievalSettings(score=how)
        (matches,) = retrieve(among, [phrase], settings, encoder=salip.encoder, crops=crops, saliency=maps)
        return asked(drawn(segmenter, asked, boxes_of_matches(matches)))

    for name in weighed:

        def embed(how: CropSettings = WEIGHED[name]) -> Any:
            return embed_crops(salip.encoder, plane.pixels, proposals, how)

        try:
            crops = clock(name, embed)
        except UnsupportedByModel:
            continue
        scores[name] = retrieved(proposals, "crop", crops)
        if name == "crops: masked":
            scores["crops: masked, and map"] = retrieved(proposals, "both", crops)
    scores["map"] = retrieved(proposals, "saliency")
    whole = salip.from_proposals(plane, [asked.text], proposals, segmenter).items[0]
    scores["the preset"] = asked(whole.estimate.mask)
    levels = salip.preset.override(proposals={"map_levels": MAP_LEVELS})
    by_map = Salip(levels, salip.encoder, salip.segmenter)
    few = clock("boxes of the map", lambda: by_map._propose(segmenter, plane, [saliency]))
    scores["map, boxes of the map asked"] = retrieved(few, "saliency")
    scores["best proposals by the truth"] = best_proposals(proposals, asked)
    scores["best proposals by the truth, boxes of the map asked"] = best_proposals(few, asked)
    scores["true boxes"] = asked(drawn(segmenter, asked, asked.boxes))
    return {"scores": scores, "seconds": clock.seconds, "counts": {"grid": len(proposals), "map": len(few)}}


def ask(salip: Salip, folder: Path, row: Row, weighed: Sequence[str], kept: Path | None) -> dict[str, Any]:
    """One scan's answers, from its file where it was done before."""
    place = kept / folder.name if kept is not None else None
    file = place / f"{row['id']}.{Path(salip.encoder.name).name}.json" if place is not None else None
    if file is not None and file.is_file():
        done: dict[str, Any] = json.loads(file.read_text())
        return done
    scan = read_scan(folder / row["image"])
    (plane,) = salip.planes(scan)
    asked = Asked(plane, PHRASES[folder.name], truth_of(row, folder, scan), row, PER_TRUTH.get(folder.name, 1))
    answer = score_scan(salip, asked, weighed, place / f"{row['id']}.proposals.json" if place is not None else None)
    if file is not None:
        file.write_text(json.dumps(answer) + "\n")
    progress.print(f"{folder.name} {row['id']}: done")
    return answer


def mean(answers: list[dict[str, Any]], part: str, name: str) -> float | None:
    """Over the scans that have it; None where none has."""
    found = [each[part][name] for each in answers if name in each[part]]
    return float(np.mean(found)) if found else None


def print_tables(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Scores by row and set, the gains in points, seconds and numbers of regions."""
    names = list(found)
    print(table_head(["", *(f"{name}, {PHRASES[name]}" for name in names)]))
    print(table_row(["scans", *(len(each) for each in found.values())]))
    scores = {row: [mean(each, "scores", row) for each in found.values()] for row in ROWS}
    for row, values in scores.items():
        if any(value is not None for value in values):
            print(table_row([row, *("" if value is None else f"{value:.3f}" for value in values)]))
    for row in ("crops: masked", "map", "the preset"):
        for pick in ("largest", "central"):
            pairs = zip(scores[row], scores[f"un-prompted, {pick}"], strict=True)
            cells = ["" if a is None or b is None else f"{100 * (a - b):+.0f}" for a, b in pairs]
            print(table_row([f"gain in points, {row} over {pick}", *cells]))
    print(table_row(["the paper's gain", *(f"+{AIMS[name]}" if name in AIMS else "" for name in names)]))
    print()
    print(table_head(["seconds of the processor a scan", *names]))
    for row in SECONDS:
        values = [mean(each, "seconds", row) for each in found.values()]
        if any(value is not None for value in values):
            print(table_row([row, *("" if value is None else f"{value:.2f}" for value in values)]))
    for row in ("grid", "map"):
        print(table_row([f"regions, {row}", *(f"{mean(each, 'counts', row):.0f}" for each in found.values())]))


def main(
    data: Annotated[Path, typer.Option(help="the folder with all sets")] = Path("../shared/data"),
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(SETS),
    encoder: str = "bundled",
    segmenter: str = "bundled",
    setting: Annotated[list[str] | None, typer.Option("--set", help="section.key=value of demo-salip")] = None,
    limit: Annotated[int, typer.Option(help="scans of each set, by chance")] = 8,
    weighed: Annotated[str, typer.Option(help="ways to weigh regions beside the map, by commas")] = ",".join(WEIGHED),
    precision: str = "auto",
    kept: Annotated[Path | None, typer.Option(help="folder for each scan's answers")] = None,
    threads: int = 1,
) -> None:
    """Print the tables of SaLIP by preset demo-salip."""
    torch.set_num_threads(threads)
    changes = {"encoder": encoder, "segmenter": segmenter, **merge_settings(setting or [])}
    salip = load("demo-salip", device="cpu", precision=precision, **changes)
    assert isinstance(salip, Salip)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sets.split(",")}
    rows = {name: scored_rows(data / name, limit=limit, wanted=lambda row: row["bbox"].strip()) for name in found}
    ways = weighed.split(",") if weighed else []
    for k in range(max(map(len, rows.values()))):  # a scan of each set in turn: whoever stops has as many of each
        for name, those in rows.items():
            if k < len(those):
                found[name].append(ask(salip, data / name, those[k], ways, kept))
    print(made_with(f"{threads} threads"))
    print(f"demo-salip, segmenter {segmenter}, encoder {encoder}, {' '.join(setting or [])}; Dice, of cheng box IoU\n")
    print_tables(found)


if __name__ == "__main__":
    typer.run(main)
