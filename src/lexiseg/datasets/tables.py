"""What tables of files have in common: how they are read, and where their cells may point."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from lexiseg.errors import BadManifest


def csv_text(path: Path, *, expected: str) -> str:
    """The text of a CSV file.

    Args:
        path: the file.
        expected: the columns that its header must have, for the message.

    Raises:
        BadManifest: it is missing, no file, empty or not UTF-8; the reason alone, without the path.
    """
    if path.exists() and not path.is_file():
        raise BadManifest("it is a folder or a device; expected a CSV file")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BadManifest("no such file") from error
    except OSError as error:
        raise BadManifest(f"it cannot be read ({error.strerror})") from error
    if not content.strip():
        raise BadManifest(f"the file is empty; expected a header with {expected}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadManifest(f"it is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from error


def place_inside(written: str, folder: Path, column: str) -> tuple[Path, str]:
    """The path that a cell means, joined to the CSV's folder, and "" or why it may not be opened.

    A table that came from elsewhere must not make this machine read a file outside its folder: an absolute
    path, "..", and a link that leads out are refused.
    """
    windows = PureWindowsPath(written)
    if PurePosixPath(written).is_absolute() or windows.drive or windows.root:
        return Path(
            written
        ), f"the {column} {written} is an absolute path; expected one relative to the manifest"
    if ".." in windows.parts or "\0" in written:
        return Path(
            written
        ), f"the {column} {written} leads out of the manifest's folder; expected one inside"
    place = folder / written
    try:
        inside = place.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        return Path(
            written
        ), f"the {column} {written} is a link out of the manifest's folder; copy the file in"
    return place, ""
