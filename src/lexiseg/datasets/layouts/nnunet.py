"""nnU-Net's raw data: imagesTr, labelsTr, dataset.json."""

from __future__ import annotations

import re
from pathlib import Path

from lexiseg.datasets.layouts.described import label_target, label_values, mask_of, read_description
from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, stem, subfolder
from lexiseg.errors import BadDataset
from lexiseg.scans.formats import SCAN_SUFFIXES
from lexiseg.scans.names import printable

_LOOKS_FOR = "folders imagesTr ('case_0000.nii.gz') and labelsTr ('case.nii.gz') and the file dataset.json"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>[0-9]{4})")
_PARTS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


def _accepts(folder: Path) -> bool:
    images = subfolder(folder, "imagesTr")
    return bool(
        images
        and subfolder(folder, "labelsTr")
        and (folder / "dataset.json").is_file()
        and any(_CHANNEL.fullmatch(stem(path)) for path in files(images))
    )


def _find(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _LOOKS_FOR)
    description = read_description(root)
    labels = label_values(description)
    target = label_target(source.target, labels)
    ending = description.get("file_ending")
    suffixes = (ending,) if isinstance(ending, str) and ending.lower() in SCAN_SUFFIXES else SCAN_SUFFIXES
    cases: list[Case] = []
    for split, (images, truth) in _PARTS.items():
        folder, masks = subfolder(root, images), subfolder(root, truth)
        if folder is None or masks is None:
            continue
        there = by_stem(files(masks, suffixes), "")
        for path in files(folder, suffixes):
            match = _CHANNEL.fullmatch(stem(path))
            if match is None or int(match["channel"]) != source.channel:
                continue
            mask = there.get(match["case"])
            cases.append(
                Case(
                    source=path,
                    mask=mask_of(mask, target, labels) if mask else None,
                    name=match["case"],
                    split=split,
                )
            )
    if not cases:
        raise BadDataset(
            f"{printable(str(root))}: no image with channel {source.channel:04d} in imagesTr; choose another"
        )
    # A set without test labels is all training: then there is no split to speak of.
    return Found(cases if any(case.split == "test" for case in cases) else [_unsplit(case) for case in cases])


def _unsplit(case: Case) -> Case:
    return Case(source=case.source, mask=case.mask, name=case.name)


NNUNET = Layout(name="nnunet", about="nnU-Net raw data, versions 1 and 2", looks_for=_LOOKS_FOR, find=_find)
"""Targets are the labels' names in dataset.json; without one, every label. imagesTs counts where labelsTs
is there too. Case names seldom tell patients apart, so that there is no group."""
