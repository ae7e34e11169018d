"""Every DICOM file of some folders: what is read of it, or the one line that says why not.

    python benchmarks/dicom_files.py --shared ../shared/dicom > docs/lab/dicom-files.md

Three sets are read: the cases of a folder with a cases.json, with which shapes, places and numbers are compared;
pydicom's own test files; and those of the package pydicom-data. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import LexisegError
from lexiseg.io.find import describe_inputs, find_sources
from lexiseg.io.sources import Source, SourceOptions, read_source
from lexiseg.values.scans import Image, Scan, Volume

_VERSIONS = ("lexiseg", "pydicom", "pydicom-data", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "nibabel", "numpy")
_ALL = SourceOptions(all_series=True, all_patients=True)


@dataclass(frozen=True)
class Line:
    """One scan, or what is refused.

    Attributes:
        name: of its file or folder.
        kind: image, volume, cine, or "refused".
        said: its shape, spacing and values, or the reason.
        fault: how it differs from what is known of it; "" where it does not, or nothing is known.
    """

    name: str
    kind: str
    said: str
    fault: str = ""


def folder_lines(case: Path, known: Sequence[dict[str, Any]] = ()) -> Iterator[Line]:
    """The scans of a case's folder, and the objects in it that are no image."""
    try:
        sources = find_sources([case], _ALL)
    except LexisegError as error:
        yield Line(case.name, "refused", _short(error, case))
        sources = []
    for source in sources:
        yield from _scan_lines(source, case, known)
    for each in describe_inputs([case]):
        if any(note.startswith("localizer:") for note in each.notes):
            yield Line(_within(Path(each.path), case), "localizer", "left out")
        if each.kind == "not-an-image" and not any(source.shown == each.path for source in sources):
            yield Line(_within(Path(each.path), case), "refused", _short(each.error, case))


def _scan_lines(source: Source, case: Path, known: Sequence[dict[str, Any]]) -> Iterator[Line]:
    name = _within(source.place, case)
    for number in range(1, 1000):
        try:
            scan = read_source(Source(**{**vars(source), "volume": None if number == 1 else number}))
        except LexisegError as error:
            if "holds" in str(error) and "volumes" in str(error):
                volumes = int(str(error).split("it holds ")[1].split()[0])
                for k in range(1, volumes + 1):
                    scan = read_source(Source(**{**vars(source), "volume": k}))
                    yield _line(f"{name}, volume {k} of {volumes}", scan, source, known)
                return
            yield Line(name, "refused", _short(error, case))
            return
        yield _line(name, scan, source, known)
        return


def file_line(path: Path, root: Path) -> Line:
    """One file by itself."""
    source = Source.of_file(path)
    return next(_scan_lines(source, root, ()))


def _line(name: str, scan: Scan, source: Source, known: Sequence[dict[str, Any]]) -> Line:
    values = native(scan)
    kind = "image" if isinstance(scan, Image) else "cine" if scan.geometry.time else "volume"
    size = " x ".join(map(str, values.shape))
    spacing = scan.spacing
    if isinstance(scan, Volume) and scan.geometry.time:
        spacing = scan.geometry.pixel_spacing
    lengths = "" if spacing is None else f", {' x '.join(f'{length:.4g}' for length in spacing)} mm"
    unit = f" {scan.unit}" if scan.unit else ""
    numbers = f"{np.nanmin(values):.6g} to {np.nanmax(values):.6g}{unit}"
    notes = [f"{key}: {text}" for key, text in scan.notes.items() if key in _TOLD]
    said = "; ".join([f"{size}{lengths}; {numbers}", *notes])
    return Line(name, kind, said, fault_of(scan, source, known))


_TOLD = ("missing", "spacing", "tilt", "volume", "duplicates", "mosaic", "inverted", "localizers", "grids", "frames",
         "sentinel", "padding")  # fmt: skip


def native(scan: Scan) -> np.ndarray:
    """A scan's numbers: native where there are any, else its pixels."""
    if isinstance(scan, Volume):
        return scan.values
    return scan.pixels if scan.native is None else scan.native


def fault_of(scan: Scan, source: Source, known: Sequence[dict[str, Any]]) -> str:
    """How a scan differs from what cases.json says of its series; "" where it does not."""
    if not known:
        return ""
    fits = [each for each in known if _is_of(each, scan, source)]
    if not fits:
        return "cases.json has no such series"
    faults = [_compare(scan, each) for each in fits]
    return "" if "" in faults else faults[0]


def _is_of(facts: dict[str, Any], scan: Scan, source: Source) -> bool:
    height, width = scan.shape[-2:] if isinstance(scan, Image) else scan.shape[1:]
    mosaic = isinstance(scan, Volume) and "mosaic" in scan.notes
    return mosaic or (facts.get("rows"), facts.get("columns")) == (height, width) or facts["files"] > 1


def _compare(scan: Scan, facts: dict[str, Any]) -> str:
    faults = []
    values = native(scan)
    if isinstance(scan, Volume) and not scan.geometry.time and "mosaic" not in scan.notes:
        geometry = scan.geometry
        ends = [FLIP @ (geometry.affine @ [0, 0, k, 1])[:3] for k in (0, geometry.shape[0] - 1)]
        for key, end in zip(("first_slice_position_lps", "last_slice_position_lps"), ends, strict=True):
            if facts.get(key) is None or np.abs(np.array(facts[key]) - end).max() > 6e-4:
                faults.append(f"{key} is {facts.get(key)}, read {np.round(end, 3).tolist()}")
        present = sum(frame is not None for frame in scan.header.frames)
        if facts.get("slice_positions") != present:
            faults.append(f"slice_positions is {facts.get('slice_positions')}, read {present}")
    spacing = scan.geometry.pixel_spacing if isinstance(scan, Volume) else scan.spacing
    if facts.get("pixel_spacing_row_col_mm") and (
        spacing is None or np.abs(np.subtract(facts["pixel_spacing_row_col_mm"], spacing)).max() > 6e-5
    ):
        faults.append(f"pixel spacing is {facts['pixel_spacing_row_col_mm']}, read {spacing}")
    whole = values.dtype.kind in "iu" or not np.isnan(values).any()
    comparable = not (isinstance(scan, Image) and scan.native is None) and "volume" not in scan.notes
    numbers = facts.get("pixels_min_max_mean_after_rescale")
    if numbers and facts.get("sop_class") == "Enhanced CT Image Storage":
        # Without the rescale of the functional groups: an intercept of -1024.
        numbers = [number - 1024 for number in numbers]
    # Of a series of several images each has numbers of its own.
    if numbers and whole and comparable and (isinstance(scan, Volume) or facts["files"] == 1):
        read = [float(values.min()), float(values.max()), float(values.mean(dtype=np.float64))]
        if np.abs(np.subtract(numbers, read)).max() > 6e-4:
            faults.append(f"numbers are {numbers}, read {read}")
    elif numbers and comparable and isinstance(scan, Volume) and abs(numbers[1] - float(np.nanmax(values))) > 6e-4:
        faults.append(f"the largest is {numbers[1]}, read {np.nanmax(values)}")
    return "; ".join(faults)


FLIP = np.diag([-1.0, -1.0, 1.0])


def files_of(package: str) -> tuple[Path, list[Path]]:
    """The folder of a package's DICOM files, and each of them."""
    if package == "pydicom":
        import pydicom

        root = Path(pydicom.__file__).parent / "data" / "test_files"
    else:
        import data_store

        root = Path(next(iter(data_store.__path__))) / "data"
    names = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return root, [path for path in names if path.suffix not in (".py", ".pyc", ".md", ".txt", ".json", ".zip")]


def _short(error: object, case: Path) -> str:
    text = str(error)
    for place in (f"{case}/", str(case)):
        text = text.replace(place, "" if place.endswith("/") else case.name)
    return " ".join(text.split())


def _within(place: Path, root: Path) -> str:
    return place.relative_to(root).as_posix() if place != root and place.is_relative_to(root) else root.name


def _list(lines: Sequence[Line], *, compared: bool = False) -> Iterator[str]:
    """One entry a scan, long ones wrapped; neighbours that are refused for one reason are one entry."""
    for (kind, said, _), group in groupby(lines, key=_alike):
        found = list(group)
        first, last = found[0].name, found[-1].name
        name = f"`{first}`" if len(found) == 1 else f"`{first}` to `{last}` ({len(found)} files)"
        verdict = "" if not compared or kind == "refused" else f"; {found[0].fault or 'as cases.json says'}"
        yield textwrap.fill(
            f"- {name}: **{kind}**, {said}{verdict}", 116, subsequent_indent="  ", break_on_hyphens=False
        )


def _alike(line: Line) -> tuple[str, str, str]:
    """What neighbours have in common that are one entry."""
    folder = line.name.rpartition("/")[0]
    return (
        line.kind,
        line.said.removeprefix(f"{line.name}: "),
        folder if line.kind == "refused" and folder else line.name,
    )


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="a folder of cases with cases.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS)
    print("# DICOM files\n")
    print("Every file of three sets either reads as it should or gives one line that says why not.\n")
    print("    python benchmarks/dicom_files.py --shared ../shared/dicom > docs/lab/dicom-files.md\n")
    print(
        textwrap.fill(
            f"{date.today().isoformat()}, Python {platform.python_version()}, {versions}.", 116, break_on_hyphens=False
        )
    )
    if arguments.shared:
        print("\n## Cases\n")
        print("Read as folders, all series of each. Places, spacing and numbers are compared with cases.json, which")
        print("was worked out with pydicom and SimpleITK alone. Where padding is left out, only the largest number is")
        print("compared. Of `enhanced_ct`, cases.json has the numbers before the rescale of its functional groups.")
        cases = json.loads((arguments.shared / "cases.json").read_text(encoding="utf-8"))
        for name, case in cases.items():
            print(f"\n### {name}\n")
            lines = list(folder_lines(arguments.shared / name, case["series"]))
            print("\n".join(_list(lines, compared=True)))
    for package in ("pydicom", "pydicom-data"):
        root, files = files_of(package)
        print(f"\n## Test files of {package}\n")
        lines = [file_line(path, root) for path in files]
        read = sum(line.kind != "refused" for line in lines)
        print(f"{len(lines)} files: {read} are read, {len(lines) - read} are refused.\n")
        print("\n".join(_list(lines)))


if __name__ == "__main__":
    main()
