"""Montgomery County: chest X-rays with one mask for each lung."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.making import union
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, stem, subfolder

_LOOKS_FOR = "folders CXR_png, ManualMask/leftMask and ManualMask/rightMask"
_TARGETS = ("lungs", "left lung", "right lung")
_LABELS = {"0": "normal", "1": "tuberculosis"}


def _folders(folder: Path) -> tuple[Path, Path, Path] | None:
    images, masks = subfolder(folder, "CXR_png"), subfolder(folder, "ManualMask")
    if images is None or masks is None:
        return None
    left, right = subfolder(masks, "leftMask"), subfolder(masks, "rightMask")
    return (images, left, right) if left and right else None


def _find(source: Source) -> Found:
    target = chosen_target(source.target, _TARGETS)
    root = find_root(source.folder, lambda folder: _folders(folder) is not None, _LOOKS_FOR)
    there = _folders(root)
    assert there is not None
    images, left, right = there[0], by_stem(files(there[1]), ""), by_stem(files(there[2]), "")
    cases = []
    for path in files(images):
        sides = [left.get(stem(path)), right.get(stem(path))]
        wanted = sides if target == "lungs" else [sides[_TARGETS.index(target) - 1]]
        cases.append(lung_case(path, _merged(wanted)))
    return Found(cases)


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
    looks_for=_LOOKS_FOR,
    find=_find,
    targets=_TARGETS,
)
"""Left and right are what the set's folders are called."""
