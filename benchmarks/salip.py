"""How much SaLIP's retrieval adds: beside the same segmenter without a phrase, and with true boxes.

    python benchmarks/salip.py --data DIR [--out report.json] [--limit N] [--set section.key=value]

DIR holds cxr/, hc18/ and busi/, each with manifest.csv, images and masks.  Scored is the validation part (one
of five patient folds, which the bundled models were never trained on), scans with their target alone, with
one generic phrase for each set, on the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

import lexiseg
from common import TARGETS, made_with, progress, scored_rows, table_head, table_row
from lexiseg.io.masks import read_mask
from lexiseg.pipelines.baselines import picked
from lexiseg.pipelines.preset import merge_settings
from lexiseg.values.overlap import dice

SETS = ("cxr", "hc18", "busi")
AIMS = {"cxr": 50, "hc18": 31}
"""The paper's gains over un-prompted SAM, in Dice points."""
WITHIN = 10
"""How near the true boxes' bound SaLIP should come, in Dice points."""
COLUMNS = {
    "largest": "un-prompted, largest",
    "central": "un-prompted, most central",
    "proposals": "best proposals there are",
    "salip": "demo-salip",
    "box": "true boxes",
}


def best_proposals(proposals: Any, truth: np.ndarray, count: int) -> float:
    """Dice of the regions that a person who knows the truth would pick, one after the other."""
    union, best = np.zeros_like(truth), 0.0
    for _ in range(count):
        scores = [dice(union | proposal.mask, truth) for proposal in proposals]
        if not scores or max(scores) <= best:
            break
        best = max(scores)
        union = union | proposals[int(np.argmax(scores))].mask
    return best


def score_set(name: str, folder: Path, salip: Any, box: Any, limit: int) -> dict[str, list[float]]:
    """Dice of each scan by column, and the seconds of the cascade.

    Un-prompted answers are picked from the cascade's own proposals: what the presets would give with them.
    """
    rows = scored_rows(folder, limit=limit, wanted=lambda row: row["bbox"] and row["mask"])
    scores: dict[str, list[float]] = {key: [] for key in (*COLUMNS, "seconds", "present")}
    text = TARGETS[name]
    for row in track(rows, description=name, console=progress):
        scan = lexiseg.read_scan(folder / row["image"])
        truth = read_mask(folder / row["mask"], scan)
        result = salip(scan, text, keep_stages=True)
        proposals = result.proposals[0]
        scores["seconds"].append(result.seconds["total"])
        scores["present"].append(float(result.present))
        scores["salip"].append(dice(result[text].mask, truth))
        scores["proposals"].append(best_proposals(proposals, truth, 2 if name == "cxr" else 1))
        for pick in ("largest", "central"):
            taken = picked(proposals, pick)
            scores[pick].append(dice(taken.mask, truth) if taken else 0.0)
        scores["box"].append(dice(box(scan, text, truth=truth)[text].mask, truth))
    return scores


def print_table(scores: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Means by set, and the gains in Dice points."""
    head = ["set", "phrase", "scans", *COLUMNS.values(), "gain over largest", "gain over central", "aim"]
    head += ["below true boxes", "aim", "called absent", "seconds a scan, median"]
    print(table_head(head))
    report = {}
    for name, each in scores.items():
        means = {key: float(np.mean(values)) for key, values in each.items()}
        gains = {pick: 100 * (means["salip"] - means[pick]) for pick in ("largest", "central")}
        below = 100 * (means["box"] - means["salip"])
        absent = int(len(each["present"]) - sum(each["present"]))
        cells = [name, TARGETS[name], len(each["salip"]), *(f"{means[key]:.3f}" for key in COLUMNS)]
        cells += [f"{gains['largest']:+.1f}", f"{gains['central']:+.1f}"]
        cells += [f"+{AIMS[name]}" if name in AIMS else "", f"{below:.1f}", WITHIN if name in AIMS else ""]
        cells += [absent, f"{np.median(each['seconds']):.2f}"]
        print(table_row(cells))
        report[name] = {**means, **{f"gain over {pick}": gain for pick, gain in gains.items()}}
        report[name] |= {"below true boxes": below, "scans": len(each["salip"]), "absent": absent}
    return report


def main(
    data: Annotated[Path, typer.Option(help="folder with cxr, hc18 and busi")],
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(SETS),
    encoder: str = "bundled",
    segmenter: str = "bundled",
    setting: Annotated[list[str] | None, typer.Option("--set", help="section.key=value of demo-salip")] = None,
    limit: Annotated[int, typer.Option(help="at most so many scans of each set; 0 for all")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the numbers as JSON")] = None,
) -> None:
    """Print the table of SaLIP with the bundled models."""
    torch.manual_seed(0)
    changes = merge_settings(setting or [])
    salip = lexiseg.load(
        "demo-salip", device="cpu", precision="float32", encoder=encoder, segmenter=segmenter, **changes
    )
    box = lexiseg.load("sam-box", device="cpu", precision="float32", segmenter=segmenter)
    scores = {name: score_set(name, data / name, salip, box, limit) for name in sets.split(",")}
    print(made_with())
    print(f"demo-salip {' '.join(setting or [])}, {torch.get_num_threads()} CPU threads; mean Dice\n")
    report = print_table(scores)
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
