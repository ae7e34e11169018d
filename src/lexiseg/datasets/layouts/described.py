"""dataset.json, as nnU-Net and the Medical Segmentation Decathlon write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lexiseg.datasets.layouts.layout import Derived, chosen_target
from lexiseg.datasets.layouts.making import labels_of
from lexiseg.errors import BadDataset
from lexiseg.scans.names import printable

_LARGEST = 64_000_000
FOREGROUND = "foreground"
"""The target that is every label but the background."""


def read_description(folder: Path) -> dict[str, Any]:
    """The object in a folder's dataset.json.

    Raises:
        BadDataset: it is missing, too large, or no JSON object; one line.
    """
    path = folder / "dataset.json"
    place = printable(str(path))
    try:
        if not path.is_file():
            raise BadDataset(f"{place}: no such file; expected nnU-Net's or the Decathlon's description")
        if path.stat().st_size > _LARGEST:
            raise BadDataset(f"{place}: over {_LARGEST} bytes; expected a short description")
        found = json.loads(path.read_text("utf-8-sig"))
    # Deeply nested JSON ends in RecursionError; bad bytes and bad JSON are both ValueError.
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataset(f"{place}: it cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise BadDataset(f"{place}: it holds {type(found).__name__}; expected an object")
    return found


def label_values(description: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names to the values they have in label maps: {"1": "tumour"}, {"tumour": 1} or {"whole": [1, 2]}.

    The background, and what is neither form, is left out.
    """
    labels = description.get("labels")
    found: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        name, numbers = (value, key) if isinstance(value, str) and key.isdecimal() else (key, value)
        listed = numbers if isinstance(numbers, list) else [numbers]
        try:
            values = tuple(int(number) for number in listed)
        except (TypeError, ValueError, OverflowError):
            continue
        if values and values != (0,):
            found[name] = values
    return found


def mask_of(path: Path, target: str, labels: Mapping[str, tuple[int, ...]]) -> Path | Derived:
    """The label map itself for the foreground, else what has the target's values in it."""
    return path if target == FOREGROUND else labels_of(path, labels[target])


def label_target(asked: str, labels: Mapping[str, tuple[int, ...]]) -> str:
    """The target that is meant among the labels; every label where none was asked for."""
    return chosen_target(asked, (FOREGROUND, *(name for name in labels if name != FOREGROUND)))
