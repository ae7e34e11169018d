"""The report's pictures, as SVG that stands in the page itself."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lexiseg.evaluation.cases import Case
from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.metrics.classification import CalibrationBin
from lexiseg.evaluation.results import EVERYTHING, Evaluation, SystemEvaluation
from lexiseg.io.pictures import COLOURS

_INK, _DIM, _GRID = "#1d2430", "#5b6472", "#dfe3e8"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lexiseg",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _DIM,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "xtick.color": _DIM,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
_PLOTTED = 4
_TICKS = (0, 1, 10, 100, 1000)


def colour(place: int) -> str:
    """The colour of the system at a place."""
    return (*COLOURS[6:], *COLOURS[4:6], *COLOURS[:3])[place % 6]


def box_plots(evaluation: Evaluation) -> str:
    """A box for each system in the main metrics, every scan a dot, the mean a diamond; "" without values."""
    first = [key for key in evaluation.metrics if key == "dice" or key.startswith(("nsd", "hd95", "assd"))]
    keys = (first or evaluation.metrics)[:_PLOTTED]
    keys = [key for key in keys if any(_defined(system.cases, key) for system in evaluation.systems)]
    names = [system.name for system in evaluation.systems]
    if not keys:
        return ""
    from matplotlib.ticker import NullLocator

    with _style():
        figure, axes = _panels(len(keys), height=1.1 + 0.42 * len(names), width=10.2)
        for place, (axis, key) in enumerate(zip(axes, keys, strict=True)):
            values = [_defined(system.cases, key) for system in evaluation.systems]
            _boxes(axis, values)
            metric = metric_of(key)
            axis.set_title(metric.title + (" ↓" if metric.lower_is_better else " ↑"), loc="left")
            axis.set_yticks(range(1, len(names) + 1), [_short(name) for name in names] if place == 0 else [])
            axis.set_ylim(len(names) + 0.6, 0.4)
            if metric.lower_is_better:
                # Nearly all distances are short and a few as long as the scan is large.
                axis.set_xscale("symlog", linthresh=1, linscale=0.5)
                axis.set_xlim(-0.08, 1.5 * max(1.0, *map(max, filter(None, values))))
                axis.set_xticks([tick for tick in _TICKS if tick <= max(map(max, filter(None, values)))])
                axis.xaxis.set_major_formatter("{x:g}")
                axis.xaxis.set_minor_locator(NullLocator())
            else:
                axis.set_xlim(-0.03, 1.03)
                axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        return _svg(figure, "Box plots of each system's scores")


def bland_altman(evaluation: Evaluation) -> str:
    """Predicted less true size over their mean, a panel for each system; "" without true masks."""
    shown = [(k, system, _sizes(system)) for k, system in enumerate(evaluation.systems)]
    shown = [each for each in shown if len(each[2][0])]
    if not shown:
        return ""
    from matplotlib.ticker import MaxNLocator

    with _style():
        figure, axes = _panels(len(shown), height=3.1, width=min(10.2, 4.2 * len(shown)), shared=True)
        for axis, (place, system, (truth, predicted, unit)) in zip(axes, shown, strict=True):
            difference, middle = predicted - truth, (predicted + truth) / 2
            bias, spread = float(difference.mean()), float(difference.std(ddof=1)) if len(truth) > 1 else 0.0
            axis.scatter(middle, difference, s=14, color=colour(place), alpha=0.6, linewidths=0)
            axis.axhline(bias, color=_INK, linewidth=1.2)
            for end in (bias - 1.96 * spread, bias + 1.96 * spread):
                axis.axhline(end, color=_DIM, linewidth=1, linestyle=(0, (4, 3)))
            axis.set_title(
                f"{_short(system.name)}\nbias {_rounded(bias)}, limits {_rounded(bias - 1.96 * spread)} to "
                f"{_rounded(bias + 1.96 * spread)} {unit}",
                loc="left", fontsize=9.5,
            )  # fmt: skip
            axis.set_xlabel(f"mean of truth and prediction ({unit})")
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(color=_GRID, linewidth=0.6)
        axes[0].set_ylabel("prediction − truth")
        return _svg(figure, "Bland-Altman plots of sizes")


def calibration_curves(evaluation: Evaluation) -> str:
    """Presence against how often the target is there, confidence against Dice; "" where neither was given."""
    reports = [system.presence[EVERYTHING] for system in evaluation.systems]
    if not any(report.bins or report.confidence_bins for report in reports):
        return ""
    with _style():
        figure, axes = _panels(2, height=3.7, width=8.6)
        names = [system.name for system in evaluation.systems]
        _reliability(axes[0], names, [report.bins for report in reports])
        axes[0].set_title("Presence", loc="left")
        axes[0].set_xlabel("claimed presence")
        axes[0].set_ylabel("share of scans with the target")
        _reliability(axes[1], names, [report.confidence_bins for report in reports])
        axes[1].set_title("Confidence", loc="left")
        axes[1].set_xlabel("claimed confidence")
        axes[1].set_ylabel("mean Dice" if "dice" in evaluation.metrics else "mean box IoU")
        axes[1].legend(frameon=False, loc="upper left", fontsize=9)
        return _svg(figure, "Calibration curves")


def _boxes(axis: Any, values: Sequence[Sequence[float]]) -> None:
    for place, found in enumerate(values):
        if not found:
            continue
        ink = colour(place)
        # Dots beside one another by their rank, not by chance: the same picture every time.
        jitter = np.modf(np.arange(len(found)) * 0.618034)[0] * 0.44 - 0.22
        axis.scatter(found, place + 1 + jitter, s=7, color=ink, alpha=0.4, linewidths=0)
        axis.boxplot(
            [found], positions=[place + 1], orientation="horizontal", widths=0.55, showfliers=False,
            patch_artist=True, boxprops={"facecolor": "none", "edgecolor": _INK},
            medianprops={"color": _INK, "linewidth": 2}, whiskerprops={"color": _INK},
            capprops={"color": _INK}, manage_ticks=False,
        )  # fmt: skip
        axis.scatter([np.mean(found)], [place + 1], marker="D", s=26, color="white", edgecolors=_INK, zorder=4)
    axis.grid(axis="x", color=_GRID, linewidth=0.6)
    axis.tick_params(axis="y", length=0)


def _reliability(axis: Any, names: Sequence[str], curves: Sequence[Sequence[CalibrationBin]]) -> None:
    axis.plot([0, 1], [0, 1], color=_DIM, linewidth=1, linestyle=(0, (4, 3)))
    for place, (name, bins) in enumerate(zip(names, curves, strict=True)):
        if not bins:
            continue
        total = sum(each.count for each in bins)
        x, y = [each.claimed for each in bins], [each.observed for each in bins]
        axis.plot(x, y, color=colour(place), linewidth=1.4, label=_short(name))
        sizes = [20 + 160 * each.count / total for each in bins]
        axis.scatter(x, y, s=sizes, color=colour(place), alpha=0.75, linewidths=0)
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.03)
    axis.set_aspect("equal")
    axis.grid(color=_GRID, linewidth=0.6)


def _sizes(system: SystemEvaluation) -> tuple[Any, Any, str]:
    """True and predicted sizes of answered scans, in the unit that most have."""
    units = [case.size_unit for case in system.cases if not math.isnan(case.predicted_size)]
    unit = max(sorted(set(units)), key=units.count, default="")
    shown = [c for c in system.cases if c.size_unit == unit and not math.isnan(c.predicted_size)]
    return np.array([c.truth_size for c in shown]), np.array([c.predicted_size for c in shown]), unit


def _defined(cases: Sequence[Case], key: str) -> list[float]:
    return sorted(case.values[key] for case in cases if not math.isnan(case.values.get(key, math.nan)))


def _rounded(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _panels(count: int, *, height: float, width: float, shared: bool = False) -> tuple[Any, list[Any]]:
    # The figure alone, without pyplot: nothing is shared with a program that draws figures of its own.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=shared, sharex=shared)[0])


def _svg(figure: Any, label: str) -> str:
    """The figure as an <svg> element without date, program and the ids that several of them would share."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[A-Za-z0-9_.]+">', "<g>", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
