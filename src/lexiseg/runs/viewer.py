"""A result as one HTML document: the page's viewer with the result inside, for notebooks and for sending on."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.files import atomic_write
from lexiseg.io.pictures import COLOURS
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import box_of
from lexiseg.values.scans import Planes

_MOST_BYTES = 24 * 2**20
"""Of a volume's slices in a document; more are thinned out, and the figure says so."""

# The core of the page, in an order in which each needs only what stands before it.
_MODULES = ("bits.js", "tones.js", "marks.js", "pane.js", "figure.js")
_IMPORT = re.compile(r"^import\b.*?;\n", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_SMALL = 96

_STYLE = """
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
[hidden] { display: none; }
body { margin: 0; font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
#figure { display: flex; flex-direction: column; height: 100vh; min-height: 240px; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 18px; padding: 8px 12px; }
.legend label { display: flex; align-items: center; gap: 7px; }
.gap { flex: 1; }
.dot { width: 12px; height: 12px; border-radius: 50%; flex: none; }
.scan { position: relative; flex: 1; min-height: 0; background: #07090c; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; }
.words { position: absolute; left: 12px; top: 8px; color: #e8edf5; font-weight: 600; font-size: 12px; }
input[type=range] { margin: 8px 12px; accent-color: #0f766e; }
.note { margin: 0; padding: 4px 12px 8px; font-size: 12.5px; }
"""

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="figure"></main>
<script type="module">
{script}
showFigure(document.getElementById("figure"), {data});
</script>
</body>
</html>
"""


@dataclass(frozen=True, eq=False)
class View:
    """A figure of a result that can be looked through: slices, masks, heat, zoom and window.

    Attributes:
        html: the whole document; it asks no server for anything.
        height: of the figure in a notebook, px.
    """

    html: str
    height: int = 560

    def save(self, path: str | Path) -> Path:
        """Write the document.

        Raises:
            UnwritableResult: the file system refused.
        """
        return atomic_write(path, lambda file: file.write(self.html.encode()))

    def _repr_html_(self) -> str:
        # A frame of its own: the figure cannot reach the notebook, nor the notebook's styles the figure.
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" title="Segmentation" '
            f'width="100%" height="{self.height}" frameborder="0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<View, {len(self.html) // 1024} KB of HTML>"


def view_result(result: Result, shown: Planes) -> View:
    """A figure of a result.

    Args:
        result: its targets; a heat map is offered where stages were kept.
        shown: the scan's planes, as the pipeline saw them.

    Returns:
        The figure. Slices of a large volume are thinned out to 24 MB, every second or every third ...; it then
        says so.
    """
    height, width = shown[0].shape
    colour = shown[0].pixels.ndim == 3
    step = max(1, math.ceil(len(shown) * height * width * (3 if colour else 1) / _MOST_BYTES))
    kept = range(0, len(shown), step)
    notes = [] if step == 1 else [f"One slice of {step} is shown: the whole volume is too large for a document."]
    spacing = shown[0].spacing
    data = {
        "id": result.id,
        "width": width,
        "height": height,
        "colour": colour,
        "spacing": None if spacing is None else list(spacing),
        "letters": shown.letters,
        "plane": shown.axes.name if shown.axes is not None else "",
        "count": len(shown),
        "start": _start(result, shown, kept),
        "planes": [{"index": k, "pixels": _base64(shown[k].pixels)} for k in kept],
        "targets": [
            {"name": target.phrase, "words": _words(target), "colour": COLOURS[i % len(COLOURS)],
             "slices": _slices(target, shown, kept)}
            for i, target in enumerate(result.targets)
        ],
        "notes": notes,
    }  # fmt: skip
    # "<" would let a phrase end the script.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return View(_DOCUMENT.format(title=html.escape(result.id), style=_STYLE, script=_script(), data=text))


def _script() -> str:
    """The page's core as one script: its modules know no address to import each other from."""
    folder = resources.files("lexiseg") / "serve" / "page" / "core"
    parts = [(folder / name).read_text(encoding="utf-8") for name in _MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


def _words(target: TargetResult) -> str:
    numbers = [("presence", target.presence), ("confidence", target.confidence)]
    return ", ".join([target.verdict, *(f"{name} {value:.2f}" for name, value in numbers if not math.isnan(value))])


def _start(result: Result, shown: Planes, kept: Sequence[int]) -> int:
    """The place, among those kept, where most is drawn."""
    drawn = sum((shown.cut(target.mask).sum(axis=(1, 2)) for target in result.targets), np.zeros(len(shown)))
    return int(np.argmax(drawn[list(kept)])) if drawn.any() else len(kept) // 2


def _slices(target: TargetResult, shown: Planes, kept: Sequence[int]) -> dict[str, Any]:
    masks = shown.cut(target.mask)
    found: dict[str, Any] = {}
    for place, k in enumerate(kept):
        told: dict[str, Any] = {}
        if masks[k].any():
            told["mask"] = _bits(masks[k])
        if target.prompts and len(target.prompts[k].boxes):
            told["boxes"] = [[float(edge) for edge in box] for box in target.prompts[k].boxes]
        if len(target.saliency) == len(shown):
            told["saliency"] = _heat(target.saliency[k].map)
        if told:
            found[str(place)] = told
    return found


def _bits(mask: BoolArray) -> dict[str, Any]:
    """A mask as its box, end-exclusive, and the bits within."""
    x0, y0, x1, y1 = box = box_of(mask)
    inner = mask[y0:y1, x0:x1]
    return {"box": list(box), "bits": base64.b64encode(np.packbits(inner).tobytes()).decode()}


def _heat(saliency: FloatArray) -> dict[str, Any]:
    step = max(1, math.ceil(max(saliency.shape) / _SMALL))
    small = saliency[step // 2 :: step, step // 2 :: step]
    return {"height": small.shape[0], "width": small.shape[1], "values": _base64(small)}


def _base64(shares: FloatArray) -> str:
    return base64.b64encode(np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8).tobytes()).decode()
