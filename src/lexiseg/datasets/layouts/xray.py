"""Chest X-rays: Montgomery's and Shenzhen's lungs, and COVID-QU-Ex's lungs and infections."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.generic import paired
from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.making import union
from lexiseg.datasets.layouts.tree import by_stem, contents, files, find_root, find_roots, folders, stem, subfolder
from lexiseg.errors import BadDataset
from lexiseg.io.names import printable

_MONTGOMERY_LOOKS_FOR = "folders CXR_png, ManualMask/leftMask and ManualMask/rightMask"
_MONTGOMERY_TARGETS = ("lungs", "left lung", "right lung")
_LABELS = {"0": "normal", "1": "tuberculosis"}


def _folders(folder: Path) -> tuple[Path, Path, Path] | None:
    images, masks = subfolder(folder, "CXR_png"), subfolder(folder, "ManualMask")
    if images is None or masks is None:
        return None
    left, right = subfolder(masks, "leftMask"), subfolder(masks, "rightMask")
    return (images, left, right) if left and right else None


def _find_montgomery(source: Source) -> Found:
    target = chosen_target(source.target, _MONTGOMERY_TARGETS)
    root = find_root(source.folder, lambda folder: _folders(folder) is not None, _MONTGOMERY_LOOKS_FOR)
    there = _folders(root)
    assert there is not None
    images, left, right = there[0], by_stem(files(there[1]), ""), by_stem(files(there[2]), "")
    cases = []
    for path in files(images):
        sides = [left.get(stem(path)), right.get(stem(path))]
        wanted = sides if target == "lungs" else [sides[_MONTGOMERY_TARGETS.index(target) - 1]]
        cases.append(lung_case(path, _merged(wanted)))
    return Found(cases, target=target)


def lung_case(image: Path, mask: Path | Derived | None) -> Case:
    """A chest X-ray by the National Library of Medicine's names: SET_NUMBER_FINDING, one for each patient."""
    patient, _, finding = stem(image).rpartition("_")
    return Case(source=image, mask=mask, group=patient, label=_LABELS.get(finding, ""))


def _merged(masks: list[Path | None]) -> Path | Derived | None:
    """One mask of all; none where any is missing, since half the truth is no truth."""
    there = [mask for mask in masks if mask is not None]
    if len(there) < len(masks):
        return None
    return union(there) if len(there) > 1 else there[0]


MONTGOMERY = Layout(
    name="montgomery",
    about="chest X-rays, lungs (Jaeger 2014)",
    looks_for=_MONTGOMERY_LOOKS_FOR,
    find=_find_montgomery,
    targets=_MONTGOMERY_TARGETS,
)
"""Left and right are what the set's folders are called."""


_SHENZHEN_LOOKS_FOR = "a folder CXR_png ('CHNCXR_0001_0.png') and a folder mask ('CHNCXR_0001_0_mask.png')"


def _has_masks(folder: Path) -> bool:
    return folder.name.casefold() in ("mask", "masks") and any(
        stem(path).casefold().endswith("_mask") for path in files(folder)
    )


def _has_images(folder: Path) -> bool:
    images = subfolder(folder, "CXR_png")
    return images is not None and bool(files(images))


def _find_shenzhen(source: Source) -> Found:
    images = subfolder(find_root(source.folder, _has_images, _SHENZHEN_LOOKS_FOR), "CXR_png")
    masks = by_stem(files(find_root(source.folder, _has_masks, _SHENZHEN_LOOKS_FOR)), "_mask")
    assert images is not None
    return Found([lung_case(path, masks.get(stem(path))) for path in files(images)])


SHENZHEN = Layout(
    name="shenzhen",
    about="chest X-rays, lungs (Jaeger 2014; Stirenko 2018)",
    looks_for=_SHENZHEN_LOOKS_FOR,
    find=_find_shenzhen,
)
"""96 of its 662 images have no mask."""


_COVID_QU_EX_TARGETS = ("infection", "lungs")
_COVID_QU_EX_LOOKS_FOR = (
    "folders 'Infection Segmentation Data' or 'Lung Segmentation Data' with "
    "Train/COVID-19/images, 'lung masks' and 'infection masks', and so for Val and Test"
)
_SPLITS = {"Train": "train", "Val": "val", "Test": "test"}
_MASKS = {"infection": "infection masks", "lungs": "lung masks"}


def _classes(folder: Path) -> list[tuple[str, Path]]:
    """The folders of each part's classes, with the part's split."""
    found = []
    for name, split in _SPLITS.items():
        part = subfolder(folder, name)
        found += [(split, each) for each in folders(part) if subfolder(each, "images")] if part else []
    return found


def _with(folder: Path, masks: str) -> bool:
    return any(subfolder(each, masks) for _, each in _classes(folder))


def _find_covid_qu_ex(source: Source) -> Found:
    target = chosen_target(source.target, _COVID_QU_EX_TARGETS)
    roots = find_roots(source.folder, lambda folder: bool(_classes(folder)))
    fitting = [root for root in roots if _with(root, _MASKS[target])]
    # Both halves of the set have lung masks; the larger one, which has nothing else, is meant.
    fitting = [root for root in fitting if target == "infection" or not _with(root, _MASKS["infection"])] or fitting
    place = printable(str(source.folder))
    if not fitting:
        found = "other masks only" if roots else contents(source.folder)
        raise BadDataset(f"{place}: looked for {_COVID_QU_EX_LOOKS_FOR}, for {target}; found {found}")
    if len(fitting) > 1:
        names = ", ".join(printable(str(root.relative_to(source.folder))) for root in fitting[:3])
        raise BadDataset(f"{place}: {len(fitting)} folders fit ({names}); name one of them")
    cases: list[Case] = []
    for split, folder in _classes(fitting[0]):
        images, masks = subfolder(folder, "images"), subfolder(folder, _MASKS[target])
        assert images is not None
        nowhere = folder / _MASKS[target]
        cases += paired(images, masks or nowhere, label=folder.name, split=split)
    return Found(cases, target=target)


COVID_QU_EX = Layout(
    name="covid-qu-ex",
    about="chest X-rays, infection or lungs (Tahir 2021)",
    looks_for=_COVID_QU_EX_LOOKS_FOR,
    find=_find_covid_qu_ex,
    targets=_COVID_QU_EX_TARGETS,
)
"""Its own Train, Val and Test become the column split; it names no patients."""
