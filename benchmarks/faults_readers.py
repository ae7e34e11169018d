"""What readers make of the folders 03, 05, 06 and 07 of a collection of files that go wrong.

    python benchmarks/faults_readers.py --data DIR

DIR is the collection (its README.md says what is right).  Each function below looks at one folder and yields a file's
name, whether the answer is right, and what the answer is. It exits 1 where one is not. With the code of before on
PYTHONPATH (its `lexiseg.read_scan`), the same command prints the table of before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import lexiseg

Row = tuple[str, bool, str]


def _read(path: Path) -> Any:
    """A scan, or the message of what was wrong with it."""
    try:
        return lexiseg.read_scan(path)
    except lexiseg.errors.LexisegError as error:
        return str(error).removeprefix(f"{path}: ")


def _pixels(scan: Any) -> Any:
    """Upright planes (N, h, w) or an image's pixels."""
    if hasattr(scan, "geometry"):
        return np.stack([plane.pixels for plane in scan.planes()])
    return scan.pixels


def _close(one: Any, other: Any, least: float = 0.98) -> bool:
    """Whether two pictures are the same but for their range: their correlation."""
    one, other = np.asarray(one, float).ravel(), np.asarray(other, float).ravel()
    return one.shape == other.shape and one.std() > 0 and float(np.corrcoef(one, other)[0, 1]) > least


def affine(folder: Path) -> Iterator[Row]:
    """03: upright as the file with a sound header is."""
    base = np.squeeze(_pixels(_read(folder / "base.nii")))
    turned = {"sform_zero.nii": base}
    for path in sorted(folder.glob("*.nii")):
        scan = _read(path)
        if isinstance(scan, str):
            yield path.name, False, scan
            continue
        shown = np.squeeze(_pixels(scan))
        stored = np.squeeze(np.asarray(nib.Nifti1Image.from_bytes(_without_header_faults(path)).dataobj))
        wanted = turned.get(path.name, base if path.name == "base.nii" else _upright(stored))
        yield path.name, _close(shown, wanted), "as it should be upright" if _close(shown, wanted) else "turned"


def _upright(stored: np.ndarray) -> np.ndarray:
    """All files of the folder run to the patient's left and back: rows are the second axis."""
    axes = (2, 1, 0) if stored.ndim == 3 else (1, 0)
    return stored.transpose(axes)


def _without_header_faults(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[116:120] = bytes(4)
    content[252:256] = bytes(4)
    return bytes(content)


def ranges(folder: Path) -> Iterator[Row]:
    """05: as bright as the same picture in 8 bits, and padding black."""
    base = _pixels(_read(folder / "cxr" / "base_png8.png"))
    for path in sorted([*folder.rglob("*.png"), *folder.rglob("*.tif"), *folder.rglob("*.dcm"), *folder.rglob("*.gz")]):
        if path.name == "lungs.png":
            continue
        scan = _read(path)
        if isinstance(scan, str):
            yield path.name, False, scan
            continue
        shown = _pixels(scan)
        like = base if path.parent.name == "cxr" else shown
        seen = shown > 0
        right = 0.2 < float(shown.mean()) < 0.6 if path.name != "ct_pad3024.nii.gz" else float(shown[seen].mean()) < 0.8
        right = right and _close(shown[seen], like[seen], 0.9)
        yield path.name, right, f"mean {float(shown.mean()):.3f}, of what is not black {float(shown[seen].mean()):.3f}"


def nested(folder: Path) -> Iterator[Row]:
    """06: an enhanced file of one frame is read as the classic one."""
    classic, enhanced = _read(folder / "classic.dcm"), _read(folder / "enhanced.dcm")
    same = bool(np.array_equal(classic.pixels, enhanced.pixels))
    yield "enhanced.dcm", same, "pixels as classic.dcm" if same else "other pixels than classic.dcm"
    yield "enhanced.dcm", enhanced.spacing == classic.spacing, f"spacing {enhanced.spacing}"
    spacing = _read(folder / "eval" / "img" / "enhanced.dcm").spacing
    yield "eval/img/enhanced.dcm", spacing is not None, f"spacing {spacing}"


def quirks(folder: Path) -> Iterator[Row]:
    """07: read, and where something was left out, said."""
    for path in sorted(each for each in folder.iterdir() if each.is_file()):
        scan = _read(path)
        if isinstance(scan, str):
            yield path.name, False, scan
            continue
        said = [name for name in ("ignored", "table", "previews") if name in scan.notes]
        # TIFF kinds are read as any other: nothing was left out.
        right = bool(said) or path.suffix == ".tif"
        yield path.name, right, "; ".join(f"{name}: {scan.notes[name]}" for name in said) or "read"


FOLDERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "03-affine": affine,
    "05-range": ranges,
    "06-nested-dicom": nested,
    "07-header-quirks": quirks,
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    wrong = 0
    for name, look in FOLDERS.items():
        for file, right, what in look(data / name):
            wrong += not right
            print(f"{name:18}{file:28}{'right' if right else 'WRONG':7}{what}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
