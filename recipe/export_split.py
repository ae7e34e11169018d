"""Write which patients the bundled models never saw, as data that ships with them.

    python -m recipe.export_split --data DIR

DIR holds the training sets, each with its manifest. The file replaces src/lexiseg/bundled/training_split.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recipe.data import TRAINING_SETS, blocks, fold_of, read_rows
from recipe.sets import load_sets

FILE = Path(__file__).parents[1] / "src" / "lexiseg" / "bundled" / "training_split.json"
_ABOUT = (
    "Groups (patients) that the bundled models were not trained on, by training set. Every other group of these "
    "sets was trained on. A set is named by its manifest's folder, a group by the manifest's column group."
)


def held_out_groups(rows: Sequence[Mapping[str, str]], fold: int) -> list[str]:
    """The groups of a set's validation fold, sorted.

    Args:
        rows: of the whole manifest.
        fold: which of the folds.
    """
    # A group never lies in two blocks, so that it lies in one fold whole.
    return sorted({row["group"] for row, block in zip(rows, blocks(rows), strict=True) if fold_of(block) == fold})


def training_split(root: Path, fold: int) -> dict[str, Any]:
    """What the file says.

    Args:
        root: the folder of the training sets; of the newer ones those that are there.
        fold: which of the folds was held out.
    """
    names = [*TRAINING_SETS]
    names += [name for name in load_sets()[1] if name not in names and (root / name / "manifest.csv").is_file()]
    return {
        "about": _ABOUT,
        "made_with": "python -m recipe.export_split --data DIR",
        "held_out": {name: held_out_groups(read_rows(root / name), fold) for name in names},
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    fold = yaml.safe_load((Path(__file__).parent / "recipe.yaml").read_text(encoding="utf-8"))["fold"]
    content = json.dumps(training_split(asked.data, fold), indent=1, ensure_ascii=False)
    asked.out.write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
