"""What the bundled models get wrong: the worst scans of each set, drawn, and what they have in common.

    python benchmarks/failures.py --data DIR --out DIR [--worst 10] [--sets busi,lgg] [--sketch FILE.png]

DIR as for benchmarks/quality.py.  One picture for each set goes to `--out`: scan, saliency, and mask with the
truth's outline (of cheng its box).  Real scans are in them, so they are no part of this project; `--sketch`
draws all sets without them, where the target is and where the mask's pieces are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.progress import track

import lexiseg
from common import TARGETS, boxes_of, progress, score, scored_rows, table_head, table_row, truth_of
from lexiseg.regions.threshold import find_components
from lexiseg.runs.figures import Exhibit, draw_overview
from lexiseg.values.arrays import BoolArray

TRUTH = {"fill": False, "edgecolor": "#1a7f37", "linewidth": 1.6, "linestyle": (0, (2, 1))}
MASK = {"fill": True, "facecolor": "#d1242f40", "edgecolor": "#d1242f", "linewidth": 1.0}


@dataclass(frozen=True)
class Case:
    """One scan: its score, its target's share of the scan, and in what way it is wrong."""

    row: dict[str, str]
    score: float
    area: float
    kind: str
    presence: float
    shape: tuple[int, int]
    boxes: tuple[tuple[tuple[int, ...], ...], ...]
    """Of the target's pieces and of the mask's, x0 y0 x1 y1."""


def filled_truth(row: dict[str, str], folder: Path, scan: Any) -> BoolArray:
    """The true mask, bool (H, W); the boxes filled where there is none."""
    truth = truth_of(row, folder, scan)
    if truth is None:
        truth = np.zeros(scan.shape, np.bool_)
        for x0, y0, x1, y1 in boxes_of(row):
            truth[int(y0) : int(y1), int(x0) : int(x1)] = True
    return truth


def kind_of(mask: BoolArray, truth: BoolArray) -> str:
    """How a mask differs from the truth, in a word or two."""
    shared = float((mask & truth).sum())
    if not mask.any():
        return "called absent"
    if shared == 0:
        return "elsewhere"
    precision, recall = shared / float(mask.sum()), shared / float(truth.sum())
    if precision < 0.5 <= recall:
        return "too wide"
    if recall < 0.5 <= precision:
        return "a part"
    return "half beside" if precision < 0.5 else "about right"


def cases_of(name: str, folder: Path, pipeline: Any, fold: int) -> list[Case]:
    """Every validation scan that has a target."""
    rows = scored_rows(folder, fold=fold, wanted=lambda row: row["bbox"])
    cases = []
    for row in track(rows, description=name, console=progress):
        scan = lexiseg.read_scan(folder / row["image"])
        target = pipeline(scan, TARGETS[name]).targets[0]
        truth = filled_truth(row, folder, scan)
        scored = score(target.mask, row, truth if row["mask"] else None)
        kind = kind_of(target.mask, truth)
        boxes = tuple(tuple(p.box for p in find_components(m)) for m in (truth, target.mask))
        area = float(truth.mean())
        cases.append(Case(row, scored, area, kind, target.presence, truth.shape, boxes))
    return sorted(cases, key=lambda case: case.score)


def draw(cases: list[Case], name: str, folder: Path, pipeline: Any, out: Path) -> None:
    """One picture of these cases, side by side."""
    exhibits = []
    for case in cases:
        scan = lexiseg.read_scan(folder / case.row["image"])
        target = pipeline(scan, TARGETS[name], keep_stages=True).targets[0]
        title = case.row["id"].removeprefix(f"{name}_")
        exhibits.append(Exhibit(title, scan, target, filled_truth(case.row, folder, scan)))
    draw_overview(exhibits, out / f"{name}.png")


def sketch(worst: dict[str, list[Case]], path: Path) -> None:
    """A row for each set, a panel for each case: the scan's frame, the target's boxes and the mask's."""
    columns = max(map(len, worst.values()))
    figure = Figure(figsize=(1.15 * columns + 0.3, 1.5 * len(worst) + 0.5), layout="constrained")
    panels = figure.subplots(len(worst), columns, squeeze=False)
    for row, (name, cases) in zip(panels, worst.items(), strict=True):
        row[0].set_ylabel(name, fontsize=11)
        for axis in row[len(cases) :]:
            axis.set_visible(False)
        for axis, case in zip(row, cases, strict=False):
            height, width = case.shape
            axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
            axis.set_anchor("N")
            axis.set_title(f"{case.score:.2f}", fontsize=9, pad=3)
            axis.set_xlabel(case.kind, fontsize=8, labelpad=2)
            for boxes, how in zip(case.boxes, (TRUTH, MASK), strict=True):
                for x0, y0, x1, y1 in boxes:
                    axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **how))
    handles = [Rectangle((0, 0), 1, 1, label=text, **how) for text, how in ((" target", TRUTH), (" mask", MASK))]
    figure.legend(handles=handles, loc="outside lower center", ncol=2, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18, cheng and lgg")],
    out: Annotated[Path, typer.Option(help="folder for the pictures; real scans are in them")],
    worst: Annotated[int, typer.Option(min=1, help="how many of each set")] = 10,
    sketch_to: Annotated[Path | None, typer.Option("--sketch", help="a .png of boxes alone, without the scans")] = None,
    sets: Annotated[str, typer.Option(help="names, separated by commas")] = ",".join(TARGETS),
    preset: str = "demo",
    encoder: str = "bundled",
    segmenter: str = "bundled",
    fold: Annotated[int, typer.Option(help="which fifth of the patients the models never saw")] = 0,
) -> None:
    """Draw the worst scans and print what distinguishes them from the others."""
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    pipeline = lexiseg.load(preset, device="cpu", precision="float32", encoder=encoder, segmenter=segmenter)
    columns = ["set", "scans", "mean", "median", f"mean of the worst {worst}", "below 0.1"]
    columns += ["target's share of the scan, median: worst, all", "in what way the worst are wrong"]
    lines, drawn = [], {}
    for name in sets.split(","):
        cases = cases_of(name, data / name, pipeline, fold)
        draw(cases[:worst], name, data / name, pipeline, out)
        drawn[name] = cases[:worst]
        for case in cases[:worst]:
            print(
                f"{case.row['id']}  {case.score:.3f}  {case.row['label']}  {case.area:.2%} of the scan  "
                f"{case.kind}  presence {case.presence:.2f}"
            )
        scores = np.array([case.score for case in cases])
        areas = [float(np.median([case.area for case in some])) for some in (cases[:worst], cases)]
        kinds = [case.kind for case in cases[:worst]]
        cells = [name, str(len(cases)), f"{scores.mean():.3f}", f"{np.median(scores):.3f}"]
        cells += [f"{scores[:worst].mean():.3f}", str(int((scores < 0.1).sum()))]
        cells += [f"{areas[0]:.1%}, {areas[1]:.1%}"]
        cells += [", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))]
        lines.append(table_row(cells))
    print(f"\n{table_head(columns)}", *lines, sep="\n")
    if sketch_to is not None:
        sketch(drawn, sketch_to)


if __name__ == "__main__":
    typer.run(main)
