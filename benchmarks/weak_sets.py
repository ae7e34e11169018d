"""The sets of weak.py: which scans, as they are or spoilt, how they are split, how masks are scored and compared."""

from __future__ import annotations

import hashlib
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter, uniform_filter1d

from common import interval, scored_rows
from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.datasets.splits import split_by_group
from lexiseg.evaluation.metrics.masks import score_mask
from lexiseg.io.masks import read_mask
from lexiseg.io.names import safe_id
from lexiseg.io.read import read_scan
from lexiseg.training.students.labels import TEST, LabelSet, parts_of
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Image
from recipe.data import blocks

METRICS = {"dice": "Dice", "iou": "IoU", "nsd_2px": "NSD, 2 px"}
VALIDATION = 0.2
"""Share of a pool that stops a training, as `lexiseg pseudo-label` has it."""
Cell = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What is looked for in a set, and whether every scan has it."""

    phrase: str
    always: bool


TARGETS = {
    "busi": Target("breast tumor", always=False),
    "cxr": Target("lungs", always=True),
    "hc18": Target("fetal head", always=True),
    "lgg": Target("brain tumor", always=False),
    "kvasirseg": Target("polyp", always=True),
    "isic": Target("skin lesion", always=True),
}


def gain(pixels: FloatArray) -> FloatArray:
    """Dark on the left and bright on the right, as beside a surface coil: times 0.4 to 1.6 across the scan."""
    field = np.linspace(0.4, 1.6, pixels.shape[1], dtype=np.float32)
    return np.clip(pixels * (field[:, None] if pixels.ndim == 3 else field), 0, 1)


def blur(pixels: FloatArray) -> FloatArray:
    """Out of focus: a Gaussian of 1 % of the longer side."""
    sigma = 0.01 * max(pixels.shape[:2])
    return np.asarray(gaussian_filter(pixels, (sigma, sigma, 0)[: pixels.ndim]), np.float32)


def motion(pixels: FloatArray) -> FloatArray:
    """Moved while it was taken: the mean along 3 % of the longer side, from left to right."""
    return np.asarray(uniform_filter1d(pixels, max(2, round(0.03 * max(pixels.shape[:2]))), axis=1), np.float32)


def coarse(pixels: FloatArray) -> FloatArray:
    """Of low resolution: 96 pixels along the longer side, brought back to the size that it had."""
    height, width = pixels.shape[:2]
    scale = 96 / max(height, width)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))

    def there_and_back(channel: FloatArray) -> FloatArray:
        picture = Pillow.fromarray(channel, mode="F").resize(small, Pillow.Resampling.BILINEAR)
        return np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR), np.float32)

    if scale >= 1:
        return pixels
    if pixels.ndim == 2:
        return there_and_back(np.ascontiguousarray(pixels))
    return np.stack([there_and_back(np.ascontiguousarray(pixels[..., k])) for k in range(pixels.shape[2])], axis=-1)


def negative(pixels: FloatArray) -> FloatArray:
    """Black for white."""
    return 1 - pixels


NONE = "none"
CORRUPTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    NONE: lambda pixels: pixels,
    "gain": gain,
    "blur": blur,
    "motion": motion,
    "coarse": coarse,
    "negative": negative,
}
"""What is done to float32 pixels (H, W) or (H, W, 3) in [0, 1], which they stay; no chance is in it."""


def write_copy(source: Path, folder: Path, name: str, corruption: str) -> Path:
    """Copy a scan into a folder: as it is, or corrupted, as an 8-bit PNG of the same name."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if corruption == NONE:
        return Path(shutil.copyfile(source, place))
    scan = read_scan(source)
    assert isinstance(scan, Image)
    place = place.with_suffix(".png")
    pixels = CORRUPTIONS[corruption](scan.pixels)
    Pillow.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(place)
    return place


def prepare(source: Path, folder: Path, *, share: float, limit: int, corruption: str) -> None:
    """Copy what no model saw of a set into a folder and split it by patient, once; test.csv is written last.

    Args:
        source: the set's folder.
        folder: gets manifest.csv, test.csv, and copies.
        share: of the scans, which are scored.
        limit: at most so many patients; 0 for all.
        corruption: a key of `CORRUPTIONS`; masks are those of the scans as they were.
    """
    if (folder / "test.csv").exists():
        return
    rows = scored_rows(source, wanted=lambda row: row["mask"])
    groups = blocks(rows)
    if limit:
        kept = set(sorted(dict.fromkeys(groups))[:limit])
        rows = [row for row, group in zip(rows, groups, strict=True) if group in kept]
        groups = [group for group in groups if group in kept]
    where = split_by_group(groups, {"learn": 1 - share, "test": share}, seed=20)
    found = []
    for row, group, part in zip(rows, groups, where, strict=True):
        image = write_copy(source / row["image"], folder, row["image"], corruption)
        mask = write_copy(source / row["mask"], folder, row["mask"], NONE)
        extra = {"split": TEST if part == TEST else ""}
        found.append(ManifestRow(id=row["id"], image=image, mask=mask, group=group, label=row["label"], extra=extra))
    parts = parts_of(found, validation=VALIDATION, seed=0)
    found = [replace(row, extra={"split": part}) for row, part in zip(found, parts, strict=True)]
    by_part = {part: {row.group for row in found if row.extra["split"] == part} for part in set(parts)}
    assert not by_part[TEST] & set().union(*(by_part[part] for part in by_part if part != TEST))
    write_manifest(found, folder / "manifest.csv")
    write_manifest([row for row in found if row.extra["split"] == TEST], folder / "test.csv")


def first_of(labels: LabelSet, pool: Sequence[ManifestRow], count: int) -> LabelSet:
    """What is known of the first so many scans of a pool, patient after patient; the smaller pools lie in the larger.

    A pool of that size is split as `lexiseg pseudo-label` would: the whole pool's split might hold nothing out of it.
    """
    order = lambda row: (hashlib.sha256(f"curve\0{row.group}".encode()).digest(), row.id)  # noqa: E731
    taken = {row.id for row in sorted(pool, key=order)[:count]}
    rows = [replace(row, extra={**row.extra, "split": ""}) for row in labels.rows if row.id in taken]
    parts = parts_of(rows, validation=VALIDATION, seed=0)
    return replace(
        labels,
        rows=tuple(replace(row, extra={**row.extra, "split": part}) for row, part in zip(rows, parts, strict=True)),
    )


def score(test: Path, masks: Path) -> dict[str, dict[str, float]]:
    """Each test scan's metrics, and whether it has the target at all."""
    found = {}
    for row in read_manifest(test):
        scan = read_scan(row.image)
        assert row.mask is not None
        truth = read_mask(row.mask, scan)
        path = masks / f"{safe_id(row.id)}_mask.png"
        drawn = read_mask(path, scan) if path.exists() else np.zeros(scan.shape, np.bool_)
        values = score_mask(truth, drawn, tolerance=2).values
        found[row.id] = {**{key: values[key] for key in METRICS}, "target": float(truth.any())}
    return found


def mean_of(cells: Sequence[Cell], key: str) -> tuple[float, float]:
    """Mean over scans with the target of the mean over seeds, and the seeds' deviation."""
    each = [statistics.fmean(scan[key] for scan in cell["scans"].values() if scan["target"]) for cell in cells]
    return statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else 0.0


def empty_right(cells: Sequence[Cell]) -> str:
    """How often a scan without the target got an empty mask."""
    found = [scan["dice"] for cell in cells for scan in cell["scans"].values() if not scan["target"]]
    return f"{statistics.fmean(found):.0%} of {len(found) // len(cells)}" if found else ""


class Difference(NamedTuple):
    """A mean difference over scans with its 95 % interval, 0 to 1; NaN ends where there is one patient."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """In points."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"

    @property
    def verdict(self) -> str:
        """Better or worse by more than half a point, or neither."""
        if abs(self.mean) <= 0.005:
            return "equal within half a point"
        word = "better" if self.mean > 0 else "worse"
        return word if self.low > 0 or self.high < 0 else f"{word}, within chance"


def paired(rows: Sequence[ManifestRow], base: Sequence[Cell], other: Sequence[Cell], key: str) -> Difference:
    """Other minus base, scan by scan with the target, each the mean over its seeds; whole patients are resampled."""
    over = lambda cells, name: statistics.fmean(cell["scans"][name][key] for cell in cells)  # noqa: E731
    shown = [row for row in rows if base[0]["scans"][row.id]["target"]]
    differences = [over(other, row.id) - over(base, row.id) for row in shown]
    return Difference(statistics.fmean(differences), *interval(differences, [row.group or row.id for row in shown]))
