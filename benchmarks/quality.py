"""How good the bundled models are: text to mask on real scans that they were never trained on.

    python benchmarks/quality.py --data DIR [--out report.json] [--limit N]
    python benchmarks/quality.py --data DIR --fold K --encoder DIR --segmenter DIR

DIR holds busi/, cxr/, hc18/, cheng/ and lgg/, each with manifest.csv, images and masks.  Scored is the
validation part (one of five patient folds; all of lgg), with one generic phrase for each set, on the CPU.
The bundled models never saw fold 0; models of another fold come from the recipe with `fold: K`, and
benchmarks/folds.py makes one table of the reports of several; benchmarks/compare.py compares two reports.
Metrics and intervals are those of `lexiseg evaluate`: Dice; box IoU of the largest piece where there are boxes alone.
With `--maps` only the encoder is judged: the final mask is the map above one half, and no segmenter is asked.
"""

from __future__ import annotations

import json
import random
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track
from scipy import ndimage
from scipy.optimize import minimize
from scipy.special import expit, logit

import lexiseg
from common import (
    TARGETS,
    auroc,
    boxes_of,
    interval,
    made_with,
    progress,
    score,
    score_name,
    scored_rows,
    table_head,
    table_row,
    truth_of,
)
from lexiseg.pipelines.fusion import encode_queries, segment_queries
from lexiseg.pipelines.preset import merge_settings
from lexiseg.pipelines.settings import MaskSettings
from lexiseg.regions.refine import make_refiner, refine
from lexiseg.regions.threshold import find_components
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region
from lexiseg.values.overlap import dice
from recipe.concepts import vocabulary
from recipe.data import fold_of

AIMS = {"busi": 0.78, "cxr": 0.95, "hc18": 0.95, "cheng": 0.60, "lgg": 0.70}
_WORDS = random.Random(0).sample(vocabulary(held_out=True), 9)
NONSENSE = (
    "glimmering teapot",
    "zorblax frim",
    "parking ticket",
    *_WORDS[:3],
    *map(" ".join, zip(_WORDS[3::2], _WORDS[4::2], strict=True)),
)
"""Three by hand, three words and three pairs of words that the recipe holds out of every training."""
STAGES = ("saliency", "crf", "sam", "mask")
BY_HAND = ("true box", "click", "click, mean")
MAPS = ("regions.threshold=0.5", "mask.fusion=region")


@dataclass
class Tally:
    """What is collected over one set."""

    scores: dict[str, list[float]] = field(default_factory=lambda: {s: [] for s in (*STAGES, *BY_HAND)})
    presence: list[tuple[float, bool]] = field(default_factory=list)
    verdicts: list[tuple[bool, bool]] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)
    nonsense: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def brier_scores(pairs: list[tuple[float, bool]], groups: list[str]) -> tuple[float, float]:
    """Mean squared error of presence as it is, and after Platt scaling, which is fitted on other patients.

    Platt (1999): sigmoid(a z + b) of the log odds z, by maximum likelihood; five folds by group.
    """
    p, known = np.array([v for v, _ in pairs]), np.array([t for _, t in pairs])
    z, sign = logit(np.clip(p, 1e-6, 1 - 1e-6)), np.where(known, 1.0, -1.0)
    folds = np.array([fold_of(group) for group in groups])
    scaled = np.empty_like(p)
    for fold in range(5):
        here, others = folds == fold, folds != fold
        fitted = minimize(lambda w, o=others: np.logaddexp(0, -sign[o] * (w[0] * z[o] + w[1])).mean(), [1.0, 0.0])
        scaled[here] = expit(fitted.x[0] * z[here] + fitted.x[1])
    return float(np.mean((p - known) ** 2)), float(np.mean((scaled - known) ** 2))


def boxes_mask(pipeline: Any, pixels: Any, boxes: np.ndarray) -> BoolArray:
    """The segmenter asked with boxes alone, looking as closely as the preset says."""
    how = MaskSettings(crop_scale=pipeline.preset["mask"].crop_scale)
    queries = encode_queries(pipeline.segmenter, pixels, Prompts(boxes=boxes), how)
    nothing = np.zeros(pixels.shape[:2], np.bool_)
    return segment_queries(pipeline.segmenter, queries, Region(nothing, nothing.astype(np.float32)), how).mask


def click_masks(segmenter: Any, pixels: Any, truth: BoolArray) -> tuple[BoolArray, BoolArray]:
    """The segmenter asked with one point in each larger piece of the target, the deepest inside it.

    Of its three candidates for a point, the one that it rates best; and the mean of their probabilities,
    weighted by their ratings, above one half: a point fits a part as well as the whole, and where the ratings
    do not tell, the mean stays between them.
    """
    image, rated, mean = segmenter.encode(pixels), np.zeros_like(truth), np.zeros_like(truth)
    for piece in find_components(truth, min_area=0.1 * float(truth.mean())):
        depth = ndimage.distance_transform_edt(np.pad(piece.mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        point = np.array([[[piece.box[0] + x + 0.5, piece.box[1] + y + 0.5]]], np.float32)
        decoded = segmenter.decode(image, points=point, labels=np.ones((1, 1), np.int64), multimask=True)
        logits, iou = segmenter.upsample(decoded.logits[0], image), decoded.iou[0].clamp(min=1e-3)
        rated |= (logits[int(iou.argmax())] > 0).cpu().numpy()
        mean |= (torch.einsum("k,khw->hw", iou / iou.sum(), logits.sigmoid()) > 0.5).cpu().numpy()
    return rated, mean


def stages(pipeline: Any, scan: Any, finding: Any) -> tuple[BoolArray, ...]:
    """Saliency above one half, the published CRF on it, SAM asked with the boxes, the final mask."""
    saliency = finding.saliency[0]
    crf = refine(saliency, scan.pixels, make_refiner("crf")).mask
    prompts = finding.prompts[0]
    drawn = np.zeros(scan.shape, np.bool_)
    if not prompts.empty:
        drawn = boxes_mask(pipeline, scan.pixels, prompts.boxes)
    return saliency.map >= 0.5, crf, drawn, finding.mask


def score_set(name: str, folder: Path, pipeline: Any, limit: int, fold: int) -> Tally:
    """Every validation scan of one set with its own phrase, those of other organs and nonsense."""
    drawn = pipeline.preset["mask"].fusion != "region"
    rows = scored_rows(folder, fold=fold, limit=limit)
    own = TARGETS[name]
    others = tuple(dict.fromkeys(p for p in (*TARGETS.values(), "liver") if p != own))
    tally = Tally()
    for row in track(rows, description=name, console=progress):
        scan = lexiseg.read_scan(folder / row["image"])
        result = pipeline(scan, [own, *others, *NONSENSE], keep_stages=True)
        finding = result[own]
        boxes = boxes_of(row)
        tally.presence.append((finding.presence, len(boxes) > 0))
        tally.verdicts.append((finding.present, len(boxes) > 0))
        tally.patients.append(row["group"])
        tally.wrong += [not result[p].present for p in others]
        tally.nonsense += [not result[p].present for p in NONSENSE]
        if not len(boxes):
            continue
        tally.groups.append(row["group"])
        seen = stages(pipeline, scan, finding) if drawn else (finding.mask,) * len(STAGES)
        truth = truth_of(row, folder, scan)
        for stage, mask in zip(STAGES, seen, strict=True):
            tally.scores[stage].append(score(mask, row, truth))
        if truth is not None and drawn:
            asked = boxes_mask(pipeline, scan.pixels, np.array(boxes, np.float32))
            tally.scores["true box"].append(dice(asked, truth))
            clicked = click_masks(pipeline.segmenter, scan.pixels, truth)
            for how, mask in zip(BY_HAND[1:], clicked, strict=True):
                tally.scores[how].append(dice(mask, truth))
        if len(tally.seconds) < 20:
            began = time.perf_counter()
            pipeline(scan, own)
            tally.seconds.append(time.perf_counter() - began)
    return tally


def print_scores(tallies: dict[str, Tally], report: dict[str, dict[str, Any]]) -> None:
    """What each stage adds, by set."""
    columns = ["set", "phrase", "scans", "score", "saliency", "CRF", "SAM", "final"]
    columns += [
        "95 % interval",
        "aim",
        "called absent",
        "SAM, true box",
        "SAM, one click",
        "mean of candidates",
    ]
    print(table_head(columns))
    for name, tally in tallies.items():
        means = {k: float(np.mean(v)) if v else float("nan") for k, v in tally.scores.items()}
        low, high = interval(tally.scores["mask"], tally.groups)
        missed = sum(there and not found for found, there in tally.verdicts)
        cells = [name, TARGETS[name], len(tally.groups), score_name(name)]
        cells += [f"{means[stage]:.3f}" for stage in STAGES[:-1]] + [f"**{means['mask']:.3f}**"]
        cells += [f"{low:.3f} to {high:.3f}", f"{AIMS[name]:.2f}"]
        cells += [
            missed,
            *("" if np.isnan(means[k]) else f"{means[k]:.3f}" for k in BY_HAND),
        ]
        print(table_row(cells))
        report[name] |= {"scans": len(tally.groups), **means, "interval": [low, high], "missed": missed}
        each = {stage: [*map(float, scores)] for stage, scores in tally.scores.items()}
        report[name] |= {"each": each, "groups": tally.groups}


def print_presence(tallies: dict[str, Tally], report: dict[str, dict[str, Any]]) -> None:
    """Presence: tumor or not, wrong organs, nonsense; and the time."""
    columns = ["set", "presence AUROC, tumor or not", "Brier score, after Platt scaling"]
    columns += ["without one: found all the same", "wrong organ: absent", "nonsense: absent"]
    columns += ["seconds a scan, median"]
    print(f"\n{table_head(columns)}")
    for name, tally in tallies.items():
        area, positives = auroc(tally.presence), sum(t for _, t in tally.presence)
        counts = f"({positives} / {len(tally.presence) - positives})"
        cells = [name, "" if np.isnan(area) else f"{area:.3f} {counts}"]
        brier = (np.nan, np.nan) if np.isnan(area) else brier_scores(tally.presence, tally.patients)
        cells += ["" if np.isnan(area) else ", ".join(f"{b:.3f}" for b in brier)]
        alarms = [found for found, there in tally.verdicts if not there]
        cells += [f"{np.mean(alarms):.1%}" if alarms else ""]
        cells += [f"{np.mean(v):.1%} of {len(v)}" for v in (tally.wrong, tally.nonsense)]
        print(table_row([*cells, f"{np.median(tally.seconds):.2f}"]))
        report[name] |= {
            "auroc": area,
            "presence": tally.presence,
            "verdicts": tally.verdicts,
            "seconds": float(np.median(tally.seconds)),
        }
        report[name] |= {"wrong": float(np.mean(tally.wrong)), "nonsense": float(np.mean(tally.nonsense))}


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18, cheng and lgg")],
    preset: str = "demo",
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    encoder: str = "bundled",
    segmenter: str = "bundled",
    setting: Annotated[list[str] | None, typer.Option("--set", help="section.key=value of the preset")] = None,
    precision: Annotated[
        str, typer.Option(help="auto is bfloat16 on some machines; float32 is comparable between them")
    ] = "float32",
    fold: Annotated[int, typer.Option(help="which fifth of the patients the models never saw")] = 0,
    maps: Annotated[bool, typer.Option("--maps", help="judge the encoder alone: no segmenter is asked")] = False,
    limit: Annotated[int, typer.Option(help="at most so many scans of each set; 0 for all")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the numbers as JSON")] = None,
) -> None:
    """Print the table of the bundled models' quality."""
    torch.manual_seed(0)
    setting = [*(setting or []), *(MAPS if maps else ())]
    changes = merge_settings(setting)
    pipeline = lexiseg.load(preset, device="cpu", precision=precision, encoder=encoder, segmenter=segmenter, **changes)
    tallies = {name: score_set(name, data / name, pipeline, limit, fold) for name in sets.split(",")}
    print(made_with())
    print(f"preset {preset} {' '.join(setting)}, {torch.get_num_threads()} CPU threads, {precision}\n")
    report: dict[str, dict[str, Any]] = {name: {"fold": fold} for name in tallies}
    print_scores(tallies, report)
    print_presence(tallies, report)
    together = [pair for name in ("busi", "cheng") if name in tallies for pair in tallies[name].presence]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wrong = [v for t in tallies.values() for v in t.wrong]
    nonsense = [v for t in tallies.values() for v in t.nonsense]
    print(
        f"\nAll sets: wrong organ absent {np.mean(wrong):.1%}, nonsense absent {np.mean(nonsense):.1%}; ",
        end="",
    )
    print(f"presence AUROC of busi and cheng together {auroc(together):.3f}; peak memory {peak:.2f} GiB")
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
