"""What a manifest knows of a scan: its true mask, true boxes, or that the target is absent."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.evaluation.metrics.localisation import Box
from lexiseg.evaluation.settings import EvaluationSettings, LabelChoice
from lexiseg.io.dicom.placed import PlacedMasks, grid_of, is_placed, read_placed, series_uid
from lexiseg.io.mask_choices import Side, are_colours
from lexiseg.io.mask_levels import Kind
from lexiseg.io.mask_pictures import exif_orientation
from lexiseg.io.masks import read_stored
from lexiseg.io.names import IMAGE_SUFFIXES, printable, scan_suffix
from lexiseg.io.read import read_scan
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of a scan: a mask, boxes, or the knowledge that there is nothing to find.

    Attributes:
        shape: the grid, (H, W) or (D, H, W).
        present: whether there is anything to find.
        file: what the grid was read from.
        mask: bool, of that shape; None where there is none.
        boxes: x0 y0 x1 y1 in pixels, end-exclusive; none where the target is absent; None where unknown.
        spacing: mm along each axis; None where no file says.
        geometry: where a volume lies; None for images.
        place: where an image lies whose DICOM file says so; None for others.
        series: the Series Instance UID of its scan; "" where nobody asked.
        exif: the orientation by which EXIF turns the scan; 1 where it does not.
        notes: what was decided on reading it.
    """

    shape: tuple[int, ...]
    present: bool
    file: Path
    mask: BoolArray | None = None
    boxes: tuple[Box, ...] | None = None
    spacing: tuple[float, ...] | None = None
    geometry: Geometry | None = None
    place: Geometry | None = None
    series: str = ""
    exif: int = 1
    notes: tuple[str, ...] = ()


class TruthReader:
    """Reads the truths of a manifest's rows.

    Attributes:
        look: what all true masks hold together.

    Args:
        rows: all of them: what one mask holds may tell how another is meant.
        settings: of the evaluation.
        predicted: what the masks hold that are compared with them.
        has_boxes: whether an empty mask is known to have no boxes; whether any row has some when None.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        settings: EvaluationSettings,
        *,
        predicted: Sequence[Look] = (),
        has_boxes: bool | None = None,
    ) -> None:
        self._settings = settings
        self._has_boxes = any(row.boxes for row in rows) if has_boxes is None else has_boxes
        choices = settings.true_labels or settings.labels
        self.look = look_at_masks((row.mask for row in rows if not row.error), choices)
        self._side = self.look.side_beside(predicted)

    def read(self, row: ManifestRow) -> Truth:
        """See `read_truth`."""
        settings = self._settings
        labels = settings.true_labels_for((row.text, row.label))
        return read_truth(row, has_boxes=self._has_boxes, absent=settings.absent, labels=labels, side=self._side)


@dataclass(frozen=True)
class Look:
    """What the masks of one source hold together.

    Attributes:
        maps: whether they number targets: one holds several values, or two hold different ones. Then a file of 0 and
            1 alone shows label 1, and not whatever label is wanted. 255 numbers nothing.
        coloured: whether any of them has colours.
    """

    maps: bool = False
    coloured: bool = False

    def side_beside(self, others: Iterable[Look]) -> Side:
        """What is known of one of these masks, compared with masks of other sources."""
        if self.maps:
            return Side.maps
        return Side.beside if any(other.maps for other in others) else Side.masks


def look_at_masks(paths: Iterable[Path | None], choices: Sequence[LabelChoice]) -> Look:
    """Look at the masks of one source, so that each of them is read as all of them are meant.

    Args:
        paths: of the masks; None and what cannot be read are passed over.
        choices: which values are the target. Where none was chosen nothing is looked at.
    """
    if not choices:
        return Look()
    colours = any(are_colours(choice.values) for choice in choices)
    single: set[float] = set()
    maps = coloured = False
    for path in paths:
        if path is None:
            continue
        try:
            # The targets of a DICOM object have numbers of their own.
            if is_placed(path):
                continue
            held = read_stored(path).held
        except UnreadableScan:
            continue
        maps = maps or held.levels.kind is Kind.several
        coloured = coloured or held.paint.known
        if maps and (coloured or not colours):
            break
        label = held.label(colours=colours)
        single |= set() if label is None else {label}
    return Look(maps or len(single) > 1, coloured)


def read_truth(
    row: ManifestRow,
    *,
    has_boxes: bool = False,
    absent: Sequence[str] = (),
    labels: Sequence[int] = (),
    side: Side = Side.maps,
) -> Truth:
    """Read a manifest row's truth: its mask, else its boxes, else that its label means absence.

    A DICOM SEG or structure set is put on the grid of its scan. Spacing comes from a volume's mask, or from the scan
    where that is DICOM or NIfTI; plain images have none.

    Args:
        row: of the manifest.
        has_boxes: whether the manifest has boxes at all, so that an empty mask is known to have none.
        absent: labels of scans that hold no target.
        labels: values that are the target, of a label map.
        side: what is known of the masks that its mask lies among.

    Raises:
        UnreadableScan: the row is unusable or says nothing, or a file cannot be read; one line.
    """
    if row.error:
        raise UnreadableScan(row.error)
    known_absent = row.label in absent and row.label != ""
    if row.mask is None:
        if not row.boxes and not known_absent:
            raise UnreadableScan("the manifest has neither a mask nor a box of it; nothing to compare with")
        scan = read_scan(row.image)
        return Truth(
            shape=scan.shape,
            present=bool(row.boxes),
            file=row.image,
            boxes=row.boxes if isinstance(scan, Image) else None,
            spacing=scan.spacing,
            geometry=scan.geometry if isinstance(scan, Volume) else None,
        )
    if is_placed(row.mask):
        return _of_placed(row, row.mask, labels)
    stored = read_stored(row.mask)
    found = stored.decided(labels, side)
    mask = found.mask
    spacing, place, series = stored.spacing, None, ""
    if stored.geometry is None and scan_suffix(row.image) not in IMAGE_SUFFIXES and row.image.is_file():
        scan = read_scan(row.image)
        if scan.shape != mask.shape:
            raise UnreadableScan(f"the true mask has shape {mask.shape}, its scan {scan.shape}; expected the same")
        spacing, place, series = scan.spacing, grid_of(scan), series_uid(scan)
    present = bool(mask.any())
    boxes = row.boxes or (() if has_boxes and not present else None)
    return Truth(
        shape=mask.shape,
        present=present,
        file=row.mask,
        mask=mask,
        boxes=boxes if mask.ndim == 2 else None,
        spacing=spacing,
        geometry=stored.geometry,
        place=place,
        series=series,
        exif=exif_orientation(row.image) if mask.ndim == 2 else 1,
        notes=found.notes,
    )


def _of_placed(row: ManifestRow, path: Path, labels: Sequence[int]) -> Truth:
    """A DICOM object's target on the grid of its scan, which must be there: the object holds no grid of its own."""
    placed = read_placed(path)
    scan = _scan_of(row.image, placed)
    grid, series = grid_of(scan), series_uid(scan)
    mask = placed.onto(placed.numbers(labels, row.text or row.label or None), scan.shape, grid, series=series)
    return Truth(
        shape=scan.shape,
        present=bool(mask.any()),
        file=path,
        mask=mask,
        spacing=scan.spacing,
        geometry=grid if isinstance(scan, Volume) else None,
        place=None if isinstance(scan, Volume) else grid,
        series=series,
        notes=placed.notes,
    )


def _scan_of(image: Path, placed: PlacedMasks) -> Scan:
    """The scan that an object was drawn on; of a folder with several series the one that the object refers to."""
    try:
        try:
            return read_scan(image)
        except UsageError:
            if not placed.series:
                raise
            return read_scan(image, series=placed.series)
    except (UnreadableScan, UsageError) as error:
        series = f"the series {placed.series}" if placed.series else "a scan"
        raise UnreadableScan(
            f"{printable(placed.path.name)} is a {placed.WHAT} of {series}, which the manifest's image must hold: "
            f"{error}"
        ) from error


def nothing_absent(labels: Collection[str], settings: EvaluationSettings) -> str:
    """Which labels were said to mean absence and are no row's, and which there are, on one line; "" where all are.

    Args:
        labels: of all rows.
        settings: of the evaluation.
    """
    unknown = [printable(label) for label in settings.absent if label not in labels]
    if not unknown:
        return ""
    there = ", ".join(sorted(map(printable, labels)))[:200] or "none"
    return f"no row has the label {' or '.join(unknown)} of --absent, and letter case counts; its labels: {there}"


def as_on_disk(row: ManifestRow) -> ManifestRow:
    """A row with its paths as the folders have them: accents may be composed in one place and not in the other."""
    return replace(row, image=_found(row.image), mask=_found(row.mask) if row.mask else None)


def _found(path: Path) -> Path:
    if path.name.isascii() or path.exists() or not path.parent.is_dir():
        return path
    wanted = unicodedata.normalize("NFC", path.name)
    return next((each for each in path.parent.iterdir() if unicodedata.normalize("NFC", each.name) == wanted), path)
