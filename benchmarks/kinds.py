"""Every set, every target, every kind of scan: masks by text, false alarms elsewhere, presence, other wordings.

    python benchmarks/kinds.py --data DIR [--encoder DIR] [--limit N] [--out kinds.json]
    python benchmarks/kinds.py --tables kinds.json [--beside maps.json]

DIR holds the sets of recipe/sets.yaml, and lgg.  Scored are the patients of one fold, which no training saw; of lgg
all.  Each scan is asked once for all targets' names, so that the table of kinds of scan and other kinds' targets
costs nothing more, and for wordings of its own targets that the recipe holds out of every training.  Dice; box IoU of
the largest piece where there are boxes alone.  An absent or unknown target counts as an empty mask.  With `--maps` no
segmenter is asked: the mask is the map above one half; a report of that `--beside` one of masks says which targets the
map alone draws better.  Each set is written when it is done: a run that is started
again does those that are missing.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from rich.progress import track

import lexiseg
from common import auroc, interval, made_with, progress, score, score_name, scored_rows, table_head, table_row
from lexiseg.models.protocols import word_judge
from lexiseg.pipelines.preset import merge_settings
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import dice
from recipe.data import TRAINING_SETS
from recipe.sets import Source, load_sets, masks_of
from recipe.wordings import load_targets

MAPS = ("regions.threshold=0.5", "mask.fusion=region")
MAP_ONLY = 0.03
"""By how much a map must be better than the mask, in Dice, for a target to be drawn by it alone."""
LGG = Source(name="lgg", kind="brain", draws={"glioma": "brain tumor"})
NONSENSE = ("glimmering teapot", "zorblax frim", "parking ticket", "krontium", "tennis racket")
OLDER = {"busi": "breast tumor", "cxr": "lungs", "hc18": "fetal head", "cheng": "brain tumor", "lgg": "brain tumor"}
KINDS, SOURCES = load_sets()
SCANS = {
    "cheng": "brain MRI, contrast",
    "lgg": "brain MRI, FLAIR",
    "brain_t1": "brain MRI, T1",
    "cxr": "chest X-ray",
    "jsrt": "chest X-ray, JSRT",
    "drishti": "fundus photograph",
    "drive": "fundus photograph, DRIVE",
    "acdc": "cardiac MRI, cine",
    "left_atrium": "cardiac MRI, 3D",
    "lung_ct": "chest CT",
    "covid_ct": "chest CT, COVID-19",
}
"""What the scans of a set are called where sets share a kind; else the kind's own name."""
NAMES = tuple(t.name for t in load_targets() if not t.lands_on)
"""What every scan is asked for: all targets by name."""


@dataclass
class Case:
    """An image of a set, and what is known of it.

    Attributes:
        image: its path.
        group: patient.
        there: concepts that it shows.
        masks: concept -> bool (H, W), of those with a mask.
        row: its row where there are boxes alone, else empty.
    """

    image: Path
    group: str
    there: tuple[str, ...]
    masks: Mapping[str, BoolArray] = field(default_factory=dict)
    row: Mapping[str, str] = field(default_factory=dict)


def source_of(name: str) -> Source:
    """A set by name."""
    return LGG if name == "lgg" else SOURCES[name]


def cases(folder: Path, *, fold: int, limit: int) -> Iterator[Case]:
    """The scored images of a set, at most `limit` by chance (0: all)."""
    name, source = folder.name, source_of(folder.name)
    rows = sorted(scored_rows(folder, fold=fold), key=lambda row: row["image"])
    images = [(image, list(group)) for image, group in groupby(rows, key=lambda row: row["image"])]
    if limit:
        images = random.Random(0).sample(images, min(limit, len(images)))
    for image, group in images:
        first = group[0]
        if name in OLDER:
            there = (OLDER[name],) if first["bbox"] else ()
            drawn = Source(name=name, kind=source.kind, draws={first["label"]: OLDER[name]})
            masks = masks_of(drawn, [row for row in group if row["mask"]], folder)
            yield Case(folder / image, first["group"], there, as_bool(masks), {} if masks else first)
        else:
            masks = masks_of(source, group, folder)
            yield Case(folder / image, first["group"], tuple(masks), as_bool(masks))


def as_bool(masks: Mapping[str, Any]) -> dict[str, BoolArray]:
    """Masks of 0 and 1 as truth values."""
    return {concept: mask > 0 for concept, mask in masks.items()}


def held_out_wordings(concept: str, count: int) -> list[str]:
    """Wordings of a target that no training sees, by hash order: half of held-out families, half single ones."""
    target = next((t for t in load_targets() if t.name == concept), None)
    found: list[str] = []
    for how in ("family", "wording"):
        own = [w.text for w in target.wordings if w.kind == "target" and w.held_out == how] if target else []
        found += sorted(own, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[: (count + 1) // 2]
    return found[:count]


def stands_for(pipeline: Any, wording: str) -> str:
    """The target whose answer is a wording's too, the wording itself, or "" of one that is not known or is a list.

    A pipeline whose encoder judges words puts a phrase where it puts the name of what the phrase names, so that their
    answers are the same and one is enough.
    """
    vocabulary = pipeline.vocabulary
    if vocabulary is None:
        return wording
    if vocabulary.several(wording) or not vocabulary.knows(wording):
        return ""
    return vocabulary.concept(wording) or wording if word_judge(pipeline.encoder) is not None else wording


def tally(folder: Path, pipeline: Any, *, fold: int, limit: int, wordings: int) -> dict[str, Any]:
    """What one set's scans were answered, as plain values; no image, no path."""
    source, answers = source_of(folder.name), []
    own = [c for c in (OLDER.get(folder.name), *source.draws.values(), *source.partly.values()) if c]
    if folder.name in OLDER:
        own = own[:1]
    others = {c: held_out_wordings(c, wordings) for c in dict.fromkeys(own)}
    said = {w: stands_for(pipeline.pipeline, w) for each in others.values() for w in each}
    asked = tuple(dict.fromkeys([*NAMES, *NONSENSE, *(w for w in said.values() if w)]))
    certain = {*source.certain}
    for case in track([*cases(folder, fold=fold, limit=limit)], description=folder.name, console=progress):
        result = pipeline(lexiseg.read_scan(case.image), asked)

        def scored(phrase: str, concept: str, case: Case = case, result: Any = result) -> float:
            mask = result[phrase].mask
            return dice(mask, case.masks[concept]) if concept in case.masks else score(mask, case.row, None)

        answers.append(
            {
                "group": case.group,
                "there": case.there,
                "known_absent": sorted(certain & {*own} - {*case.there}),
                "scores": {c: scored(c, c) for c in case.there if c in own},
                "wordings": {
                    c: {w: scored(said[w], c) if said[w] else 0.0 for w in others[c]} for c in case.there if c in others
                },
                "presence": {name: float(result[name].presence) for name in (*NAMES, *NONSENSE)},
                "found": [name for name in (*NAMES, *NONSENSE) if result[name].present],
            }
        )
    return {"kind": source.kind, "fold": fold, "limit": limit, "answers": answers}


def print_tables(report: Mapping[str, Any]) -> None:
    """The issue's table, the matrix of kinds and targets, and the wordings."""
    print(table_head(["set", "target", "scans", "score", "95 %", "found", "presence AUROC, own kind (with / without)"]))
    for name, each in report.items():
        answers = each["answers"]
        for concept in dict.fromkeys(c for a in answers for c in a["scores"]):
            shown = [a for a in answers if concept in a["scores"]]
            values, groups = [a["scores"][concept] for a in shown], [a["group"] for a in shown]
            low, high = interval(values, groups)
            without = [a for a in answers if concept in a["known_absent"]]
            pairs = [(a["presence"][concept], True) for a in shown] + [(a["presence"][concept], False) for a in without]
            area = f"{auroc(pairs):.3f} ({len(shown)} / {len(without)})" if without else ""
            found = np.mean([concept in a["found"] for a in shown])
            cells = [name, concept, len(shown), f"**{np.mean(values):.3f}**", f"{low:.3f} to {high:.3f}"]
            print(table_row([*cells, f"{found:.0%}", area]))
    print()
    matrix(report)
    print()
    print(table_head(["set", "target", "its name", "held-out wordings", "mean", "worst"]))
    for name, each in report.items():
        for concept in dict.fromkeys(c for a in each["answers"] for c in a["wordings"]):
            shown = [a for a in each["answers"] if a["wordings"].get(concept) and concept in a["scores"]]
            if not shown:
                continue
            own = np.mean([a["scores"][concept] for a in shown])
            means = {w: np.mean([a["wordings"][concept][w] for a in shown]) for w in shown[0]["wordings"][concept]}
            worst = min(means, key=lambda w: means[w])
            cells = [name, concept, f"{own:.3f}", len(means), f"{np.mean([*means.values()]):.3f}"]
            print(table_row([*cells, f"{means[worst]:.3f} ({worst})"]))


def print_beside(report: Mapping[str, Any], maps: Mapping[str, Any]) -> None:
    """Masks and maps of the same scans, target by target, and the targets that maps draw better by `MAP_ONLY`."""
    gains: dict[str, list[float]] = defaultdict(list)
    print(table_head(["set", "target", "scans", "mask", "map", "points (95 %)"]))
    for name in (name for name in report if name in maps):
        pairs = list(zip(report[name]["answers"], maps[name]["answers"], strict=True))
        for concept in dict.fromkeys(c for a, _ in pairs for c in a["scores"]):
            shown = [(a, b) for a, b in pairs if concept in a["scores"]]
            differences = [b["scores"][concept] - a["scores"][concept] for a, b in shown]
            gains[concept] += differences
            low, high = interval(differences, [a["group"] for a, _ in shown])
            means = [np.mean([each[k]["scores"][concept] for each in shown]) for k in (0, 1)]
            gain = f"{100 * np.mean(differences):+.1f}"
            gain += "" if np.isnan(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
            print(table_row([name, concept, len(shown), *(f"{mean:.3f}" for mean in means), gain]))
    better = [concept for concept, differences in gains.items() if np.mean(differences) >= MAP_ONLY]
    print("\nrecipe.calibrate", " ".join(f"--map-only '{concept}'" for concept in sorted(better)))


def write_scores(report: Mapping[str, Any], file: Path, command: str) -> None:
    """What `lexiseg models describe` says: scores by set; what was taught besides is kept as it stands in the file."""
    taught = {kind["scan"]: kind["known"] for kind in yaml.safe_load(file.read_text())["kinds"]}
    kinds = []
    for name, each in report.items():
        scores = []
        for concept in dict.fromkeys(c for a in each["answers"] for c in a["scores"]):
            shown = [a for a in each["answers"] if concept in a["scores"]]
            values = [a["scores"][concept] for a in shown]
            low, high = interval(values, [a["group"] for a in shown])
            sure = {} if np.isnan(low) else {"low": round(low, 3), "high": round(high, 3)}
            scores.append(
                {"phrase": concept, "measure": score_name(name), "mean": round(float(np.mean(values)), 3)}
                | sure
                | {"scans": len(shown)}
            )
        scan = SCANS.get(name, KINDS[each["kind"]].says[0])
        kinds.append({"scan": scan, "scores": scores, "known": taught.get(scan, [])})
    made = {"date": date.today(), "command": command}
    head = (
        "# What the bundled models know, by kind of scan, and how well they draw it: `lexiseg models describe`.\n"
        "# Scores: patients that were never trained on, text prompts only, preset demo; intervals over patients.\n"
    )
    file.write_text(head + yaml.safe_dump({"made": made, "kinds": kinds}, sort_keys=False, width=118))


def matrix(report: Mapping[str, Any]) -> None:
    """Kinds of scan by targets that they cannot hold: the share absent, worst target first; nonsense; the total."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in report.values():
        by_kind[each["kind"]] += each["answers"]
    print(table_head(["kind of scan", "scans", "other kinds' targets absent", "nonsense absent", "worst"]))
    total: list[bool] = []
    for kind, answers in by_kind.items():
        elsewhere = [name for name in NAMES if name not in KINDS[kind].may]
        silent = {name: [name not in a["found"] for a in answers] for name in elsewhere}
        noise = [word not in a["found"] for a in answers for word in NONSENSE]
        total += [value for values in silent.values() for value in values]
        worst = sorted(silent, key=lambda name: np.mean(silent[name]))[:3]
        told = ", ".join(f"{name} {np.mean(silent[name]):.0%}" for name in worst if np.mean(silent[name]) < 1)
        mean = np.mean([value for values in silent.values() for value in values])
        print(table_row([kind, len(answers), f"{mean:.1%}", f"{np.mean(noise):.1%}", told]))
    print(table_row(["all", "", f"{np.mean(total):.1%}", "", ""]))


def names_of(data: Path, sets: str) -> Sequence[str]:
    """The sets that are asked for, or all that are there."""
    found = [*TRAINING_SETS, "lgg", *(n for n in SOURCES if n not in TRAINING_SETS)]
    return sets.split(",") if sets else [name for name in found if (data / name / "manifest.csv").is_file()]


def main(
    *,
    data: Annotated[Path | None, typer.Option(help="folder of the sets")] = None,
    tables: Annotated[Path | None, typer.Option(help="print the tables of this report and end")] = None,
    beside: Annotated[Path | None, typer.Option(help="with --tables: a report of the same scans with --maps")] = None,
    encoder: Annotated[str, typer.Option(help="as for a preset")] = "bundled",
    segmenter: Annotated[str, typer.Option(help="as for a preset")] = "bundled",
    sets: Annotated[str, typer.Option(help="comma-separated; all by default")] = "",
    limit: Annotated[int, typer.Option(help="images of each set, by chance; 0 for all")] = 0,
    fold: Annotated[int, typer.Option(help="which of the five patient folds is scored")] = 0,
    wordings: Annotated[int, typer.Option(help="held-out wordings of each target")] = 6,
    maps: Annotated[bool, typer.Option(help="judge the map alone")] = False,
    setting: Annotated[list[str] | None, typer.Option("--set", help="of the preset, name=value")] = None,
    threads: int = 1,
    precision: Annotated[str, typer.Option(help="as for a preset; bfloat16 where it is quick")] = "float32",
    out: Annotated[Path, typer.Option(help="the report")] = Path("kinds.json"),
    write: Annotated[Path | None, typer.Option(help="with --tables: scores.yaml of the bundled models")] = None,
) -> None:
    """Score every set and print the tables."""
    if tables is not None:
        report = json.loads(tables.read_text())
        if beside is not None:
            print_beside(report, json.loads(beside.read_text()))
            return
        print_tables(report)
        if write is not None:
            write_scores(report, write, f"python benchmarks/kinds.py --data DIR --precision {precision}")
        return
    if data is None:
        raise typer.BadParameter("give --data, or --tables with a report")
    torch.set_num_threads(threads)
    changes = merge_settings([*(MAPS if maps else ()), *(setting or [])])
    pipeline = lexiseg.load("demo", encoder=encoder, segmenter=segmenter, device="cpu", precision=precision, **changes)
    report = json.loads(out.read_text()) if out.is_file() else {}
    for name in names_of(data, sets):
        if name not in report:
            report[name] = tally(data / name, pipeline, fold=fold, limit=limit, wordings=wordings)
            out.write_text(json.dumps(report) + "\n")
    print(made_with(f"{threads} threads, {precision}", f"at most {limit} images a set" if limit else "all images"))
    print_tables(report)


if __name__ == "__main__":
    typer.run(main)
