"""Thresholds of presence for a wanted sensitivity or specificity: learnt on one half, shown on the other.

    python benchmarks/thresholds.py kinds.json [--write FOLDER]

Takes a report of benchmarks/kinds.py.  Half of the patients (by hash) choose each threshold, the others show what it
does.  `--write` puts what was seen of all into FOLDER/presence.yaml, which `lexiseg segment --threshold auto:...`
reads from the encoder's folder.  A target whose scans all show it has no specificity.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from common import made_with, table_head, table_row
from lexiseg.errors import UsageError
from lexiseg.saliency.thresholds import FILE, Seen

WANTED = (("sensitivity", 0.95), ("sensitivity", 0.9), ("specificity", 0.9), ("specificity", 0.8))


def seen_of(report: Mapping[str, Any], half: int | None = None) -> dict[str, Seen]:
    """What presence was of each target, on the scans that show it and on those of its own kind that do not.

    Args:
        report: of benchmarks/kinds.py.
        half: 0 or 1, of the patients; None for all.
    """
    present, absent = defaultdict(list), defaultdict(list)
    for each in report.values():
        for answer in each["answers"]:
            if half is not None and hashlib.sha256(answer["group"].encode()).digest()[0] % 2 != half:
                continue
            for concept in answer["scores"]:
                present[concept].append(answer["presence"][concept])
            for concept in answer["known_absent"]:
                absent[concept].append(answer["presence"][concept])
    names = sorted({*present, *absent})
    return {name: Seen(present=tuple(sorted(present[name])), absent=tuple(sorted(absent[name]))) for name in names}


def main(
    report: Annotated[Path, typer.Argument(help="made by benchmarks/kinds.py")],
    write: Annotated[Path | None, typer.Option(help="the encoder's folder")] = None,
) -> None:
    """Print what thresholds do on other patients than those that chose them."""
    answers = json.loads(report.read_text())
    chosen, shown, whole = seen_of(answers, 0), seen_of(answers, 1), seen_of(answers)
    print(made_with())
    print(table_head(["target", "scans with / without", "wanted", "threshold", "sensitivity", "specificity"]))
    for name in whole:
        for wanted, share in WANTED:
            try:
                threshold = chosen[name].threshold(wanted, share)
                sensitivity, specificity = shown[name].rates(threshold)
            except (UsageError, KeyError):
                continue
            counts = f"{len(shown[name].present)} / {len(shown[name].absent)}"
            print(
                table_row(
                    [
                        name,
                        counts,
                        f"{wanted} {share:.0%}",
                        f"{threshold:.3f}",
                        *("" if math.isnan(x) else f"{x:.0%}" for x in (sensitivity, specificity)),
                    ]
                )
            )
    if write is not None:
        targets = {
            name: {"present": [round(v, 4) for v in each.present], "absent": [round(v, 4) for v in each.absent]}
            for name, each in whole.items()
        }
        head = "# Presence, by target, of scans that nobody trained on: for --threshold auto:sensitivity=X.\n"
        made = f"# {made_with()}; python benchmarks/thresholds.py {report.name} --write .\n"
        (write / FILE).write_text(
            head + made + yaml.safe_dump({"targets": targets}, default_flow_style=None, width=110)
        )


if __name__ == "__main__":
    typer.run(main)
