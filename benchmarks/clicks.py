"""MobileSAM on real scans: against its published package, what int8 costs, and the bundled SAM beside it.

    python benchmarks/clicks.py --data ../shared/data [--checkpoint mobile_sam.pt] [--per-set 8] [--kept FOLDER]

Each scan is asked with the true boxes and with one click; where MobileSAMs are compared with each other, also with
clicks by chance. The published package is `mobile_sam`
(`pip install mobilesam-mirror`); without it, or without the checkpoint, its columns are left out. Of the sets that
the bundled SAM was trained on, only patients that it never saw are asked. With `--kept` each set's answers are
written to a file of that folder, and a set that has one is not asked again.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
import typer

from common import boxes_of, made_with, progress, scored_rows, table_head, table_row, truth_of
from lexiseg.evaluation.metrics.localisation import score_boxes
from lexiseg.io.read import read_scan
from lexiseg.models.loading import load_segmenter
from lexiseg.regions.refine import prompts_from_region
from lexiseg.regions.threshold import clean_mask
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Image

app = typer.Typer(add_completion=False)
_LEAST = 0.002  # of the scan: smaller parts of a true mask have no box of their own


@dataclass(frozen=True, eq=False)
class Asked:
    """What one scan is asked, and what is right.

    Attributes:
        boxes: (N, 4) of the true parts.
        click: (x, y), the innermost point of the largest part.
        truth: the true mask; None where only a box is known.
        part: its largest part, which the click asks for.
    """

    boxes: FloatArray
    click: FloatArray
    truth: BoolArray | None
    part: BoolArray | None


class Draws(Protocol):
    """A segmenter as this benchmark asks it."""

    def see(self, pixels: FloatArray) -> None:
        """Encode a scan."""

    def box(self, boxes: FloatArray) -> list[BoolArray]:
        """A mask for each box."""

    def click(self, point: FloatArray) -> BoolArray:
        """The best rated of three masks."""


class Ours:
    """A segmenter of lexiseg."""

    def __init__(self, ref: str) -> None:
        self._segmenter: Any = load_segmenter(ref, device="cpu", precision="float32")
        self._image: Any = None

    def see(self, pixels: FloatArray) -> None:
        """Encode a scan."""
        self._image = self._segmenter.encode(pixels)

    def box(self, boxes: FloatArray) -> list[BoolArray]:
        """A mask for each box."""
        decoded = self._segmenter.decode(self._image, boxes=boxes)
        return list((self._segmenter.upsample(decoded.logits[:, 0], self._image) > 0).numpy())

    def click(self, point: FloatArray) -> BoolArray:
        """The best rated of three masks."""
        decoded = self._segmenter.decode(
            self._image, points=point[None, None], labels=np.ones((1, 1), np.int64), multimask=True
        )
        logits = self._segmenter.upsample(decoded.logits[0], self._image)
        chosen: BoolArray = (logits[int(decoded.iou[0].argmax())] > 0).numpy()
        return chosen


class Published:
    """MobileSAM's own package on its own weights, as its README uses it."""

    def __init__(self, checkpoint: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mobile_sam import SamPredictor, sam_model_registry
        model = sam_model_registry["vit_t"](checkpoint=str(checkpoint))
        # Its attention reads a table that `eval` makes of the weights: called before they are loaded, of zeros.
        model.eval()
        self._predictor = SamPredictor(model)

    def see(self, pixels: FloatArray) -> None:
        """Encode a scan: 8 bits, resized by Pillow."""
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        self._predictor.set_image(np.rint(colour * 255).astype(np.uint8))

    def box(self, boxes: FloatArray) -> list[BoolArray]:
        """A mask for each box."""
        return [self._predictor.predict(box=box, multimask_output=False)[0][0] for box in boxes]

    def click(self, point: FloatArray) -> BoolArray:
        """The best rated of three masks; its points count by pixel index."""
        masks, rated, _ = self._predictor.predict(
            point_coords=point[None] - 0.5, point_labels=np.ones(1, np.int64), multimask_output=True
        )
        best: BoolArray = masks[int(rated.argmax())]
        return best


def questions(row: Any, folder: Path, scan: Any) -> Asked | None:
    """What a scan is asked; None where nothing is there to ask for."""
    truth = truth_of(row, folder, scan)
    if truth is None:
        boxes = np.array(boxes_of(row), np.float32).reshape(-1, 4)
        if not len(boxes):
            return None
        return Asked(boxes, (boxes[0, :2] + boxes[0, 2:]) / 2, None, None)
    if not truth.any():
        return None
    part = clean_mask(truth, keep="largest")
    click = prompts_from_region(part, boxes="none", points="center").points[0]
    boxes = prompts_from_region(truth, boxes="all", min_area=_LEAST).boxes
    return Asked(boxes if len(boxes) else prompts_from_region(truth).boxes, click, truth, part)


def right(mask: BoolArray, truth: BoolArray | None, boxes: FloatArray) -> float:
    """Dice, or the box IoU where there is no true mask."""
    return dice(mask, truth) if truth is not None else score_boxes([tuple(map(float, box)) for box in boxes], mask)


def iou(first: BoolArray, second: BoolArray) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


@app.command()
def compare(
    data: Annotated[Path, typer.Option(help="the folder with all sets")] = Path("../shared/data"),
    checkpoint: Annotated[Path | None, typer.Option(help="mobile_sam.pt as published")] = None,
    per_set: Annotated[int, typer.Option(help="scans of each set, by chance")] = 8,
    extra: Annotated[int, typer.Option(help="clicks by chance on each scan")] = 4,
    sets: Annotated[str, typer.Option(help="their names, by commas; all where empty")] = "",
    kept: Annotated[Path | None, typer.Option(help="folder for each set's answers")] = None,
    threads: int = 1,
) -> None:
    """Print Dice by set, and how far the masks of the three MobileSAMs agree."""
    torch.set_num_threads(threads)
    models: dict[str, Draws] = {"bundled": Ours("bundled"), "mobile-sam": Ours("mobile-sam")}
    if checkpoint is not None:
        models["mobile_sam.pt"] = Ours(str(checkpoint))
        if importlib.util.find_spec("mobile_sam"):
            models["published"] = Published(checkpoint)
    chosen = sets.split(",") if sets else sorted(p.name for p in data.iterdir() if (p / "manifest.csv").is_file())
    found: dict[str, Answers] = {}
    for name in chosen:
        file = kept / f"{name}.json" if kept is not None else None
        if file is not None and file.is_file():
            found[name] = json.loads(file.read_text())
            continue
        found[name] = ask_set(models, data / name, per_set=per_set, extra=extra)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found[name]) + "\n")
        progress.print(f"{name}: done")
    print(f"{made_with(f'{threads} threads')}; `{' '.join(['python', *sys.argv])}`\n")
    _print_scores(found, list(models))
    print()
    print(table_head(["masks of", "prompt", "n", "mean IoU", "lowest", "share at 0.99 and above"]))
    for (pair, prompt), ious in _joined(found, "agreement").items():
        values = np.array(ious)
        cells = [f"{values.mean():.4f}", f"{values.min():.3f}", f"{(values >= 0.99).mean():.3f}"]
        print(table_row([pair, prompt, len(values), *cells]))
    print()
    print(table_head(["", "seconds to encode, median"]))
    for (model, _), spent in _joined(found, "seconds").items():
        print(table_row([model, f"{np.median(spent):.2f}"]))


Answers = dict[str, dict[str, dict[str, list[float]]]]
"""Of a set: "scores", "agreement" and "seconds", each by model or pair, then by prompt."""


def ask_set(models: Mapping[str, Draws], folder: Path, *, per_set: int, extra: int) -> Answers:
    """Some scans of a set, asked of every model."""
    kept: Answers = {part: defaultdict(lambda: defaultdict(list)) for part in ("scores", "agreement", "seconds")}
    chance = np.random.default_rng(0)
    for row in scored_rows(folder, limit=per_set, wanted=lambda row: row["bbox"].strip()):
        scan = read_scan(folder / row["image"])
        assert isinstance(scan, Image)
        asked = questions(row, folder, scan)
        if asked is None:
            continue
        drawn: dict[str, tuple[list[BoolArray], list[BoolArray]]] = {}
        height, width = scan.pixels.shape[:2]
        clicks = np.vstack([asked.click[None], chance.random((extra, 2)) * (width, height)]).astype(np.float32)
        for model, draws in models.items():
            began = time.perf_counter()
            draws.see(scan.pixels)
            kept["seconds"][model]["encode"].append(time.perf_counter() - began)
            points = clicks if len(models) > 2 and model != "bundled" else clicks[:1]
            drawn[model] = draws.box(asked.boxes), [draws.click(point) for point in points]
            whole = np.any(drawn[model][0], axis=0)
            kept["scores"][model]["boxes"].append(right(whole, asked.truth, asked.boxes))
            kept["scores"][model]["click"].append(right(drawn[model][1][0], asked.part, asked.boxes))
        for one, other in (("mobile_sam.pt", "published"), ("mobile-sam", "mobile_sam.pt")):
            if one in drawn and other in drawn:
                for k, prompt in enumerate(("box", "click")):
                    pairs = zip(drawn[one][k], drawn[other][k], strict=True)
                    kept["agreement"][f"{one} and {other}"][prompt] += [iou(a, b) for a, b in pairs]
    return kept


def _joined(found: Mapping[str, Answers], part: str) -> dict[tuple[str, str], list[float]]:
    """All sets' numbers together."""
    joined: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answers in found.values():
        for model, prompts in answers[part].items():
            for prompt, values in prompts.items():
                joined[model, prompt] += values
    return joined


def _print_scores(found: Mapping[str, Answers], models: list[str]) -> None:
    pairs = [(prompt, model) for prompt in ("boxes", "click") for model in models]
    print(table_head(["set", "n", *(f"{prompt}, {model}" for prompt, model in pairs)]))
    means = []
    for name, answers in found.items():
        scores = answers["scores"]
        if not scores:
            print(table_row([name, 0, *(["none left out of training"] + [""] * (len(pairs) - 1))]))
            continue
        cells = [float(np.mean(scores[model][prompt])) for prompt, model in pairs]
        means.append(cells)
        print(table_row([name, len(scores[models[0]]["boxes"]), *(f"{cell:.3f}" for cell in cells)]))
    print(table_row(["mean of sets", "", *(f"{cell:.3f}" for cell in np.mean(means, axis=0))]))


if __name__ == "__main__":
    app()
