"""CC359 (Calgary-Campinas): T1 brain MR of three vendors, with masks made in several ways."""

from __future__ import annotations

import re
from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.tree import files, find_root, folders, same_or_nested, stem, subfolder
from lexiseg.errors import BadDataset
from lexiseg.scans.formats import NIFTI_SUFFIXES
from lexiseg.scans.names import printable

_MASKS = {
    "brain": ("Silver-standard-machine-learning", "Silver-standard"),
    "brain staple": ("Silver-standard-STAPLE", "STAPLE"),
    "brain manual": ("Manual", "Manual-BEaST-mask-correction"),
    "hippocampus": ("hippocampus_staple",),
}
_TARGETS = tuple(_MASKS)
_LOOKS_FOR = (
    "a folder Original ('CC0001_philips_15_55_M.nii.gz') and one of masks such as "
    "Silver-standard-machine-learning ('CC0001_philips_15_55_M_ss.nii.gz')"
)
_IMAGE = re.compile(
    r"(?P<subject>CC[0-9]{4})_(?P<vendor>[a-z]+)_(?P<field>[0-9]+)_(?P<age>[0-9]+)_(?P<sex>[MF])",
    re.IGNORECASE,
)
_TESLA = {"15": "1.5", "3": "3"}


def _images(folder: Path) -> list[Path]:
    original = subfolder(folder, "Original")
    if original is None:
        return []
    there = files(same_or_nested(original, NIFTI_SUFFIXES), NIFTI_SUFFIXES)
    return [path for path in there if _IMAGE.fullmatch(stem(path))]


def _find(source: Source) -> Found:
    target = chosen_target(source.target, _TARGETS)
    root = find_root(source.folder, lambda folder: bool(_images(folder)), _LOOKS_FOR)
    folder = subfolder(root, *_MASKS[target])
    if folder is None:
        there = ", ".join(each.name for each in folders(root) if each.name.casefold() != "original")
        raise BadDataset(
            f"looked for the masks of target {target!r} in a folder {_MASKS[target][0]}; "
            f"found {printable(there[:200]) or 'no folder'} beside Original"
        )
    masks: dict[str, Path] = {}
    for path in files(same_or_nested(folder, NIFTI_SUFFIXES), NIFTI_SUFFIXES):
        match = _IMAGE.match(stem(path))
        if match:
            masks.setdefault(match[0].casefold(), path)
    return Found([_case(path, masks.get(stem(path).casefold())) for path in _images(root)])


def _case(image: Path, mask: Path | None) -> Case:
    match = _IMAGE.fullmatch(stem(image))
    assert match is not None
    return Case(
        source=image,
        mask=mask,
        group=match["subject"].upper(),
        extra={"vendor": match["vendor"].lower(), "tesla": _TESLA.get(match["field"], match["field"])},
    )


CC359 = Layout(
    name="cc359",
    about="brain MR, skull stripping (Souza 2018)",
    looks_for=_LOOKS_FOR,
    find=_find,
    targets=_TARGETS,
)
"""Vendor and field strength become columns; age and sex stay in the file's name."""
