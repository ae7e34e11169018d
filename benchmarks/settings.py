"""What a preset's settings are worth: alternatives on the same scans, paired, the choice cross-validated.

    python benchmarks/settings.py --data DIR --try 'mask.binarize=half' --try 'mask.crop_scale=3' [--try 'a.b=1 c.d=2']

DIR holds busi/, cxr/, hc18/, cheng/ and lgg/; scored are the scans of benchmarks/quality.py, final mask by
text alone.  For each alternative the table gives its difference to the preset scan by scan, with a bootstrap
interval over patients, and the lowest and highest difference in five parts of the patients.  Choosing the
best of several on the scans that score it flatters; so the choice is made again on four parts (by the mean
over sets) and scored on the fifth, in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track

import lexiseg
from common import TARGETS, interval, made_with, progress, score, scored_rows, table_head, table_row, truth_of
from lexiseg.datasets.splits import split_by_group
from lexiseg.pipelines.preset import merge_settings
from recipe.data import blocks

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Scores:
    """One set: float64 (A, N), preset first, with each scan's patient and fold."""

    values: NDArray[np.float64]
    groups: list[str]
    folds: NDArray[np.int64]


def score_set(name: str, folder: Path, pipelines: list[Any], limit: int, fold: int) -> Scores:
    """Every pipeline on every scan with the target."""
    rows = scored_rows(folder, fold=fold, limit=limit, wanted=lambda row: row["bbox"].strip())
    groups = blocks(rows)
    parts = split_by_group(groups, {str(k): 1 / FOLDS for k in range(FOLDS)}, seed=1)
    found = np.zeros((len(pipelines), len(rows)))
    for k, row in enumerate(track(rows, description=name, console=progress)):
        scan = lexiseg.read_scan(folder / row["image"])
        truth = truth_of(row, folder, scan)
        for a, pipeline in enumerate(pipelines):
            found[a, k] = score(pipeline(scan, TARGETS[name]).targets[0].mask, row, truth)
    return Scores(found, groups, np.array([int(part) for part in parts]))


def compared(scores: Scores, alternative: int) -> str:
    """Mean; difference to the preset in points, its interval, and the spread over folds."""
    mean, difference = scores.values[alternative].mean(), scores.values[alternative] - scores.values[0]
    if alternative == 0:
        low, high = interval(scores.values[0], scores.groups)
        each = [scores.values[0][scores.folds == k].mean() for k in sorted(set(scores.folds))]
        return f"{mean:.3f} ({low:.3f} to {high:.3f}; parts {min(each):.3f} to {max(each):.3f})"
    low, high = interval(difference, scores.groups)
    each = [difference[scores.folds == k].mean() for k in sorted(set(scores.folds))]
    return (
        f"{mean:.3f}, {100 * difference.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}; "
        f"parts {100 * min(each):+.1f} to {100 * max(each):+.1f})"
    )


def cross_validated(found: dict[str, Scores]) -> tuple[list[int], dict[str, float]]:
    """What is chosen without each fifth of the patients, and what the choices score on those fifths."""
    chosen, scored = [], {name: np.zeros(scores.values.shape[1]) for name, scores in found.items()}
    for fold in range(FOLDS):
        kept = [s.values[:, s.folds != fold].mean(axis=1) for s in found.values()]
        best = int(np.argmax(np.mean(kept, axis=0)))
        chosen.append(best)
        for name, scores in found.items():
            out = scores.folds == fold
            scored[name][out] = scores.values[best, out]
    return chosen, {name: float(values.mean()) for name, values in scored.items()}


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18, cheng and lgg")],
    alternatives: Annotated[list[str], typer.Option("--try", help="settings section.key=value, separated by blanks")],
    preset: str = "demo",
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    limit: Annotated[int, typer.Option(help="at most so many scans of each set; 0 for all")] = 0,
    encoder: str = "bundled",
    segmenter: str = "bundled",
    fold: Annotated[int, typer.Option(help="which fifth of the patients the models never saw")] = 0,
) -> None:
    """Print what each alternative changes."""
    torch.manual_seed(0)
    tried = [preset, *alternatives]
    pipelines = [
        lexiseg.load(
            preset,
            device="cpu",
            precision="float32",
            encoder=encoder,
            segmenter=segmenter,
            **merge_settings(each.split() if k else []),
        )
        for k, each in enumerate(tried)
    ]
    found = {name: score_set(name, data / name, pipelines, limit, fold) for name in sets.split(",")}
    print(f"{made_with(f'preset {preset}', f'{torch.get_num_threads()} CPU threads')};")
    print(f"differences in points, 95 % over patients, lowest and highest of {FOLDS} parts of the patients\n")
    counts = [f"{name}, {scores.values.shape[1]} scans" for name, scores in found.items()]
    print(table_head(["", *counts, "mean of sets"]))
    for a, name in enumerate(tried):
        mean = np.mean([scores.values[a].mean() for scores in found.values()])
        cells = [compared(scores, a) for scores in found.values()]
        print(table_row([f"`{name}`", *cells, f"{mean:.4f}"]))
    chosen, scored = cross_validated(found)
    cells = [f"{value:.3f}" for value in scored.values()]
    print(table_row(["chosen on four fifths", *cells, f"{np.mean(list(scored.values())):.4f}"]))
    print(f"\nchosen without each fifth: {', '.join(f'`{tried[k]}`' for k in chosen)}")


if __name__ == "__main__":
    typer.run(main)
