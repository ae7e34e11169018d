"""Pairs of phantoms and captions that are put together from what was drawn."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.datasets.pairs.captions import HardNegative, compose, hard_negatives
from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import MODALITIES, generate, options
from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write

_COLUMNS = ("image", "text", "group", "modality", "differs_in", "negative")


@dataclass(frozen=True, eq=False)
class PhantomPair:
    """A phantom with a caption, and captions that are wrong in one respect.

    Attributes:
        phantom: the scan with the truth about it.
        text: a caption that says all that was drawn.
        negatives: captions that differ from it in one attribute each.
    """

    phantom: Phantom
    text: str
    negatives: tuple[HardNegative, ...]


def phantom_pair(modality: str, seed: int, *, size: int = 256, **attributes: str) -> PhantomPair:
    """A phantom and its caption; the same arguments give the same pair.

    Args:
        modality: one of `lexiseg.datasets.phantoms.registry.MODALITIES`.
        seed: not negative; also chooses the wording.
        size: height and width in pixels.
        **attributes: what to fix instead of draw, see `lexiseg.datasets.phantoms.registry.options`.

    Raises:
        UsageError: as for `lexiseg.datasets.phantoms.registry.generate`.
    """
    phantom = generate(modality, seed, size=size, target=None, **attributes)
    text = compose(modality, phantom.attributes, wording=seed)
    negatives = hard_negatives(modality, phantom.attributes, wording=seed, seed=seed)
    return PhantomPair(phantom, text, negatives)


def siblings(modality: str, seed: int, count: int) -> list[dict[str, str]]:
    """What to fix so that a phantom of that seed differs from the plain one in one drawn attribute.

    Args:
        modality: as for `phantom_pair`.
        seed: the family's.
        count: how many siblings.

    Returns:
        Keyword arguments of `phantom_pair`, one dictionary for each sibling, all different.
    """
    choices = [(name, value) for name, values in options(modality).items() for value in values]
    order = np.random.default_rng([seed, 77]).permutation(len(choices))
    return [dict([choices[index]]) for index in order[:count]]


def write_phantom_pairs(
    out_dir: str | Path,
    *,
    count: int,
    seed: int = 0,
    modalities: Sequence[str] = MODALITIES,
    size: int = 256,
    relatives: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write pairs as images/NAME.png and pairs.csv, which `read_pairs` takes.

    The modalities take turns.  With relatives, each phantom is followed by others of the same patient (the
    same random numbers) in which one drawn attribute is another: hard negatives among images, of one group.
    The columns "negative" and "differs_in" hold one caption that is wrong in one attribute, and which.

    Args:
        out_dir: folder, made if missing.
        count: pairs in all.
        seed: of the first patient.
        modalities: which to take.
        size: height and width in pixels.
        relatives: of each phantom.
        workers: processes; the pairs do not depend on it.
        progress: told (pairs done, pairs in all).

    Returns:
        The CSV's path.

    Raises:
        UsageError: no modality, an unknown one, or fewer than two pairs.
        UnwritableResult: the folder or a file cannot be written.
    """
    if count < 2 or not modalities:
        raise UsageError(f"cannot write {count} pairs of {len(modalities)} modalities; ask for 2 or more of at least 1")
    folder = Path(out_dir)
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableResult(f"cannot write pairs to {folder}: {error.strerror or error}") from error
    plans = [_Plan(folder, size, *plan) for plan in _plans(count, seed, modalities, relatives)]
    rows = []
    for row in _made(plans, workers):
        rows.append(row)
        if progress is not None:
            progress(len(rows), count)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return atomic_write(folder / "pairs.csv", lambda file: file.write(text.getvalue().encode()))


@dataclass(frozen=True)
class _Plan:
    folder: Path
    size: int
    name: str
    group: str
    modality: str
    seed: int
    fixed: tuple[tuple[str, str], ...]


def _plans(
    count: int, seed: int, modalities: Sequence[str], relatives: int
) -> Iterator[tuple[str, str, str, int, tuple[tuple[str, str], ...]]]:
    made, patient = 0, 0
    while made < count:
        turn, member = divmod(patient, len(modalities))
        modality, number = modalities[member], seed + turn
        group = f"{modality}-{number:05d}"
        family: list[dict[str, str]] = [{}, *siblings(modality, number, relatives)]
        for index, fixed in enumerate(family[: count - made]):
            yield f"{group}-{index}" if index else group, group, modality, number, tuple(fixed.items())
        made += len(family)
        patient += 1


def _made(plans: Sequence[_Plan], workers: int) -> Iterator[dict[str, str]]:
    if workers <= 1:
        yield from map(_write, plans)
        return
    with ProcessPoolExecutor(min(workers, os.cpu_count() or 1)) as pool:
        yield from pool.map(_write, plans, chunksize=8)


def _write(plan: _Plan) -> dict[str, str]:
    pair = phantom_pair(plan.modality, plan.seed, size=plan.size, **dict(plan.fixed))
    image = f"images/{plan.name}.png"
    pixels = np.rint(pair.phantom.scan.pixels * 255).astype(np.uint8)
    atomic_write(plan.folder / image, lambda file: Image.fromarray(pixels).save(file, format="PNG"))
    chosen = pair.negatives[plan.seed % len(pair.negatives)] if pair.negatives else None
    return {
        "image": image,
        "text": pair.text,
        "group": plan.group,
        "modality": plan.modality,
        "differs_in": chosen.attribute if chosen else "",
        "negative": chosen.text if chosen else "",
    }
