"""One table of several folds: each scan scored by models that never saw its patient.

    for k in 0 1 2 3 4; do
        python benchmarks/quality.py --data DIR --fold $k --out fold-$k.json \
            --encoder runs/encoder-$k/model --segmenter runs/segmenter-$k/model
    done
    python benchmarks/folds.py fold-*.json

Of a set that was trained on, every scan is scored once; of lgg, which never is, by the models of each fold,
and a scan's score is their mean.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from common import TARGETS, auroc, interval, score_name, table_head, table_row


def pooled(reports: list[dict[str, Any]], name: str, what: str) -> tuple[list[float], list[str], list[float]]:
    """One stage's scores of all scans, their groups, and the mean of each fold."""
    each = [report[name]["each"][what] for report in reports]
    groups = [report[name]["groups"] for report in reports]
    means = [float(np.mean(scores)) if scores else float("nan") for scores in each]
    if name == "lgg":
        return np.mean(each, 0).tolist(), groups[0], means
    return [*chain(*each)], [*chain(*groups)], means


def main(
    reports: Annotated[
        list[Path],
        typer.Argument(help="of benchmarks/quality.py --out, one a fold", exists=True, dir_okay=False),
    ],
) -> None:
    """Print means with intervals over patients, and the spread over folds."""
    found = [json.loads(path.read_text()) for path in reports]
    folds = [next(iter(report.values()))["fold"] for report in found]
    if len(set(folds)) < len(folds):
        raise typer.BadParameter(f"the reports are of folds {folds}; expected each fold once")
    print(f"{len(found)} folds: {', '.join(map(str, folds))}\n")
    columns = [
        "set",
        "phrase",
        "scans",
        "score",
        "map",
        "final",
        "95 % interval",
        "each fold",
        "presence AUROC, each fold",
    ]
    columns += ["called absent", "without one: found all the same", "wrong organ, nonsense: absent"]
    print(table_head(columns))
    for name in (n for n in TARGETS if all(n in report for report in found)):
        scores, groups, means = pooled(found, name, "mask")
        maps, _, _ = pooled(found, name, "saliency")
        low, high = interval(scores, groups)
        areas = [auroc([(v, bool(t)) for v, t in report[name]["presence"]]) for report in found]
        absent = [f"{np.mean([r[name][k] for r in found]):.1%}" for k in ("wrong", "nonsense")]
        cells = [name, TARGETS[name], str(len(scores)), score_name(name)]
        cells += [f"{np.mean(maps):.3f}", f"**{np.mean(scores):.3f}**", f"{low:.3f} to {high:.3f}"]
        cells += [" ".join(f"{m:.3f}" for m in means)]
        cells += ["" if np.isnan(areas).all() else " ".join(f"{a:.3f}" for a in areas)]
        verdicts = [(bool(v), bool(t)) for report in found for v, t in report[name]["verdicts"]]
        alarms = [v for v, there in verdicts if not there]
        cells += [f"{np.mean([not v for v, there in verdicts if there]):.1%}"]
        cells += [f"{np.mean(alarms):.1%}" if alarms else "", ", ".join(absent)]
        print(table_row(cells))


if __name__ == "__main__":
    typer.run(main)
