"""Cheng's brain tumours as published: one MATLAB 7.3 (HDF5) file a slice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.datasets.layouts.cheng_png import CLASSES
from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source
from lexiseg.datasets.layouts.making import written_grey, written_mask
from lexiseg.datasets.layouts.tree import files, find_root, folders, stem
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.scans.names import printable
from lexiseg.scans.read import MAX_PIXELS, reading, regular_head

_LOOKS_FOR = "MATLAB files '1.mat', '2.mat' ... (in folders such as brainTumorDataPublic_1-766)"
_LONGEST_NAME = 64


def _numbered(folder: Path) -> list[Path]:
    return [path for path in files(folder, (".mat",)) if stem(path).isdecimal()]


def _slices(folder: Path) -> list[Path]:
    """The numbered files of a folder and of the folders in it: the set comes in four parts."""
    found = [path for each in (folder, *folders(folder)) for path in _numbered(each)]
    return sorted(found, key=lambda path: (int(stem(path)), str(path)))


def _find(source: Source) -> Found:
    _h5py()
    root = find_root(source.folder, lambda folder: bool(_slices(folder)), _LOOKS_FOR)
    cases, problems = [], []
    for path in _slices(root):
        try:
            cases.append(_case(path))
        except UnreadableScan as error:
            problems.append(str(error))
    return Found(cases, problems)


def _case(path: Path) -> Case:
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
    name="cheng", about="brain tumours in MR, .mat (Cheng 2015, figshare)", looks_for=_LOOKS_FOR, find=_find
)
"""Images become 16-bit PNGs; the column group is the file's PID, the set's own number of a patient."""
