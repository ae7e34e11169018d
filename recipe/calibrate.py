"""Calibrate the maps of a trained encoder: ``python -m recipe.calibrate --data DIR --encoder DIR``.

Training weighs what is rare, and some thousand steps leave some concepts unsure of themselves, so that the sigmoid of a
position is no probability: too wide for nuclei, too low for a pancreas.  A line for each concept mends that (Platt,
"Probabilistic outputs for support vector machines", 1999): slope and offset of the log-odds, by maximum likelihood over
positions of scans that show the concept.  Beside it goes how small a concept may be, so that nobody drops a gallbladder
as a speck.  The scans are of the training part; the patients that are scored are not looked at.  Both go into the
encoder's folder, where `open_clip_known.read_known` finds them.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

import lexiseg
from lexiseg.models.encoders.open_clip_known import CALIBRATION
from lexiseg.models.loading import load_encoder
from lexiseg.values.calibration import AS_IT_IS, Calibration
from recipe.data import TRAINING_SETS, Sample
from recipe.sets import all_samples, load_sets

logger = logging.getLogger(__name__)

BOXED = frozenset({"cheng"})
"""Sets without outlines: an ellipse in a box is no truth to be calibrated by."""
SIDE = 192
"""Of the square that positions are brought to, pixels."""
DRAWN = 4000
"""Positions taken of each scan."""
FEWEST = 8
"""Scans that a line is fitted to, at least."""
BOUNDS = ((0.25, 4.0), (-6.0, 6.0))
SMALL = 5
"""Per cent of a concept's scans that show less of it than its smallest share."""


@dataclass
class Positions:
    """Of one concept: log-odds and whether they lie in its mask, of each scan as many.

    Attributes:
        log_odds: float32 (n,) of each scan.
        inside: bool (n,) likewise.
        shares: of each scan that the mask covers.
    """

    log_odds: list[NDArray[np.float32]] = field(default_factory=list)
    inside: list[NDArray[np.bool_]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def measured(self) -> Calibration:
        """The line of the highest likelihood, and the share that few scans are below."""
        return Calibration(*fit_line(self), smallest=float(np.percentile(self.shares, SMALL)))


def fit_line(positions: Positions) -> tuple[float, float]:
    """Slope and offset of the highest likelihood, every scan weighing the same; neither leaves `BOUNDS`.

    Example:
        >>> sure = Positions([np.linspace(-4, 4, 800, dtype=np.float32)], [np.linspace(-4, 4, 800) > 1])
        >>> slope, offset = fit_line(sure)
        >>> round(-offset / slope, 1)
        1.0
    """
    weights = np.concatenate([np.full(len(each), 1 / len(each)) for each in positions.log_odds])
    found = np.concatenate(positions.log_odds).astype(np.float64)
    truth = np.concatenate(positions.inside).astype(np.float64)
    weights /= weights.sum()

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * found + line[1]
        wrong = weights * (1 / (1 + np.exp(-odds)) - truth)
        return float((weights * (np.logaddexp(0, odds) - truth * odds)).sum()), np.array(
            [(wrong * found).sum(), wrong.sum()]
        )

    slope, offset = minimize(loss, AS_IT_IS[:2], jac=True, method="L-BFGS-B", bounds=BOUNDS).x
    return float(slope), float(offset)


@torch.inference_mode()
def look(encoder: Any, sample: Sample, places: dict[str, Tensor], seed: int) -> dict[str, tuple[Any, Any]]:
    """Positions of one scan by concept, of those that it shows: log-odds and whether they lie inside, (n,) each.

    Args:
        encoder: with dense embeddings.
        sample: letterboxed to the encoder's input, uint8.
        places: of its concepts at least, (E,) each.
        seed: of the draw of positions.
    """
    pixels = torch.from_numpy(sample.image).float().div(255)
    pixels = pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    dense = encoder.encode_dense(pixels[None])[0]
    height, width = sample.valid
    top, left = (sample.image.shape[0] - height) // 2, (sample.image.shape[1] - width) // 2
    found = {}
    for concept, mask in sample.masks.items():
        log_odds = encoder.logit_scale * torch.einsum("ehw,e->hw", dense, places[concept]) + encoder.logit_bias
        log_odds, truth = (
            F.interpolate(each.float()[None, None], sample.image.shape[:2], mode="bilinear")[0, 0][
                top : top + height, left : left + width
            ]
            for each in (log_odds, torch.from_numpy(mask > 0))
        )
        scale = SIDE / max(sample.image.shape[:2])
        odds, inside = (
            F.interpolate(each[None, None], scale_factor=scale, mode="area").flatten().numpy()
            for each in (log_odds, truth)
        )
        picked = np.random.default_rng(seed).permutation(len(odds))[:DRAWN]
        found[concept] = odds[picked], inside[picked] > 0.5
    return found


def calibrate(encoder: Any, samples: Iterable[Sample], *, progress: int = 100) -> dict[str, Calibration]:
    """What is measured of every concept that enough of the samples show."""
    places: dict[str, Tensor] = {}
    by_concept: dict[str, Positions] = defaultdict(Positions)
    for number, sample in enumerate(samples):
        new = [concept for concept in sample.masks if concept not in places]
        if new:
            places |= dict(zip(new, encoder.encode_text(new), strict=True))
        for concept, (odds, inside) in look(encoder, sample, places, number).items():
            if inside.any():
                by_concept[concept].log_odds.append(odds)
                by_concept[concept].inside.append(inside)
                by_concept[concept].shares.append(float((sample.masks[concept] == 1).sum() / np.prod(sample.valid)))
        if number % progress == progress - 1:
            logger.info("%d scans", number + 1)
    return {name: each.measured for name, each in sorted(by_concept.items()) if len(each.log_odds) >= FEWEST}


def some(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """Those that show a concept, at most so many for each set and concept, by chance; none comes twice."""
    drawn = random.Random(seed).sample(range(len(samples)), len(samples))
    count: Counter[tuple[str, str]] = Counter()
    kept = []
    for number in drawn:
        sample = samples[number]
        shown = [(sample.source, concept) for concept in sample.masks]
        if any(count[each] < limit for each in shown):
            count.update(shown)
            kept.append(number)
    return [samples[number] for number in sorted(kept)]


def main(
    *,
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    encoder: Annotated[Path, typer.Option(help="an open_clip folder with known wordings")],
    folds: Annotated[str, typer.Option(help="of the patients that the encoder was trained on")] = "1,2",
    limit: Annotated[int, typer.Option(help="scans of each set and concept")] = 32,
    map_only: Annotated[
        list[str] | None,
        typer.Option(
            help="a concept that the map alone draws better, as kinds.py --fold 1 with and without --maps says"
        ),
    ] = None,
    threads: int = 1,
) -> None:
    """Write the encoder's calibration into its folder; what lies there of a former one is not looked at."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    torch.set_num_threads(threads)
    (encoder / CALIBRATION).unlink(missing_ok=True)
    model: Any = load_encoder(str(encoder), device="cpu", precision="float32")
    held = [int(fold) for fold in folds.split(",")]
    outlined = [name for name in (*TRAINING_SETS, *load_sets()[1]) if name not in BOXED]
    samples = [*all_samples(data, model.input_size, validation=True, fold=held, names=outlined)]
    found = calibrate(model, some(samples, limit, 0))
    told = f"python -m recipe.calibrate --data DIR --encoder DIR --folds {folds} --limit {limit}"
    told += "".join(f" --map-only '{name}'" for name in map_only or [])
    head = (
        "# Slope and offset that make a position's log-odds of each concept those of a calibrated probability, and\n"
        "# the share of a scan that it covers where it is small.\n"
        f"# lexiseg {lexiseg.__version__}, torch {torch.__version__}, {date.today()}; {told}\n"
    )
    lines = {name: [round(each.slope, 3), round(each.offset, 3)] for name, each in found.items()}
    smallest = {name: float(f"{each.smallest:.3g}") for name, each in found.items()}
    listed = yaml.safe_dump({"lines": lines, "smallest": smallest, "map_only": sorted(map_only or [])}, width=118)
    (encoder / CALIBRATION).write_text(head + listed, encoding="utf-8")
    logger.info("%d concepts", len(found))


if __name__ == "__main__":
    typer.run(main)
