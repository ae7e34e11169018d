"""The metrics by name: what they are called, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric of one case.

    Attributes:
        key: its name in tables; distances end in their unit ("hd95_mm"), and NSD in its tolerance
            ("nsd_2mm"), so that millimetres and pixels never meet in one mean.
        title: its name for people.
        formula: in words or symbols.
        lower_is_better: True of distances.
        unit: "mm", "px" or "" for shares of one.
    """

    key: str
    title: str
    formula: str
    lower_is_better: bool = False
    unit: str = ""


METRICS: dict[str, tuple[str, str, bool]] = {
    "dice": ("Dice", "2 TP / (2 TP + FP + FN)", False),
    "iou": ("IoU", "TP / (TP + FP + FN)", False),
    "precision": ("Precision", "TP / (TP + FP)", False),
    "recall": ("Recall", "TP / (TP + FN)", False),
    "nsd": ("NSD", "share of both boundaries' pixels within the tolerance of the other", False),
    "hd95": ("HD95", "larger of the two directions' 95th percentile of boundary distances", True),
    "assd": ("ASSD", "mean distance over both boundaries' pixels", True),
    "box_iou": ("Box IoU", "mean IoU of true boxes with the predicted boxes matched to them", False),
    "saliency_auc": ("Saliency AUC", "how often a pixel inside is more salient than one outside", False),
    "pointing": ("Pointing game", "share of the most salient pixels that lie inside", False),
}
"""Title, formula and whether lower is better, by the key without its unit; in the order of tables."""


def metric_of(key: str) -> Metric:
    """The metric of a table's key, such as "dice", "nsd_2mm" or "hd95_px".

    Raises:
        KeyError: no such metric.
    """
    if key in METRICS:
        return Metric(key, *METRICS[key])
    base, _, rest = key.rpartition("_")
    title, formula, lower = METRICS[base]
    unit = rest[-2:]
    amount = f"{title} at {rest[:-2]} {unit}" if base == "nsd" else f"{title} ({unit})"
    return Metric(key, amount, formula, lower, unit if lower else "")


def in_order(keys: set[str]) -> list[str]:
    """Keys in the order of tables, mm before px."""
    names = list(METRICS)
    return sorted(keys, key=lambda key: (names.index(key if key in METRICS else key.rpartition("_")[0]), key))
