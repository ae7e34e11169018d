"""Does fine-tuning on pairs help, and which loss?  Retrieval, saliency, masks, speed: one command.

    python benchmarks/finetune.py --data DIR [--seeds 3] [--work DIR] [--out report.json]

DIR holds busi/, cxr/, hc18/ and cheng/, each with manifest.csv and a caption for each image.  The bundled
encoder is fine-tuned with each loss and seed on phantoms and on the training part of these sets; measured is
on phantoms of other seeds and on the validation part (one of five patient folds), which no training ever
saw.  With --work a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import logging
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console

import lexiseg
from finetune_speed import speed_table
from lexiseg.datasets.pairs.pairs import Pair, PairSet
from lexiseg.datasets.pairs.phantoms import phantom_pair, write_phantom_pairs
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.datasets.phantoms.registry import MODALITIES
from lexiseg.evaluation.retrieval import DIRECTIONS, Retrieval
from lexiseg.evaluation.statistics import compare_pairs, summarise
from lexiseg.io.masks import read_mask
from lexiseg.models.loading import load_encoder
from lexiseg.training.finetuning.data import readable
from lexiseg.training.finetuning.embedding import measure_retrieval
from lexiseg.training.finetuning.finetune import finetune
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.values.overlap import dice
from recipe.data import TRAINING_SETS, split_rows

LOSSES = ("infonce", "dcl", "hn-nce", "dhn-nce")
BEFORE = "before"
MEASURES = ("top-1", "top-2")
TEST_SEED = 700_000  # of phantoms: far from those that the bundled models and the training pairs have
TARGETS = {"busi": "breast tumor", "cxr": "lungs", "hc18": "fetal head"}
progress = Console(stderr=True)


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    seeds: int
    epochs: int
    batch: int
    train: int
    test: int
    rate: float
    temperature: float
    size: int


def real_pairs(data: Path, *, validation: bool, limit: int) -> list[Pair]:
    """Pairs of the real sets' training or validation part, evenly thinned to a limit."""
    pairs = [
        Pair(image=data / name / row["image"], text=row["text"], group=f"{name}/{row['group']}")
        for name in TRAINING_SETS
        for row in split_rows(data / name, validation=validation)
    ]
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int)]


def phantoms(folder: Path, count: int, seed: int, size: int) -> list[Pair]:
    """Phantoms with compositional captions, made once."""
    if not (folder / "pairs.csv").exists():
        write_phantom_pairs(folder, count=count, seed=seed, size=size, workers=2)
    return list(read_pairs(folder).pairs)


def measured(encoder: str, sets: dict[str, list[Pair]]) -> dict[str, Retrieval]:
    """Retrieval of one encoder on each test set."""
    model = load_encoder(encoder, device="cpu")
    found = {}
    for name, pairs in sets.items():
        kept, store = readable(PairSet(tuple(pairs)), model.input_size)
        found[name] = measure_retrieval(model, kept.pairs, store)
    return found


def train_all(train: Sequence[Pair], work: Path, plan: Plan) -> dict[str, list[str]]:
    """Folders of the fine-tuned encoders, by loss."""
    folders: dict[str, list[str]] = {}
    for loss in LOSSES:
        for seed in range(plan.seeds):
            out, began = work / f"{loss}-{seed}", time.monotonic()
            settings = FinetuneSettings(
                loss=loss, seed=seed, epochs=plan.epochs, batch=plan.batch, learning_rate=plan.rate,
                temperature=plan.temperature, patience=0, precision="auto",
            )  # fmt: skip
            finetune(PairSet(tuple(train)), out, settings=settings, device="cpu", resume=True)
            progress.print(f"{loss}, seed {seed}: {time.monotonic() - began:.0f} s")
            folders.setdefault(loss, []).append(str(out))
    return folders


def hits_of(found: Sequence[Retrieval], direction: str, measure: str) -> np.ndarray:
    """Each query's success, the mean over seeds."""
    return np.mean([each.score(direction, measure).hits for each in found], axis=0)


def print_retrieval(
    results: dict[str, list[dict[str, Retrieval]]], sets: dict[str, list[Pair]]
) -> list[dict[str, Any]]:
    """Means with intervals, and every loss against the encoder before and against InfoNCE."""
    rows = []
    print("| test set | measure | direction | " + " | ".join(results) + " |")
    print("|---" * (3 + len(results)) + "|")
    tests = []
    for name, pairs in sets.items():
        groups = [pair.group for pair in pairs]
        for measure in MEASURES:
            for direction in DIRECTIONS:
                values, cells = {}, []
                for system, seeds in results.items():
                    found = [each[name] for each in seeds]
                    hits = hits_of(found, direction, measure)
                    known = np.isfinite(hits)
                    values[system] = hits.tolist()
                    summary = summarise(hits[known].tolist(), [g for g, k in zip(groups, known, strict=True) if k])
                    spread = np.std([each.score(direction, measure).value for each in found], ddof=0)
                    low, high = summary.interval
                    cells.append(f"{summary.mean:.1%} ({low:.1%} to {high:.1%}; seeds ± {spread:.1%})")
                    rows.append(
                        {"set": name, "measure": measure, "direction": direction, "system": system,
                         "mean": summary.mean, "low": low, "high": high, "seeds": float(spread)}
                    )  # fmt: skip
                print(f"| {name} | {measure} | {direction} | {' | '.join(cells)} |")
                tests += [(name, measure, direction, c) for c in compare_pairs(measure, values, groups)]
    print("\nPaired tests (Wilcoxon over patients, Holm over the pairs of systems; seeds averaged):\n")
    print("| test set | measure | direction | first - second | difference | 95 % interval | p, Holm | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for name, measure, direction, each in tests:
        if each.first not in (BEFORE, "infonce") and each.second not in (BEFORE, "infonce"):
            continue
        verdict = "differs" if each.p_holm < 0.05 else "no significant difference"
        low, high = each.interval
        print(
            f"| {name} | {measure} | {direction} | {each.first} - {each.second} | {each.difference:+.1%} | "
            f"{low:+.1%} to {high:+.1%} | {each.p_holm:.3g} | {verdict} |"
        )
    return rows


def print_hard_negatives(folders: dict[str, list[str]], count: int, size: int) -> list[dict[str, Any]]:
    """How often the true caption of a phantom beats one that is wrong in one attribute."""
    pairs = [phantom_pair(MODALITIES[k % 4], TEST_SEED + 10_000 + k // 4, size=size) for k in range(count)]
    print("\n| encoder | true caption preferred to one wrong in a single attribute |\n|---|---|")
    rows = []
    for system, places in folders.items():
        shares = []
        for place in places:
            encoder = load_encoder(place, device="cpu")
            right = []
            for pair in pairs:
                if not pair.negatives:
                    continue
                text = encoder.encode_text([pair.text, *(each.text for each in pair.negatives)])
                pixels = torch.from_numpy(pair.phantom.scan.pixels)[None, None].expand(1, 3, -1, -1)
                side = encoder.input_size
                image = encoder.encode_image(
                    torch.nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
                )
                scores = (text @ image[0]).tolist()
                # level where the difference lies beyond what the text tower reads
                right += [0.5 * ((scores[0] > score) + (scores[0] >= score)) for score in scores[1:]]
            shares.append(float(np.mean(right)))
        rows.append({"system": system, "shares": shares})
        print(f"| {system} | {np.mean(shares):.1%} (seeds ± {np.std(shares):.1%}) |")
    return rows


def print_saliency(data: Path, folders: dict[str, list[str]], scans: int) -> list[dict[str, Any]]:
    """Dice of the saliency at one half and of the final mask, before and after DHN-NCE."""
    chosen = {system: folders[system] for system in (BEFORE, "dhn-nce")}
    scores: dict[str, dict[str, list[float]]] = {"saliency": {}, "final mask": {}}
    groups: list[str] = []
    for system, places in chosen.items():
        parts: dict[str, list[list[float]]] = {"saliency": [], "final mask": []}
        for place in places:
            # no threshold of presence: fine-tuning moves the scale that it is calibrated on
            segment = lexiseg.load("demo", device="cpu", encoder=place, presence={"threshold": 0.0})
            maps, masks, groups = [], [], []
            for name, phrase in TARGETS.items():
                rows = [row for row in split_rows(data / name, validation=True) if row["bbox"]]
                for index in np.linspace(0, len(rows) - 1, min(scans, len(rows))).astype(int):
                    row = rows[index]
                    scan = lexiseg.read_scan(data / name / row["image"])
                    truth = read_mask(data / name / row["mask"], scan)
                    found = segment(scan, phrase, keep_stages=True)[phrase]
                    maps.append(dice(found.saliency[0].map >= 0.5, truth))
                    masks.append(dice(found.mask, truth))
                    groups.append(f"{name}/{row['group']}")
            parts["saliency"].append(maps)
            parts["final mask"].append(masks)
        for stage, values in parts.items():
            scores[stage][system] = np.mean(values, axis=0).tolist()
    print(f"\n| Dice, {len(groups)} held-out scans | before | after DHN-NCE | difference | 95 % interval | p |")
    print("|---|---|---|---|---|---|")
    rows_out = []
    for stage, values in scores.items():
        (each,) = compare_pairs("dice", {"dhn-nce": values["dhn-nce"], BEFORE: values[BEFORE]}, groups)
        means = f"{np.mean(values[BEFORE]):.3f} | {np.mean(values['dhn-nce']):.3f}"
        low, high = each.interval
        print(f"| {stage} | {means} | {each.difference:+.3f} | {low:+.3f} to {high:+.3f} | {each.p:.3g} |")
        rows_out.append({"stage": stage, "difference": each.difference, "low": low, "high": high, "p": each.p})
    return rows_out


def main(
    data: Annotated[Path, typer.Option(help="folder with busi, cxr, hc18 and cheng")],
    seeds: int = 3,
    epochs: int = 3,
    batch: int = 32,
    train: Annotated[int, typer.Option(help="training pairs of phantoms, and as many real ones")] = 200,
    test: Annotated[int, typer.Option(help="test pairs of phantoms, and as many real ones at most")] = 200,
    rate: float = 5e-4,
    temperature: float = 0.1,
    size: Annotated[int, typer.Option(help="of phantoms, pixels")] = 192,
    scans: Annotated[int, typer.Option(help="of each set, for saliency")] = 25,
    speed: bool = True,
    work: Annotated[Path | None, typer.Option(help="where pairs and encoders are kept")] = None,
    out: Annotated[Path | None, typer.Option(help="also write the numbers as JSON")] = None,
) -> None:
    """Print every table again."""
    logging.getLogger("lexiseg").setLevel(logging.ERROR)
    plan = Plan(seeds, epochs, batch, train, test, rate, temperature, size)
    with tempfile.TemporaryDirectory() as temporary:
        place = work or Path(temporary)
        made = phantoms(place / "train", train, 0, size)
        sets = {
            "phantoms": phantoms(place / "test", test, TEST_SEED, size),
            "real": real_pairs(data, validation=True, limit=test),
        }
        print(
            f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, Python {platform.python_version()}, ",
            end="",
        )
        print(f"{torch.get_num_threads()} threads, {date.today()}\n{plan}\n")
        real = real_pairs(data, validation=False, limit=train)
        folders = {BEFORE: ["bundled"], **train_all([*made, *real], place, plan)}
        results = {system: [measured(each, sets) for each in places] for system, places in folders.items()}
        report: dict[str, Any] = {"plan": str(plan), "retrieval": print_retrieval(results, sets)}
        report["hard negatives"] = print_hard_negatives(folders, min(200, test), size)
        report["saliency"] = print_saliency(data, folders, scans)
        if speed:
            print()
            # Its large batch is 16 times this one, and must not be more than the phantoms there are.
            batch = max(1, train // 25)
            report["speed"] = speed_table(place / "train" / "pairs.csv", batch=batch, limit=train)
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
