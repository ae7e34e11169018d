"""Brain MR: CC-359's volumes for skull stripping, and Cheng's brain tumours, as MATLAB files or as PNG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.datasets.layouts.generic import paired
from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source, chosen_target
from lexiseg.datasets.layouts.making import written_grey, written_mask
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, folders, is_image, same_or_nested, stem, subfolder
from lexiseg.errors import BadDataset, UnreadableScan, UsageError
from lexiseg.io.names import NIFTI_SUFFIXES, printable
from lexiseg.io.read import MAX_PIXELS, reading, regular_head

_MASKS = {
    "brain": ("Silver-standard-machine-learning", "Silver-standard"),
    "brain staple": ("Silver-standard-STAPLE", "STAPLE"),
    "brain manual": ("Manual", "Manual-BEaST-mask-correction"),
    "hippocampus": ("hippocampus_staple",),
}
_TARGETS = tuple(_MASKS)
_CC359_LOOKS_FOR = (
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


def _find_cc359(source: Source) -> Found:
    target = chosen_target(source.target, _TARGETS)
    root = find_root(source.folder, lambda folder: bool(_images(folder)), _CC359_LOOKS_FOR)
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
    cases = [_cc359_case(path, masks.get(stem(path).casefold())) for path in _images(root)]
    return Found(cases, target=target)


def _cc359_case(image: Path, mask: Path | None) -> Case:
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
    looks_for=_CC359_LOOKS_FOR,
    find=_find_cc359,
    targets=_TARGETS,
)
"""Vendor and field strength become columns; age and sex stay in the file's name."""


_CHENG_LOOKS_FOR = "MATLAB files '1.mat', '2.mat' ... (in folders such as brainTumorDataPublic_1-766)"
_LONGEST_NAME = 64


def _numbered(folder: Path) -> list[Path]:
    return [path for path in files(folder, (".mat",)) if stem(path).isdecimal()]


def _slices(folder: Path) -> list[Path]:
    """The numbered files of a folder and of the folders in it: the set comes in four parts."""
    found = [path for each in (folder, *folders(folder)) for path in _numbered(each)]
    return sorted(found, key=lambda path: (int(stem(path)), str(path)))


def _find_cheng(source: Source) -> Found:
    _h5py()
    root = find_root(source.folder, lambda folder: bool(_slices(folder)), _CHENG_LOOKS_FOR)
    cases, problems = [], []
    for path in _slices(root):
        try:
            cases.append(_cheng_case(path))
        except UnreadableScan as error:
            problems.append(str(error))
    return Found(cases, problems)


def _cheng_case(path: Path) -> Case:
    with _opened(path) as group:
        number = _array(group, "label", most=1).ravel()[0]
        codes = _array(group, "PID", most=_LONGEST_NAME).ravel()
    patient = "".join(chr(int(code)) for code in codes if 0 < code < 0x110000)
    return Case(
        source=path,
        image=Derived((path,), lambda folder, name: _write_image(path, folder, name)),
        mask=Derived((path,), lambda folder, name: _write_mask(path, folder, name)),
        name=stem(path),
        group=printable(patient).strip(),
        label=CLASSES.get(int(number), ""),
    )


def _write_image(path: Path, folder: Path, name: str) -> Path:
    with _opened(path) as group:
        values = _matrix(group, "image")
        if values.dtype.kind not in "iu":
            # Whole numbers are kept as they are; others are spread over 16 bits.
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            scaled = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12) * 65535
            values = np.rint(scaled).astype(np.int64)
        if values.min() == values.max():
            raise UnreadableScan("all pixels of its image are equal")
    with reading(path):
        return written_grey(values, folder, name)


def _write_mask(path: Path, folder: Path, name: str) -> Path:
    with _opened(path) as group:
        mask, image = _matrix(group, "tumorMask"), _size(group, "image")
        if mask.shape != image:
            raise UnreadableScan(f"its tumorMask is {mask.shape}, its image {image}; expected the same size")
    return written_mask(np.asarray(mask > 0), folder, name)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The group cjdata of a file; what goes wrong inside becomes UnreadableScan."""
    h5py = _h5py()
    with reading(path):
        if not regular_head(path).startswith(b"MATLAB 7.3") and not h5py.is_hdf5(path):
            raise UnreadableScan("it is no MATLAB 7.3 file (HDF5); expected one with cjdata")
        with h5py.File(path, "r") as file:
            group = _hard(file, "cjdata")
            if not isinstance(group, h5py.Group):
                raise UnreadableScan("it has no cjdata; expected cjdata/image, label, PID and tumorMask")
            yield group


def _hard(group: Any, name: str) -> Any:
    """What a name holds in the file itself: links may lead to any other file."""
    h5py = _h5py()
    link = group.get(name, getlink=True)
    return group[name] if isinstance(link, h5py.HardLink) else None


def _dataset(group: Any, name: str) -> Any:
    h5py = _h5py()
    found = _hard(group, name)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise UnreadableScan(f"it has no cjdata/{name}; expected image, label, PID and tumorMask")
    if found.dtype.kind not in "iufb":
        raise UnreadableScan(f"its cjdata/{name} holds {found.dtype}; expected numbers")
    return found


def _array(group: Any, name: str, *, most: int) -> NDArray[Any]:
    found = _dataset(group, name)
    if not 1 <= found.size <= most:
        raise UnreadableScan(f"its cjdata/{name} has {found.size} values; expected 1 to {most}")
    return np.asarray(found[()])


def _size(group: Any, name: str) -> tuple[int, ...]:
    return tuple(int(length) for length in reversed(_dataset(group, name).shape))


def _matrix(group: Any, name: str) -> NDArray[Any]:
    found = _dataset(group, name)
    if len(found.shape) != 2 or not 1 <= found.size <= MAX_PIXELS:
        raise UnreadableScan(f"its cjdata/{name} has the shape {found.shape}; expected rows and columns")
    # MATLAB writes column by column: read row by row, a matrix is transposed.
    return np.asarray(found[()]).T


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError("reading MATLAB 7.3 files needs h5py: pip install 'lexiseg[datasets]'") from error
    return h5py


CHENG = Layout(
    name="cheng", about="brain tumours in MR, .mat (Cheng 2015, figshare)", looks_for=_CHENG_LOOKS_FOR, find=_find_cheng
)
"""Images become 16-bit PNGs; the column group is the file's PID, the set's own number of a patient."""


CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
"""The numbers that Cheng's files have for the tumours."""

_CHENG_PNG_LOOKS_FOR = (
    "folders images and masks with PNGs of equal names ('1.png'), with or without folders meningioma, "
    "glioma and pituitary in them; or these three with '1.png' and '1_mask.png'"
)


def _label(name: str) -> str:
    """The class that a folder's name means: "glioma", "glioma_tumor", "2"; "" for any other."""
    known = {str(number): label for number, label in CLASSES.items()} | {each: each for each in CLASSES.values()}
    return known.get(name.casefold().split("_")[0].split(" ")[0], "")


def _by_class(folder: Path) -> dict[str, Path]:
    return {label: each for each in folders(folder) if (label := _label(each.name))}


def _apart(folder: Path) -> bool:
    images, masks = subfolder(folder, "images"), subfolder(folder, "masks")
    return bool(images and masks and (files(images) or _by_class(images)))


def _beside(folder: Path) -> bool:
    below = _by_class(folder).values()
    return any(stem(path).endswith("_mask") for each in below for path in files(each))


def _find_cheng_png(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: _apart(folder) or _beside(folder), _CHENG_PNG_LOOKS_FOR)
    return Found(_cases_apart(root) if _apart(root) else _cases_beside(root))


def _cases_apart(root: Path) -> list[Case]:
    images, masks = subfolder(root, "images"), subfolder(root, "masks")
    assert images is not None and masks is not None
    cases = paired(images, masks, endings=("", "_mask"))
    for label, folder in _by_class(images).items():
        # The masks may lie in folders of the same names, or all in one.
        cases += paired(folder, subfolder(masks, folder.name) or masks, endings=("", "_mask"), label=label)
    return cases


def _cases_beside(root: Path) -> list[Case]:
    cases = []
    for label, folder in _by_class(root).items():
        images = [path for path in files(folder) if is_image(path)]
        masks = by_stem(images, "_mask")
        cases += [
            Case(source=path, mask=masks.get(stem(path)), label=label)
            for path in images
            if not stem(path).endswith("_mask")
        ]
    return cases


CHENG_PNG = Layout(
    name="cheng-png",
    about="brain tumours in MR, as PNG (Cheng 2015)",
    looks_for=_CHENG_PNG_LOOKS_FOR,
    find=_find_cheng_png,
)
"""As PNG the set has lost its patients: neighbouring numbers are often one patient's."""
