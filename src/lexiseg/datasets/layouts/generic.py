"""Layouts of any content: images/ beside masks/, the Medical Segmentation Decathlon, and nnU-Net's raw data."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.making import frame_of, frames, labels_of
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, stem, subfolder
from lexiseg.errors import BadDataset
from lexiseg.io.names import SCAN_SUFFIXES, printable

logger = logging.getLogger(__name__)

_LARGEST = 64_000_000
FOREGROUND = "foreground"
"""The target that is every label but the background."""
IGNORE = "ignore"
"""What nnU-Net calls the label of pixels of which nobody says what they are."""


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
            found[IGNORE if name.casefold() == IGNORE else name] = values
    return found


def mask_of(path: Path, target: str, labels: Mapping[str, tuple[int, ...]]) -> Path | Derived:
    """The label map itself for the foreground, else what has the target's values in it.

    Where some pixels are to be ignored, the foreground is every other label.
    """
    if target != FOREGROUND:
        return labels_of(path, labels[target])
    known = {value for name, values in labels.items() if name != IGNORE for value in values}
    return labels_of(path, sorted(known)) if IGNORE in labels else path


def label_target(asked: str, labels: Mapping[str, tuple[int, ...]]) -> str:
    """The target that is meant among the labels; every label where none was asked for."""
    if IGNORE in labels:
        logger.warning("pixels of the label %s count as background, since a mask cannot leave pixels out", IGNORE)
    return chosen_target(asked, (FOREGROUND, *(name for name in labels if name not in (FOREGROUND, IGNORE))))


def paired(
    images: Path,
    masks: Path,
    *,
    endings: tuple[str, ...] = ("",),
    suffixes: tuple[str, ...] = SCAN_SUFFIXES,
    label: str = "",
    split: str = "",
) -> list[Case]:
    """A case for each image of a folder, with the mask that is named as the image is.

    Args:
        images: the images' folder.
        masks: the masks' folder.
        endings: what a mask's name may have more than its image's; the earlier wins.
        suffixes: the images' file name extensions.
        label: of all of them.
        split: of all of them.
    """
    found = by_stem(files(masks), *endings)
    return [Case(source=path, mask=found.get(stem(path)), label=label, split=split) for path in files(images, suffixes)]


_PLAIN_LOOKS_FOR = (
    "folders images and masks (or labels) with files of equal names, in one folder, in train, val and test, "
    "or as train_images and train_masks"
)
_IMAGES, _MASKS = ("images", "image", "imgs"), ("masks", "mask", "labels", "label")
_ENDINGS = ("", "_mask", "-mask", "_masks", "_segmentation", "_seg", "_label")
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def _pair(folder: Path, before: str = "") -> tuple[Path, Path] | None:
    images = subfolder(folder, *(before + name for name in _IMAGES))
    masks = subfolder(folder, *(before + name for name in _MASKS))
    return (images, masks) if images and masks and files(images) else None


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Split, images and masks of each part that lies in a folder."""
    whole = _pair(folder)
    if whole:
        return [("", *whole)]
    found = []
    for split, names in _SPLITS.items():
        part = subfolder(folder, *names)
        pairs = [_pair(part) if part else None, *(_pair(folder, f"{name}_") for name in names)]
        found += [(split, *pair) for pair in pairs if pair][:1]
    return found


def _find_plain(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: bool(_pairs(folder)), _PLAIN_LOOKS_FOR)
    cases: list[Case] = []
    problems: list[str] = []
    for split, images, masks in _pairs(root):
        there = files(masks)
        each_once, doubts = _each_once(paired(images, masks, endings=_ENDINGS, split=split), there)
        cases += each_once
        problems += [f"{masks.relative_to(root).as_posix()}: {doubt}" for doubt in doubts]
    return Found(cases, problems)


def _each_once(cases: Sequence[Case], masks: Sequence[Path]) -> tuple[list[Case], list[str]]:
    """Cases of which no two have one mask, and a line for each mask that does not belong to one image alone.

    Of several images that a mask fits, the one named most like it has it: the earlier ending, then the same name with
    its suffix. Where two are as near, none has it.
    """
    named: dict[str, list[Path]] = {}
    for case in cases:
        named.setdefault(stem(case.source), []).append(case.source)
    fitting: dict[Path, list[Path]] = {}
    doubts = []
    for mask in masks:
        images = [image for name in _image_names(mask) for image in named.get(name, ())]
        for image in images:
            fitting.setdefault(image, []).append(mask)
        if not images:
            doubts.append(f"{printable(mask.name)} has no image of its name; left out")
    chosen = {case.source: case.mask for case in cases if isinstance(case.mask, Path)}
    takers: dict[Path, list[Path]] = {}
    for image, mask in chosen.items():
        takers.setdefault(mask, []).append(image)
    owners = {mask: _nearest(mask, images) for mask, images in takers.items()}
    for mask, images in takers.items():
        if len(images) > 1:
            owner = owners[mask]
            had = f"{printable(owner.name)} has it" if owner else "none has it"
            doubts.append(f"{printable(mask.name)} fits {_listed(images)}; {had}, so name masks as their images")
    for image, found in fitting.items():
        if len(found) > 1:
            taken = chosen[image]
            doubts.append(
                f"{_listed(found)} fit {printable(image.name)}; {printable(taken.name)} is looked at first, so remove "
                "what is no mask"
            )
    kept = [
        case if not isinstance(case.mask, Path) or owners[case.mask] == case.source else replace(case, mask=None)
        for case in cases
    ]
    return kept, doubts


def _image_names(mask: Path) -> list[str]:
    """What the image of a mask may be called, without its suffix; the nearest first."""
    name = stem(mask)
    return [name[: len(name) - len(end)] for end in _ENDINGS if name.casefold().endswith(end)]


def _nearest(mask: Path, images: Sequence[Path]) -> Path | None:
    names = _image_names(mask)
    ranks = sorted(((names.index(stem(image)), image.name != mask.name), image) for image in images)
    return ranks[0][1] if len(ranks) == 1 or ranks[0][0] < ranks[1][0] else None


def _listed(paths: Sequence[Path]) -> str:
    names = [printable(path.name) for path in paths]
    return f"{', '.join(names[:-1])} and {names[-1]}"


PLAIN = Layout(name="plain", about="any set of images/ and masks/", looks_for=_PLAIN_LOOKS_FOR, find=_find_plain)
"""A mask has its image's name, with or without "_mask" or the like behind it, and belongs to one image alone."""


_MSD_LOOKS_FOR = 'a file dataset.json with a list "training" of images and labels, and the folders it speaks of'


def _find_msd(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: (folder / "dataset.json").is_file(), _MSD_LOOKS_FOR)
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
    listed: set[Path] = set()
    for index, entry in enumerate(training):
        image, label = (_inside(root, entry, key) for key in ("image", "label"))
        if image is None or not image.is_file():
            problems.append(f"dataset.json: training {index}: its image is not in this folder; left out")
            continue
        if image in listed:
            problems.append(f"dataset.json: training {index}: its image is listed before; left out")
            continue
        listed.add(image)
        mask = mask_of(label, target, labels) if label and label.is_file() else None
        # Several channels are the fourth axis of one file, of which a scan is one.
        frame = frame_of(image, source.channel) if several and frames(image) > 1 else None
        cases.append(Case(source=image, image=frame, mask=mask, name=stem(image)))
    return Found(cases, problems, target)


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
    name="msd", about="Medical Segmentation Decathlon (Antonelli 2022)", looks_for=_MSD_LOOKS_FOR, find=_find_msd
)
"""Targets are the labels' names in dataset.json; without one, every label. The test images have no labels
and are passed over."""


_NNUNET_LOOKS_FOR = "folders imagesTr ('case_0000.nii.gz') and labelsTr ('case.nii.gz') and the file dataset.json"
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


def _find_nnunet(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _NNUNET_LOOKS_FOR)
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
    whole = any(case.split == "test" for case in cases)
    return Found(cases if whole else [_unsplit(case) for case in cases], target=target)


def _unsplit(case: Case) -> Case:
    return Case(source=case.source, mask=case.mask, name=case.name)


NNUNET = Layout(
    name="nnunet", about="nnU-Net raw data, versions 1 and 2", looks_for=_NNUNET_LOOKS_FOR, find=_find_nnunet
)
"""Targets are the labels' names in dataset.json; without one, every label. imagesTs counts where labelsTs
is there too. Case names seldom tell patients apart, so that there is no group."""
