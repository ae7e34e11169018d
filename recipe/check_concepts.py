"""How far an image tower has come, without words: ``python -m recipe.check_concepts --concepts DIR --data DIR``.

Patients that are kept back, each scan once and unchanged.  A concept's map is the probability at each position against
its place, its presence the weighted geometric mean of the map's loudest hundredth and of the whole scan, as in the
preset `demo`; an absent verdict counts as an empty mask.  What kind of scan is in view can gate it: presence times the
share of the kinds' softmax that may hold the concept.  No segmenter is asked: final masks are finer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from lexiseg.evaluation.metrics.classification import auroc
from lexiseg.values.overlap import dice
from recipe.augment import AugmentSettings, augment
from recipe.concept_encoder import ConceptEncoder, begin_from_bundled
from recipe.data import Sample
from recipe.export import CONCEPTS
from recipe.sets import KIND, all_samples, concepts, load_sets, status
from recipe.train import CONFIG

THRESHOLD, GLOBAL, LOUDEST = 0.3, 0.6, 0.01
"""Of the preset `demo`: presence's threshold, the share of the whole scan in it, the share of positions that count."""


def load_concepts(folder: Path | None, settings: Mapping[str, Any]) -> ConceptEncoder:
    """A trained tower with its places; without a folder as the training begins, a bundled tower.

    Raises:
        ValueError: the folder's concepts are not those of today's sets.
    """
    model = ConceptEncoder(settings, concepts())
    if folder is None:
        begin_from_bundled(model, settings["from_bundled"])
    else:
        names = json.loads((folder / "concepts.json").read_text())["names"]
        if tuple(names) != model.names:
            raise ValueError(f"{folder} was trained for other concepts than sets.yaml and the recipe name today")
        model.load_state_dict(load_file(folder / CONCEPTS))
    return model.eval()


@torch.inference_mode()
def answer(model: ConceptEncoder, sample: Sample, settings: Mapping[str, Any], side: int) -> dict[str, Any]:
    """One scan: presence of every concept, the share of every kind, and Dice of those that are there."""
    view = augment(sample, side, np.random.default_rng(0), AugmentSettings(), settings["mean"], plain=True)
    pixels = (view.pixels.expand(3, -1, -1)[None] - settings["mean"]) / settings["std"]
    dense, whole, places = model(pixels, torch.zeros_like(model.places))
    scale, bias = model.logit_scale.exp(), model.logit_bias
    maps = torch.einsum("ehw,ke->khw", dense[0], places) * scale + bias
    logits = whole[0] @ places.T * scale + bias
    presence = presence_of(maps.sigmoid().flatten(1), logits.sigmoid())
    kinds = [k for k, name in enumerate(model.names) if name.startswith(KIND)]
    shares = torch.softmax(logits[kinds], 0)
    gate = gates(dict(zip((model.names[k].removeprefix(KIND) for k in kinds), shares.tolist(), strict=True)))
    found: dict[str, Any] = {"kind": sample.organ, "source": sample.source, "group": sample.group, "dice": {}}
    found["seen as"] = model.names[kinds[int(shares.argmax())]].removeprefix(KIND)
    found["presence"] = {n: float(presence[k]) for k, n in enumerate(model.names) if n and k not in kinds}
    found["gated"] = {n: value * gate.get(n, 0.0) for n, value in found["presence"].items()}
    found["absent"] = [n for n in found["presence"] if status(sample, n) is False]
    for name, mask in view.masks.items():
        wide = functional.interpolate(maps[model.names.index(name)][None, None], size=mask.shape, mode="bilinear")
        drawn = (wide[0, 0] > 0).numpy() if found["presence"][name] >= THRESHOLD else np.zeros(mask.shape, bool)
        found["dice"][name] = dice(drawn & (mask >= 0).numpy(), (mask > 0.5).numpy())
    return found


def presence_of(maps: Tensor, whole: Tensor) -> Tensor:
    """Probabilities (K, positions) and of the whole scan (K,) to presences (K,)."""
    count = max(1, round(LOUDEST * maps.shape[1]))
    return torch.as_tensor(maps.topk(count, 1).values.mean(1) ** (1 - GLOBAL) * whole**GLOBAL)


def gates(shares: Mapping[str, float]) -> dict[str, float]:
    """Concept -> the share of those kinds of scan that may hold it."""
    kinds, _ = load_sets()
    found: dict[str, float] = defaultdict(float)
    for name, share in shares.items():
        for concept in kinds[name].may:
            found[concept] += share
    return found


def area(presences: Iterable[float], there: Iterable[bool]) -> float:
    """AUROC of presences; NaN without both kinds."""
    scores, known = np.array([*presences], np.float64), np.array([*there], bool)
    return float(auroc(scores, known)[0]) if 0 < known.sum() < len(known) else float("nan")


def score_lines(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each set and concept: scans, Dice, AUROC against scans of the same kind, and against all."""
    yield "set | concept | scans | Dice of the map | found | AUROC, own kind | AUROC, all kinds"
    for source in dict.fromkeys(a["source"] for a in answers):
        own = [a for a in answers if a["source"] == source]
        for name in dict.fromkeys(n for a in own for n in a["dice"]):
            shown = [a for a in own if name in a["dice"]]
            found = np.mean([a["presence"][name] >= THRESHOLD for a in shown])
            areas = []
            for others in ([a for a in answers if a["kind"] == shown[0]["kind"]], answers):
                without = [a for a in others if name in a["absent"]]
                value = area(
                    [a["gated"][name] for a in (*shown, *without)], [True] * len(shown) + [False] * len(without)
                )
                areas.append("" if np.isnan(value) else f"{value:.3f} ({len(without)})")
            mean = np.mean([a["dice"][name] for a in shown])
            yield f"{source} | {name} | {len(shown)} | {mean:.3f} | {found:.0%} | {' | '.join(areas)}"


def kind_lines(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each kind of scan: seen as itself, and other kinds' concepts absent without and with the gate."""
    kinds, _ = load_sets()
    yield "kind | scans | seen as itself | others absent | with the gate | the loudest"
    rows: list[NDArray[np.float64]] = []
    for kind in dict.fromkeys(a["kind"] for a in answers):
        own = [a for a in answers if a["kind"] == kind]
        elsewhere = [n for n in own[0]["presence"] if n not in kinds[kind].may]
        silent = {
            how: np.array([[a[how][n] < THRESHOLD for n in elsewhere] for a in own]) for how in ("presence", "gated")
        }
        rows.append(np.array([[v.mean() for v in silent.values()]]))
        loud = sorted(zip(silent["presence"].mean(0), elsewhere, strict=True))[:3]
        told = ", ".join(f"{n} {1 - share:.0%}" for share, n in loud if share < 1)
        seen = np.mean([a["seen as"] == kind for a in own])
        yield f"{kind} | {len(own)} | {seen:.0%} | {rows[-1][0, 0]:.1%} | {rows[-1][0, 1]:.1%} | {told}"
    mean = np.concatenate(rows).mean(0)
    yield f"mean of kinds | {len(answers)} | | {mean[0]:.1%} | {mean[1]:.1%} |"


def chosen(data: Path, name: str, settings: Mapping[str, Any], limit: int) -> list[Sample]:
    """At most `limit` scans of a set's held-back patients, spread evenly over them."""
    samples = list(all_samples(data, settings["store_size"], validation=True, fold=settings["fold"], names=[name]))
    step = max(1, len(samples) // limit) if limit else 1
    return [*islice(samples[::step], limit or None)]


def main(
    *,
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    concepts: Annotated[Path | None, typer.Option(help="what `recipe.train next` exported; none: as it begins")] = None,
    limit: Annotated[int, typer.Option(help="scans of each set; 0 for all that are kept back")] = 0,
    side: Annotated[int, typer.Option(help="pixels of the square")] = 256,
    threads: int = 1,
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
) -> None:
    """Print how well each concept is drawn, told and denied."""
    torch.set_num_threads(threads)
    recipe = yaml.safe_load(config.read_text())
    model = load_concepts(concepts, recipe["next"])
    answers = [
        answer(model, sample, recipe["next"], side)
        for name in load_sets()[1]
        if (data / name / "manifest.csv").is_file()
        for sample in chosen(data, name, recipe, limit)
    ]
    typer.echo("\n".join([*score_lines(answers), "", *kind_lines(answers)]))


if __name__ == "__main__":
    typer.run(main)
