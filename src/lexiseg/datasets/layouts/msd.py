"""The Medical Segmentation Decathlon: dataset.json lists the training images and labels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lexiseg.datasets.layouts.described import label_target, label_values, mask_of, read_description
from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.making import frame_of, frames
from lexiseg.datasets.layouts.tree import find_root, stem
from lexiseg.errors import BadDataset
from lexiseg.scans.names import printable

_LOOKS_FOR = 'a file dataset.json with a list "training" of images and labels, and the folders it speaks of'


def _find(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: (folder / "dataset.json").is_file(), _LOOKS_FOR)
    description = read_description(root)
    training = description.get("training")
    place = printable(str(root / "dataset.json"))
    if not isinstance(training, list) or not training:
        keys = printable(", ".join(description))[:200] or "an empty object"
        raise BadDataset(f'{place}: looked for a list "training"; found {keys}')
    labels = label_values(description)
    target = label_target(source.target, labels)
    channels = description.get("modality")
    several = isinstance(channels, dict) and len(channels) > 1
    cases: list[Case] = []
    problems = []
    for index, entry in enumerate(training):
        image, label = (_inside(root, entry, key) for key in ("image", "label"))
        if image is None or not image.is_file():
            problems.append(f"dataset.json: training {index}: its image is not in this folder; left out")
            continue
        mask = mask_of(label, target, labels) if label and label.is_file() else None
        # Several channels are the fourth axis of one file, of which a scan is one.
        frame = frame_of(image, source.channel) if several and frames(image) > 1 else None
        cases.append(Case(source=image, image=frame, mask=mask, name=stem(image)))
    return Found(cases, problems)


def _inside(root: Path, entry: Any, key: str) -> Path | None:
    """The path that an entry has under a key; None where it is none or leads out of the folder."""
    written = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(written, str) or not written or "\0" in written:
        return None
    windows = PureWindowsPath(written)
    if PurePosixPath(written).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        return None
    return root / PurePosixPath(written)


MSD = Layout(
    name="msd", about="Medical Segmentation Decathlon (Antonelli 2022)", looks_for=_LOOKS_FOR, find=_find
)
"""Targets are the labels' names in dataset.json; without one, every label. The test images have no labels
and are passed over."""
