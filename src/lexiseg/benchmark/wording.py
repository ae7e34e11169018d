"""Sensitivity to the wording: the same scan, asked for what is there and for what is not."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lexiseg.benchmark.cells import Cell
from lexiseg.benchmark.suite import RIGHT
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import LexisegError, UnreadableScan, UnwritableResult
from lexiseg.evaluation.truths import read_truth
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.io.sources import read_source
from lexiseg.runs.batch import internal_error
from lexiseg.runs.items import RunItem
from lexiseg.runs.segment import Pipeline
from lexiseg.values.scans import Scan

Floats = NDArray[np.floating[Any]]

logger = logging.getLogger(__name__)


class PhrasePipeline(Protocol):
    """What is asked of a pipeline here; every `lexiseg.load` gives one."""

    def __call__(self, scan: Scan, phrases: Sequence[str], *, keep_stages: bool) -> Any:
        """Segment a scan: ``targets`` in the order of the phrases, each with ``present``, ``presence`` and
        a ``saliency`` of one map for each slice.
        """


class Correlation(NamedTuple):
    """How alike two maps are, -1 to 1 each: of their values, and of their values' ranks."""

    pearson: float
    spearman: float


@dataclass(frozen=True, kw_only=True)
class WordingEffect:
    """What another phrase changes on one scan.

    Attributes:
        kind: why the phrase was asked, such as "wrong organ"; `RIGHT` for the right phrase itself.
        phrase: as it was asked.
        present: whether it was found.
        presence: its evidence, 0 to 1; NaN where the pipeline gives none.
        presence_change: `presence` less the right phrase's.
        pearson: correlation of its saliency with the right phrase's; NaN where there is no saliency.
        spearman: likewise, of ranks.
        map_change: mean absolute difference of the two maps, 0 to 1.
    """

    kind: str
    phrase: str
    present: bool
    presence: float
    presence_change: float
    pearson: float
    spearman: float
    map_change: float


def wording_sensitivity(
    pipeline: PhrasePipeline, scan: Scan, right: str, others: Mapping[str, str]
) -> tuple[WordingEffect, ...]:
    """Ask a scan for what it shows and for something else, and say how far the answer moves.

    A pipeline that ignores the text has correlations of 1 and no change of presence, whatever is asked; one
    that heeds it answers a wrong organ, "normal" or gibberish with "absent", and another wording of the right
    phrase (which is worth asking too) with the same map.

    All phrases are asked in one call, which encodes the scan once. A pipeline answers each phrase by itself,
    so that this changes nothing.

    Args:
        pipeline: from `lexiseg.load`.
        scan: an image, or a volume, of which all voxels are compared.
        right: what is in the scan.
        others: the other phrases by kind, e.g. ``{"gibberish": "zorblax frim"}``.

    Returns:
        The right phrase's own effect, which is none, then one for each of the others in their order.

    Raises:
        ValueError: one of the others has the kind `RIGHT`.
        LexisegError: whatever the pipeline raises, such as BadPhrase for a phrase that is asked twice.
    """
    if RIGHT in others:
        raise ValueError(f"the kind {RIGHT!r} is the right phrase's own; expected another name")
    targets = pipeline(scan, [right, *others.values()], keep_stages=True).targets
    maps = [_whole(target.saliency) for target in targets]
    own = float(targets[0].presence)
    effects = []
    for kind, target, each in zip([RIGHT, *others], targets, maps, strict=True):
        alike, change = Correlation(math.nan, math.nan), math.nan
        if each is not None and maps[0] is not None:
            alike = map_correlation(maps[0], each)
            change = float(np.abs(maps[0].astype(np.float64) - each).mean())
        effects.append(
            WordingEffect(
                kind=kind,
                phrase=target.phrase,
                present=bool(target.present),
                presence=float(target.presence),
                presence_change=float(target.presence) - own,
                pearson=alike.pearson,
                spearman=alike.spearman,
                map_change=change,
            )
        )
    return tuple(effects)


def map_correlation(first: Floats, second: Floats) -> Correlation:
    r"""Pearson's and Spearman's correlation of two maps over their pixels.

    .. math:: r = \frac{\sum (a - \bar a)(b - \bar b)}{\sqrt{\sum (a - \bar a)^2 \sum (b - \bar b)^2}}

    of the values, and of their ranks (equal values share their mean rank). No unit, -1 to 1. Where one map is
    flat the formula is 0/0: it is then 0, since a flat map says nothing of the other, and 1 where both are
    flat at the same value. Sources: K. Pearson, Proc. R. Soc. Lond. 58 (1895) 240-242; C. Spearman, Am. J.
    Psychol. 15 (1904) 72-101.

    Args:
        first: (H, W) or (D, H, W).
        second: of the same shape.

    Raises:
        ValueError: the shapes differ, or a map is empty.
    """
    from scipy.stats import rankdata

    if first.shape != second.shape or not first.size:
        raise ValueError(f"got maps of shapes {first.shape} and {second.shape}, expected equal ones")
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    if np.array_equal(a, b):
        return Correlation(1.0, 1.0)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(0.0, 0.0)
    return Correlation(_pearson(a, b), _pearson(rankdata(a), rankdata(b)))


def _pearson(a: Floats, b: Floats) -> float:
    # Scaled first: squares of the tiny probabilities of an absent phrase would underflow.
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / math.sqrt(float(a @ a) * float(b @ b)), -1, 1))


def _whole(slices: Sequence[Any]) -> Floats | None:
    """A target's saliency as one array; None where there is none."""
    return np.stack([each.map for each in slices]) if slices else None


_ENDING = "_reactions.json"


def with_target(rows: Sequence[ManifestRow], absent: Sequence[str]) -> list[ManifestRow]:
    """Rows whose target is in the scan: only there is the right phrase right.

    Args:
        rows: of a manifest.
        absent: labels of scans without a target.
    """
    found = []
    for row in rows:
        try:
            if row.boxes or (row.mask is not None and read_truth(row, absent=absent).present):
                found.append(row)
        except UnreadableScan as error:
            logger.debug("%s is not asked: %s", printable(row.id), error)
    return found


def run_wording(
    pipeline: Pipeline,
    cell: Cell,
    items: Sequence[RunItem],
    out: Path,
    tell: Callable[[RunItem, int, int], None],
) -> int:
    """Ask each scan for what it shows and for the set's contrasts, and write what it answered.

    Args:
        pipeline: of the cell's system.
        cell: whose set says the phrases.
        items: the scans to do.
        out: the cell's folder.
        tell: called with the scan that is next, how many are done, and how many of them failed.

    Returns:
        How many scans failed.

    Raises:
        UnwritableResult: the file system refused.
    """
    failed = 0
    for done, item in enumerate(items):
        tell(item, done, failed)
        try:
            if item.error:
                raise LexisegError(item.error)
            scan = read_source(item.source, id=item.id)
            found = wording_sensitivity(cast(PhrasePipeline, pipeline), scan, item.phrases[0], cell.set.contrasts)
            _write(out / f"{item.name}{_ENDING}", found)
        except UnwritableResult:
            raise
        except LexisegError as error:
            reason = printable(str(error))
        # As in a run: a scan that trips over a fault of ours must not end the benchmark.
        except Exception as error:
            logger.debug("%s failed", item.shown, exc_info=True)
            reason = f"{item.shown}: {internal_error(error)}"
        else:
            continue
        failed += 1
        logger.warning("%s: %s", cell.name, reason)
    return failed


def read_wording(folder: Path, id: str) -> tuple[WordingEffect, ...] | None:
    """What a scan answered; None where it was not asked, or the file is damaged."""
    try:
        content = json.loads((folder / f"{safe_id(id)}{_ENDING}").read_text(encoding="utf-8"))
        return tuple(_effect(each) for each in content)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def answered(folder: Path, ids: Sequence[str]) -> frozenset[str]:
    """The ids of scans that were asked."""
    return frozenset(each for each in ids if read_wording(folder, each) is not None)


def _write(path: Path, effects: Sequence[WordingEffect]) -> None:
    plain = [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in each.items()}
        for each in map(asdict, effects)
    ]
    content = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, lambda file: file.write(content.encode()))


def _effect(values: Mapping[str, Any]) -> WordingEffect:
    known: dict[str, Any] = {
        each.name: math.nan if values[each.name] is None else values[each.name] for each in fields(WordingEffect)
    }
    return WordingEffect(**known)
