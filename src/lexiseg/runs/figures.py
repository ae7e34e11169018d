"""Pictures for people: a scan through its stages, and several scans side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.files import atomic_write
from lexiseg.io.pictures import PALETTE, saliency_overlay, to_display
from lexiseg.pipelines.results import TargetResult
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Image

_BACK, _INK, _DIM = "#14161a", "#f2f2f2", "#a9b0ba"
_ANSWER, _TRUTH, _REGION = (tuple(channel / 255 for channel in PALETTE[k]) for k in (0, 1, 2))


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One phrase in one image, to be shown.

    Attributes:
        title: what the scan is, in a few words.
        scan: an image.
        target: with its stages.
        truth: bool (H, W), or None where it is not known.
    """

    title: str
    scan: Image
    target: TargetResult
    truth: BoolArray | None = None

    @property
    def dice(self) -> float:
        """Dice against the truth; 1 where both are empty, NaN where the truth is not known."""
        return math.nan if self.truth is None else dice(self.target.mask, self.truth)


def draw_stages(exhibit: Exhibit, path: Path) -> Path:
    """One row of four panels: scan | saliency | refined region and boxes | mask with the truth's outline.

    Args:
        exhibit: what to show.
        path: a .png.

    Raises:
        UnwritableResult: the file system refused.
    """
    figure, rows = _figure(rows=1, columns=4, side=3.4, top=0.95, bottom=0.1, left=0.1)
    axes = rows[0]
    for axis, name in zip(axes, ("scan", "saliency", "region and boxes", "mask"), strict=True):
        axis.set_title(name, color=_DIM, fontsize=14, pad=6)
    _show_scan(axes[0], exhibit)
    _show_saliency(axes[1], exhibit)
    _show_region(axes[2], exhibit)
    _show_mask(axes[3], exhibit, line=2.4)
    height = figure.get_figheight()
    title = f"“{exhibit.target.phrase}” in {exhibit.title}"
    figure.text(0.008, 1 - 0.14 / height, title, color=_INK, fontsize=17, weight="bold", va="top")
    figure.text(0.992, 1 - 0.16 / height, _verdict(exhibit), color=_INK, fontsize=15, va="top", ha="right")
    return _save(figure, path)


def draw_overview(exhibits: Sequence[Exhibit], path: Path) -> Path:
    """A column for each exhibit: the scan, its saliency, and the mask with the truth's outline.

    Letters are large enough to be read when the picture is shrunk to half its width.

    Args:
        exhibits: at least one; six make a picture of 1800 pixels.
        path: a .png.

    Raises:
        UnwritableResult: the file system refused.
    """
    figure, rows = _figure(rows=3, columns=len(exhibits), side=2.92, top=1.0, bottom=1.5, left=0.42)
    for column, exhibit in enumerate(exhibits):
        scan, saliency, mask = (row[column] for row in rows)
        _show_scan(scan, exhibit)
        _show_saliency(saliency, exhibit)
        _show_mask(mask, exhibit, line=3.2)
        above = {"transform": scan.transAxes, "ha": "center", "va": "bottom"}
        scan.text(0.5, 1.16, exhibit.title, color=_DIM, fontsize=17, **above)
        scan.text(0.5, 1.03, f"“{exhibit.target.phrase}”", color=_INK, fontsize=20, weight="bold", **above)
        mask.set_xlabel(_short_verdict(exhibit), color=_INK, fontsize=19, labelpad=8, linespacing=1.3)
    for row, name in zip(rows, ("scan", "saliency", "mask"), strict=True):
        row[0].set_ylabel(name, color=_DIM, fontsize=19, labelpad=6)
    height = figure.get_figheight()
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=_ANSWER, linewidth=4, label="mask by lexiseg"),
        Line2D([], [], color=_TRUTH, linewidth=4, linestyle=(0, (2, 1)), label="truth"),
    ]
    figure.legend(
        handles=keys, loc="lower center", ncol=2, frameon=False, labelcolor=_INK, fontsize=18,
        bbox_to_anchor=(0.5, 0.04 / height), borderpad=0, handlelength=2.4,
    )  # fmt: skip
    return _save(figure, path)


def _figure(
    *, rows: int, columns: int, side: float, top: float, bottom: float, left: float
) -> tuple[Any, list[list[Any]]]:
    """A dark figure of square panels, sizes in inches; 100 pixels an inch."""
    # The figure alone, without pyplot: nothing is shared with a program that draws figures of its own.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gap = 0.08
    width = left + columns * side + (columns - 1) * gap + 0.1
    height = top + rows * side + (rows - 1) * gap + bottom
    figure = Figure(figsize=(width, height), dpi=100, facecolor=_BACK)
    FigureCanvasAgg(figure)
    panels: list[list[Any]] = []
    for row in range(rows):
        panels.append([])
        for column in range(columns):
            x = left + column * (side + gap)
            y = bottom + (rows - 1 - row) * (side + gap)
            axis = figure.add_axes((x / width, y / height, side / width, side / height))
            axis.set_facecolor("black")
            axis.set_xticks([])
            axis.set_yticks([])
            for edge in axis.spines.values():
                edge.set_visible(False)
            panels[-1].append(axis)
    return figure, panels


def _show_scan(axis: Any, exhibit: Exhibit) -> None:
    axis.imshow(to_display(exhibit.scan))


def _show_saliency(axis: Any, exhibit: Exhibit) -> None:
    axis.imshow(saliency_overlay(exhibit.scan, exhibit.target.saliency[0].map))


def _show_region(axis: Any, exhibit: Exhibit) -> None:
    from matplotlib.patches import Rectangle

    region = exhibit.target.region[0].mask
    axis.imshow(to_display(exhibit.scan))
    _tint(axis, region, _REGION)
    _outline(axis, region, _REGION, width=2.0)
    for x0, y0, x1, y1 in exhibit.target.prompts[0].boxes:
        # Pixels are unit squares around whole numbers in a figure, around halves in a box.
        corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0, y1 - y0)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=4))
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=2))


def _show_mask(axis: Any, exhibit: Exhibit, *, line: float) -> None:
    axis.imshow(to_display(exhibit.scan))
    _tint(axis, exhibit.target.mask, _ANSWER)
    _outline(axis, exhibit.target.mask, _ANSWER, width=line)
    if exhibit.truth is not None:
        _outline(axis, exhibit.truth, _TRUTH, width=line, style=(0, (2, 1)))


def _tint(axis: Any, mask: BoolArray, colour: tuple[float, ...]) -> None:
    axis.imshow(np.where(mask[..., None], (*colour, 0.28), 0.0))


def _outline(axis: Any, mask: BoolArray, colour: tuple[float, ...], *, width: float, style: Any = "solid") -> None:
    if not mask.any():
        return
    # A rim of background, so that a mask which touches the scan's edge is outlined there too.
    padded = np.pad(mask, 1).astype(np.float32)
    y, x = np.arange(padded.shape[0]) - 1, np.arange(padded.shape[1]) - 1
    axis.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width, linestyles=[style])
    axis.set_xlim(-0.5, mask.shape[1] - 0.5)
    axis.set_ylim(mask.shape[0] - 0.5, -0.5)


def _verdict(exhibit: Exhibit) -> str:
    found = exhibit.target
    numbers = [("presence", found.presence), ("confidence", found.confidence), ("Dice", exhibit.dice)]
    told = [f"{name} {value:.2f}" for name, value in numbers if not math.isnan(value)]
    return " · ".join([found.verdict, *told])


def _short_verdict(exhibit: Exhibit) -> str:
    found = exhibit.target
    presence = "" if math.isnan(found.presence) else f" ({found.presence:.2f})"
    answer = f"{found.verdict}{presence}"
    if exhibit.truth is None:
        return answer
    return f"{answer}\n" + (f"Dice {exhibit.dice:.2f}" if exhibit.truth.any() else "truth: absent")


def _save(figure: Any, path: Path) -> Path:
    picture = io.BytesIO()
    # Without matplotlib's name and version in it: equal pictures are equal files.
    figure.savefig(picture, format="png", facecolor=_BACK, metadata={"Software": None})
    return atomic_write(path, lambda file: file.write(picture.getvalue()))
