"""What phrases of an author who saw no list are read as, and those that the recipe holds out, by the whole rule.

    python benchmarks/read_phrases.py [--phrases benchmarks/phrases.yaml] [--beside benchmarks/phrases_beside.yaml]
                                      [--misread]

Words, slips of the pen, words of asking and the sentence encoder all have their say, as in `lexiseg segment`. Right is
a phrase that names its target. Phrases of what is in, of or beside an organ have rows of their own: there the organ,
or one side of it, is the wrong answer. No scan is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

import lexiseg
from common import made_with, table_head, table_row
from recipe.wordings import load_targets

ANSWERS = ("that target", "another target", "none of the targets", "unknown")
"""What names a target should have the first, and what names something beside an organ one of the last two."""
BESIDE = "in, of or beside an organ"
HERE = Path(__file__).parent


def answer(vocabulary: Any, phrase: str, target: str) -> str:
    """One of `ANSWERS`."""
    if not vocabulary.knows(phrase):
        return "unknown"
    named = vocabulary.concept(phrase)
    return ANSWERS[0] if named == target else "another target" if named else "none of the targets"


def of_its_side(organ: str, phrase: str) -> str:
    """The left or the right one of a pair, where a phrase says which."""
    side = next((side for side in ("left", "right") if f" {side} " in f" {phrase} "), "")
    return f"{side} {organ.removesuffix('s')}" if side and organ in {"kidneys", "lungs"} else organ


def beside(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Phrases of what is in or beside an organ, and of the whole organ, by author: kind -> (organ, phrase)."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for author, organs in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for organ, each in organs.items():
            for kind, texts in each.items():
                name = {"beside": BESIDE, "whole": "a whole organ, with something said of it"}[kind]
                found[f"{name}, {author} author"] += [(of_its_side(organ, text), text) for text in texts]
    return dict(found)


def held_out() -> dict[str, list[tuple[str, str]]]:
    """What the recipe holds out, of targets that stand for themselves: kind -> (target, phrase)."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for target in load_targets():
        for wording in target.wordings:
            if wording.kind == "target" and wording.held_out and not target.lands_on:
                name = "whole families" if wording.held_out == "family" else "single wordings"
                found[f"held out of the recipe, {name}"].append((target.name, wording.text))
    return dict(found)


def main(
    *,
    phrases: Annotated[Path, typer.Option(help="target: {kind: [phrases]}")] = HERE / "phrases.yaml",
    others: Annotated[Path, typer.Option("--beside", help="author: {organ: {beside, whole: [phrases]}}")] = (
        HERE / "phrases_beside.yaml"
    ),
    misread: Annotated[bool, typer.Option("--misread", help="list what is not read right")] = False,
) -> None:
    """Print a row for each kind of phrase."""
    torch.set_num_threads(1)
    vocabulary = lexiseg.load("demo", device="cpu").pipeline.vocabulary
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for target, each in yaml.safe_load(phrases.read_text(encoding="utf-8")).items():
        for kind, texts in each.items():
            kinds[kind] += [(target, text) for text in texts]
            kinds["all of the author's"] += [(target, text) for text in texts]
    kinds["all of the author's"] = kinds.pop("all of the author's")
    print(made_with())
    print(table_head(["phrases", "of", *ANSWERS]))
    for kind, pairs in (kinds | held_out() | beside(others)).items():
        found = [(answer(vocabulary, text, target), target, text) for target, text in pairs]
        shares = [sum(each == one for each, *_ in found) / len(found) for one in ANSWERS]
        print(table_row([kind, len(pairs), *(f"{share:.1%}" for share in shares)]))
        for each, target, text in found if misread else ():
            if each not in (ANSWERS[2:] if kind.startswith(BESIDE) else ANSWERS[:1]):
                print(f"    {target}: {text!r}: {vocabulary.concept(text) or each}")


if __name__ == "__main__":
    typer.run(main)
