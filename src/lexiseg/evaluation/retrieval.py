"""Does an image find its caption, and a caption its image?"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.evaluation.statistics import Bootstrap, Interval, summarise

Floats = NDArray[np.float64]
Same = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]

DIRECTIONS = ("image to text", "text to image")
_ROWS_AT_ONCE = 512

RETRIEVAL_FILES = {"retrieval.csv": r"encoder,direction,measure,", "retrieval.json": r'\[\s*\{\s*"encoder": '}
"""The files that measures are written to, and how each begins; see `lexiseg.io.taken.refuse_taken`."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings:
    """How retrieval is measured.

    Attributes:
        gallery: candidates that a query chooses from; the paper's protocol has 50.
        shuffles: how often the pairs are dealt into galleries anew; the paper has 5.
        tops: k of the top-k accuracies in galleries.
        recalls: k of recall@k with all pairs as candidates.
        seed: of the shuffles.
        bootstrap: how intervals are made.
    """

    gallery: int = 50
    shuffles: int = 5
    tops: tuple[int, ...] = (1, 2)
    recalls: tuple[int, ...] = (1, 5, 10)
    seed: int = 0
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        if self.gallery < 2 or self.shuffles < 1:
            raise ValueError(f"got {self.shuffles} shuffles of galleries of {self.gallery}; expected at least 1 and 2")


@dataclass(frozen=True, eq=False)
class RetrievalScore:
    """One measure in one direction.

    Attributes:
        direction: one of `DIRECTIONS`.
        measure: "top-1 of 50", "recall@5 of 731", ...
        value: share of queries that succeed, 0 to 1; for galleries the mean over the shuffles.
        spread: standard deviation over the shuffles; NaN where there are none, or only one.
        interval: of the mean over queries, by the bootstrap over groups.
        chance: what an encoder scores that says the same of everything; repeated captions are easier to guess.
        hits: float64 (N,), each query's success (its mean over the shuffles), for paired tests; NaN where a
            query was in no gallery.
    """

    direction: str
    measure: str
    value: float
    spread: float
    interval: Interval
    chance: float
    hits: Floats


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What `retrieval` found.

    Attributes:
        pairs: N.
        captions: how many of them differ; the others are right answers to more than one image.
        gallery: candidates in a gallery, N where there are fewer pairs than were asked for.
        shuffles: of the pairs into galleries.
        seed: of the shuffles.
        scores: every measure, images to texts first.
    """

    pairs: int
    captions: int
    gallery: int
    shuffles: int
    seed: int
    scores: tuple[RetrievalScore, ...]

    def score(self, direction: str, measure: str) -> RetrievalScore:
        """One score, by its direction and the first word of its measure ("top-1", "recall@5").

        Raises:
            KeyError: there is no such measure.
        """
        for each in self.scores:
            if each.direction == direction and each.measure.split()[0] == measure:
                return each
        raise KeyError(f"{measure}, {direction}: not measured")

    @property
    def mean_top1(self) -> float:
        """Top-1 in galleries, the mean of both directions: what early stopping looks at."""
        return sum(self.score(each, "top-1").value for each in DIRECTIONS) / len(DIRECTIONS)

    def rows(self) -> list[dict[str, Any]]:
        """Plain values for CSV and JSON, one row for each score."""
        return [
            {
                "direction": each.direction,
                "measure": each.measure,
                "value": each.value,
                "spread": each.spread,
                "low": each.interval.low,
                "high": each.interval.high,
                "chance": each.chance,
                "pairs": self.pairs,
                "captions": self.captions,
                "gallery": self.gallery,
                "shuffles": self.shuffles,
                "seed": self.seed,
            }
            for each in self.scores
        ]


def retrieval(
    image: NDArray[np.floating[Any]],
    text: NDArray[np.floating[Any]],
    *,
    captions: Sequence[str],
    images: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    settings: RetrievalSettings | None = None,
) -> Retrieval:
    """Cross-modal retrieval in both directions, in small galleries and over all pairs.

    A query succeeds at k where one of its right answers is among the k most similar candidates.  Right is its
    own partner, and whatever is the same to a reader: a pair with the same caption, or the same image.  Ties
    are broken by chance, and the expectation over them is taken: an encoder that says the same of everything
    scores what guessing does.

    Galleries are MedCLIP-SAM's protocol (Koleilat et al., MICCAI 2024): pairs are shuffled and dealt into
    galleries of 50, five times; what is left over in a deal takes no part in it.

    Args:
        image: (N, E) embeddings; need not be of unit length.
        text: (N, E), the i-th belonging to the i-th image.
        captions: (N,) what tells captions apart.
        images: (N,) what tells images apart; None where each pair has an image of its own.
        groups: (N,) patients, which the bootstrap keeps together; None takes each pair for itself.
        settings: sizes and seeds.

    Raises:
        ValueError: fewer than two pairs, shapes that do not fit, or an embedding that is not finite.
    """
    settings = settings or RetrievalSettings()
    first, second = (_unit(each) for each in (image, text))
    pairs = len(first)
    if pairs < 2 or first.shape != second.shape or len(captions) != pairs:
        raise ValueError(
            f"got embeddings of shapes {first.shape} and {second.shape} with {len(captions)} captions; "
            "expected two of (N, E) with N captions, N at least 2"
        )
    caption = np.unique(np.asarray(captions, dtype=str), return_inverse=True)[1]
    picture = np.arange(pairs) if images is None else np.unique(np.asarray(images), return_inverse=True)[1]
    patients = [str(index) for index in range(pairs)] if groups is None else list(groups)

    def same(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (caption[rows][:, None] == caption[columns]) | (
            picture[rows][:, None] == picture[columns]
        )
        return found

    size = min(settings.gallery, pairs)
    blind = np.zeros((pairs, 1))
    guessed = np.nanmean(_in_galleries(blind, blind, same, size, settings), axis=(1, 2))
    guessed_of_all = _over_all(blind, blind, same, settings).mean(axis=1)
    scores = []
    for direction, (queries, candidates) in zip(DIRECTIONS, ((first, second), (second, first)), strict=True):
        dealt = _in_galleries(queries, candidates, same, size, settings)
        score = functools.partial(_score, direction, groups=patients, bootstrap=settings.bootstrap)
        for k, hits, chance in zip(settings.tops, dealt, guessed, strict=True):
            scores.append(score(f"top-{k} of {size}", hits, chance=chance))
        over_all = _over_all(queries, candidates, same, settings)
        for k, each, chance in zip(settings.recalls, over_all, guessed_of_all, strict=True):
            scores.append(score(f"recall@{k} of {pairs}", each[None], chance=chance))
    return Retrieval(pairs, len(np.unique(caption)), size, settings.shuffles, settings.seed, tuple(scores))


def success(similarity: Floats, same: NDArray[np.bool_], ks: Sequence[int]) -> Floats:
    """The chance that a right answer is among the k most similar, for each query and each k.

    With g wrong candidates above the best right one, and e wrong and c right ones level with it, k - g places
    are left to e + c candidates in random order: ``1 - prod_{m < k - g} (e - m) / (e + c - m)``.

    Args:
        similarity: (Q, N).
        same: bool (Q, N), the right answers, at least one in each row.
        ks: how many candidates are looked at.

    Returns:
        float64 (len(ks), Q).
    """
    best = np.where(same, similarity, -np.inf).max(axis=1, keepdims=True)
    above = ((similarity > best) & ~same).sum(axis=1)
    level = ((similarity == best) & ~same).sum(axis=1)
    right = ((similarity == best) & same).sum(axis=1)
    found = np.empty((len(ks), len(similarity)))
    for row, k in zip(found, ks, strict=True):
        missed = np.ones(len(similarity))
        for m in range(k):
            drawn = m < k - above
            factor = np.maximum(level - m, 0) / np.maximum(level + right - m, 1)
            missed = np.where(drawn, missed * factor, missed)
        row[:] = 1 - missed
    return found


def _unit(embeddings: NDArray[np.floating[Any]]) -> Floats:
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"got embeddings of shape {values.shape}, expected (N, E), all of it finite")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Floats = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return unit


def _in_galleries(queries: Floats, candidates: Floats, same: Same, size: int, settings: RetrievalSettings) -> Floats:
    """Each query's success in each shuffle, float64 (tops, shuffles, N); NaN where it was left over."""
    pairs = len(queries)
    hits = np.full((len(settings.tops), settings.shuffles, pairs), np.nan)
    for shuffle in range(settings.shuffles):
        order = np.random.default_rng([settings.seed, shuffle]).permutation(pairs)
        for start in range(0, pairs - size + 1, size):
            members = order[start : start + size]
            similarity = _compared(queries[members], candidates[members])
            hits[:, shuffle, members] = success(similarity, same(members, members), settings.tops)
    return hits


def _over_all(queries: Floats, candidates: Floats, same: Same, settings: RetrievalSettings) -> Floats:
    """Each query's success among all candidates, float64 (recalls, N)."""
    everyone = np.arange(len(queries))
    parts = [
        success(_compared(queries[rows], candidates), same(rows, everyone), settings.recalls)
        for rows in np.array_split(everyone, math.ceil(len(queries) / _ROWS_AT_ONCE))
    ]
    return np.concatenate(parts, axis=1)


def _compared(queries: Floats, candidates: Floats) -> Floats:
    """Cosines (Q, N), rounded: equal embeddings must be level whatever the order of a sum."""
    return np.round(queries @ candidates.T, 9)


def _score(
    direction: str, measure: str, hits: Floats, *, groups: Sequence[str], chance: float, bootstrap: Bootstrap
) -> RetrievalScore:
    """A score from hits (shuffles, N)."""
    accuracies = np.nanmean(hits, axis=1)
    taken = np.isfinite(hits).sum(axis=0)
    each = np.divide(np.nansum(hits, axis=0), taken, out=np.full(len(taken), np.nan), where=taken > 0)
    known = np.isfinite(each)
    kept = [group for group, keep in zip(groups, known, strict=True) if keep]
    return RetrievalScore(
        direction=direction,
        measure=measure,
        value=float(accuracies.mean()),
        spread=float(accuracies.std(ddof=1)) if len(accuracies) > 1 else math.nan,
        interval=summarise(each[known].tolist(), kept, bootstrap=bootstrap).interval,
        chance=float(chance),
        hits=each,
    )
