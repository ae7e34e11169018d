"""COVID-QU-Ex: chest X-rays with masks of the lungs and of infections, in parts and classes."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import contents, find_roots, folders, subfolder
from lexiseg.errors import BadDataset
from lexiseg.scans.names import printable

_TARGETS = ("infection", "lungs")
_LOOKS_FOR = (
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


def _find(source: Source) -> Found:
    target = chosen_target(source.target, _TARGETS)
    roots = find_roots(source.folder, lambda folder: bool(_classes(folder)))
    fitting = [root for root in roots if _with(root, _MASKS[target])]
    # Both halves of the set have lung masks; the larger one, which has nothing else, is meant.
    fitting = [
        root for root in fitting if target == "infection" or not _with(root, _MASKS["infection"])
    ] or fitting
    place = printable(str(source.folder))
    if not fitting:
        found = "other masks only" if roots else contents(source.folder)
        raise BadDataset(f"{place}: looked for {_LOOKS_FOR}, for {target}; found {found}")
    if len(fitting) > 1:
        names = ", ".join(printable(str(root.relative_to(source.folder))) for root in fitting[:3])
        raise BadDataset(f"{place}: {len(fitting)} folders fit ({names}); name one of them")
    cases: list[Case] = []
    for split, folder in _classes(fitting[0]):
        images, masks = subfolder(folder, "images"), subfolder(folder, _MASKS[target])
        assert images is not None
        nowhere = folder / _MASKS[target]
        cases += paired(images, masks or nowhere, label=folder.name, split=split)
    return Found(cases)


COVID_QU_EX = Layout(
    name="covid-qu-ex",
    about="chest X-rays, infection or lungs (Tahir 2021)",
    looks_for=_LOOKS_FOR,
    find=_find,
    targets=_TARGETS,
)
"""Its own Train, Val and Test become the column split; it names no patients."""
