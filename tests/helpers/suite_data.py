"""A tiny data folder and suites over it, for benchmarks without models."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SIZE = 16
COLUMNS = ("id", "image", "mask", "group", "label", "bbox")


def make_data(folder: Path) -> Path:
    """busi/: six scans of three groups with masks, one of them empty; cheng/: four scans with boxes alone."""
    _write_set(folder / "busi", [(f"busi_{k:03}", f"g{k // 2}", _label(k)) for k in range(6)], masks=True)
    cheng = [(f"cheng_{k * 40:04}", f"c{k}", "glioma" if k else "no_tumor") for k in range(4)]
    _write_set(folder / "cheng", cheng, masks=False)
    return folder


def suite_fields(**changes: Any) -> dict[str, Any]:
    """A suite over `make_data`, with top-level fields replaced."""
    return {
        "name": "tiny",
        "about": "Six scans and four.",
        "sets": {
            "busi": {
                "manifest": "busi/manifest.csv",
                "prompts": {
                    "generic": "breast tumor",
                    "oracle-class": {
                        "benign": "benign tumor",
                        "malignant": "malignant tumor",
                        "normal": "tumor",
                    },
                },
                "contrasts": {"wrong organ": "unseen lungs", "gibberish": "zorblax"},
            },
            "cheng": {
                "manifest": "cheng/manifest.csv",
                "absent": ["no_tumor"],
                "prompts": {"generic": "brain tumor"},
            },
        },
        "presets": {"demo": {}, "sam-box": {"prompts": "generic"}},
        "resamples": 50,
        "sensitivity": {"presets": ["demo"], "limit": 3},
        **changes,
    }


def write_suite(path: Path, fields: Any = None) -> Path:
    """A suite as a YAML file."""
    path.write_text(yaml.safe_dump(suite_fields() if fields is None else fields, sort_keys=False))
    return path


def _label(k: int) -> str:
    return "normal" if k == 5 else ("benign", "malignant")[k % 2]


def _write_set(folder: Path, scans: list[tuple[str, str, str]], *, masks: bool) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for k, (name, group, label) in enumerate(scans):
        bright = np.zeros((SIZE, SIZE), bool)
        bright[4:9, 3 : 8 + k] = True
        noise = np.random.default_rng(k).integers(0, 20, (SIZE, SIZE))
        Image.fromarray((bright * 200 + noise).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        absent = label in ("normal", "no_tumor")
        row = {"id": name, "image": f"images/{name}.png", "group": group, "label": label}
        row["bbox"] = "" if absent else f"3 4 {8 + k} 9"
        if masks:
            truth = np.zeros_like(bright) if absent else np.roll(bright, 1, axis=1)
            Image.fromarray(truth.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")
            row["mask"] = f"masks/{name}.png"
        rows.append(row)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, restval="")
        table.writeheader()
        table.writerows(rows)
