"""Retrieval: perfect, blind and mixed encoders, duplicates, ties, galleries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lexiseg.evaluation.retrieval import DIRECTIONS, RetrievalSettings, retrieval, success


def names(count: int) -> list[str]:
    return [f"caption {index}" for index in range(count)]


def noisy(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((count, 16))
    return image, image + noise * rng.standard_normal((count, 16))


class TestExtremes:
    def test_a_perfect_encoder(self) -> None:
        image, text = noisy(120, 0.0)
        found = retrieval(image, text, captions=names(120))
        assert all(each.value == 1 for each in found.scores)
        assert found.mean_top1 == 1

    def test_an_encoder_that_says_the_same_of_everything_guesses(self) -> None:
        same = np.ones((100, 4))
        found = retrieval(same, same, captions=names(100))
        for each in found.scores:
            assert each.value == pytest.approx(each.chance)
            assert each.spread == pytest.approx(0) or math.isnan(each.spread)

    def test_a_contrary_encoder(self) -> None:
        image, _ = noisy(60, 0.0)
        found = retrieval(image, -image, captions=names(60), settings=RetrievalSettings(gallery=10))
        assert found.score("image to text", "top-2").value == 0


class TestAgainstSorting:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_recall_over_all(self, direction: str) -> None:
        image, text = noisy(90, 3.0)
        found = retrieval(image, text, captions=names(90))
        a, b = (image, text) if direction == "image to text" else (text, image)
        a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b))
        ranks = [list(np.argsort(-(b @ query))).index(index) for index, query in enumerate(a)]
        for k in (1, 5, 10):
            expected = np.mean([rank < k for rank in ranks])
            assert 0.05 < expected < 0.95
            assert found.score(direction, f"recall@{k}").value == pytest.approx(expected)

    def test_galleries_by_hand(self) -> None:
        image, text = noisy(23, 1.5)
        settings = RetrievalSettings(gallery=5, shuffles=3, seed=4)
        found = retrieval(image, text, captions=names(23), settings=settings)
        a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (image, text))
        accuracies = []
        for shuffle in range(3):
            order = np.random.default_rng([4, shuffle]).permutation(23)
            hits = [
                members[np.argmax(b[members] @ a[query])] == query
                for members in np.split(order[:20], 4)
                for query in members
            ]
            accuracies.append(np.mean(hits))
        score = found.score("image to text", "top-1")
        assert score.value == pytest.approx(np.mean(accuracies))
        assert score.spread == pytest.approx(np.std(accuracies, ddof=1))
        assert score.interval.low <= score.value <= score.interval.high


class TestTies:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_expectation_over_every_order(self, k: int) -> None:
        similarity = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
        same = np.array([False, True, False, True, False, True])
        wins = []
        for order in itertools.permutations(range(6)):
            ranked = sorted(order, key=lambda index: -similarity[index])
            wins.append(any(same[index] for index in ranked[:k]))
        assert success(similarity[None], same[None], [k])[0, 0] == pytest.approx(np.mean(wins))


class TestDuplicates:
    def test_a_pair_with_the_same_caption_is_right(self) -> None:
        image = np.eye(4)
        text = np.eye(4)[[1, 0, 2, 3]]  # the first two captions are exchanged, which nobody could tell
        settings = RetrievalSettings(gallery=4)
        apart = retrieval(image, text, captions=["a", "b", "c", "d"], settings=settings)
        alike = retrieval(image, text, captions=["a", "a", "c", "d"], settings=settings)
        assert apart.score("image to text", "top-1").value == 0.5
        assert alike.score("image to text", "top-1").value == 1
        assert (apart.captions, alike.captions) == (4, 3)

    def test_so_is_one_with_the_same_image(self) -> None:
        text = np.eye(4)[[1, 0, 2, 3]]
        found = retrieval(np.eye(4), text, captions=names(4), images=["x", "x", "y", "z"])
        assert found.score("text to image", "top-1").value == 1

    def test_chance_counts_them_too(self) -> None:
        captions = ["a", "a", "a", "b"]
        settings = RetrievalSettings(gallery=4, recalls=(1, 2))
        found = retrieval(np.eye(4), np.eye(4), captions=captions, settings=settings)
        for direction in DIRECTIONS:
            # Three queries have three right answers of four, and one has one.
            assert found.score(direction, "top-1").chance == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
            assert found.score(direction, "recall@1").chance == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
            assert found.score(direction, "recall@2").chance == pytest.approx((3 * 1 + 3 / 6) / 4)

    def test_chance_is_what_is_scored_blindly(self) -> None:
        blind, captions = np.ones((60, 4)), [f"caption {index % 7}" for index in range(60)]
        found = retrieval(blind, blind, captions=captions, settings=RetrievalSettings(gallery=20))
        for each in found.scores:
            assert each.chance == pytest.approx(each.value)


class TestReport:
    def test_fewer_pairs_than_a_gallery(self) -> None:
        image, text = noisy(7, 0.1)
        found = retrieval(image, text, captions=names(7))
        assert found.gallery == 7
        assert found.scores[0].measure == "top-1 of 7"

    def test_rows_are_plain(self) -> None:
        image, text = noisy(60, 1.0)
        rows = retrieval(image, text, captions=names(60)).rows()
        assert len(rows) == 10
        assert {type(value) for row in rows for value in row.values()} <= {str, int, float}

    def test_a_seed_gives_the_same_numbers(self) -> None:
        image, text = noisy(130, 2.0)
        values = [
            retrieval(image, text, captions=names(130), settings=RetrievalSettings(seed=seed)).mean_top1
            for seed in (3, 3, 4)
        ]
        assert values[0] == values[1] != values[2]


class TestRefuses:
    def test_one_pair(self) -> None:
        with pytest.raises(ValueError, match="at least 2"):
            retrieval(np.ones((1, 3)), np.ones((1, 3)), captions=["a"])

    def test_what_is_not_finite(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            retrieval(np.full((3, 3), np.nan), np.ones((3, 3)), captions=names(3))

    def test_a_gallery_of_one(self) -> None:
        with pytest.raises(ValueError, match="galleries of 1"):
            RetrievalSettings(gallery=1)
