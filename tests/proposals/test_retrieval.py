from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder
from regions_of import boxes_of, filled
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.proposals.crops import CropEmbeddings
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches, peak, retrieve, soft_dice
from lexiseg.proposals.settings import RetrievalSettings
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import FloatArray

SHAPE = (10, 30)
APART = boxes_of(SHAPE, (0, 0, 8, 8), (10, 0, 18, 8), (20, 0, 28, 8))
ALONG = torch.tensor([1.0, 0.0])


def at(cosine: float) -> Tensor:
    """A unit embedding with this cosine to `ALONG`."""
    return torch.tensor([cosine, (1 - cosine**2) ** 0.5])


def phrase(negatives: tuple[float, ...] = (), *, regions: int = 1) -> PhraseEmbedding:
    rows = torch.stack([at(cosine) for cosine in negatives]) if negatives else torch.zeros(0, 2)
    return PhraseEmbedding("target", ALONG, rows, regions)


def ask(
    cosines: tuple[float, ...],
    proposals: Proposals = APART,
    target: PhraseEmbedding | None = None,
    *,
    bias: float = -5.0,
    saliency: FloatArray | None = None,
    **settings: Any,
) -> Matches:
    rows = torch.stack([at(cosine) for cosine in cosines]) if cosines else torch.zeros(0, 0)
    (found,) = retrieve(
        proposals,
        [target or phrase()],
        RetrievalSettings(**settings),
        encoder=FakeEncoder(bias=bias, scale=10.0),
        crops=CropEmbeddings(tuple(range(len(cosines))), rows),
        saliency=None if saliency is None else [saliency],
    )
    return found


def places(found: Matches) -> list[int]:
    return [match.index for match in found.items]


class TestProbability:
    def test_of_a_sigmoid_is_the_logits_own(self) -> None:
        found = ask((0.9, 0.5, 0.1), target=phrase((0.8,)))
        expected = 1 / (1 + np.exp(-(10 * np.array([0.9, 0.5, 0.1]) - 5)))
        np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
        assert found.probability == pytest.approx(expected[0], rel=1e-5)

    def test_of_a_softmax_is_the_share_against_the_negatives(self) -> None:
        negatives = torch.stack([at(0.6), at(-0.2)])
        found = ask((0.9, 0.5, 0.1), target=phrase((0.6, -0.2)), bias=0.0)
        for cosine, probability in zip((0.9, 0.5, 0.1), found.probabilities, strict=True):
            logits = 10 * torch.cat([at(cosine)[None] @ ALONG[:, None], at(cosine)[None] @ negatives.T], 1)
            assert probability == pytest.approx(float(logits.softmax(1)[0, 0]), rel=1e-5)

    def test_of_a_softmax_without_negatives_is_undefined_and_the_best_is_still_taken(self) -> None:
        found = ask((0.1, 0.9, 0.5), bias=0.0)
        assert np.isnan(found.probabilities).all() and np.isnan(found.probability)
        assert places(found) == [1]


class TestRanking:
    def test_the_best_come_first(self) -> None:
        assert places(ask((0.2, 0.9, 0.5), top=2)) == [1, 2]

    def test_equal_ones_in_the_proposals_order(self) -> None:
        assert places(ask((0.5, 0.5, 0.5), top=3)) == [0, 1, 2]

    def test_as_many_as_the_target_has(self) -> None:
        assert places(ask((0.2, 0.9, 0.5), target=phrase(regions=2))) == [1, 2]
        assert places(ask((0.2, 0.9, 0.5), target=phrase(regions=2), top=1)) == [1]

    def test_more_than_there_are_is_all(self) -> None:
        assert places(ask((0.2, 0.9, 0.5), top=99)) == [1, 2, 0]

    def test_none_at_all(self) -> None:
        found = ask((), Proposals(SHAPE), top=2)
        assert found.items == () and found.probability == 0
        assert not found.union(SHAPE).any()

    def test_none_of_these_regions_is_it(self) -> None:
        target = phrase((0.6,))
        likely = ask((0.9, 0.5, 0.1), target=target, bias=0.0).probabilities
        assert likely[0] > 0.5 > likely[1]  # the negative wins over all but the first
        assert places(ask((0.9, 0.5, 0.1), target=target, bias=0.0, top=2, min_score=0.5)) == [0]
        assert places(ask((0.5, 0.3, 0.1), target=target, bias=0.0, min_score=0.5)) == []
        assert places(ask((0.5, 0.3, 0.1), target=target, bias=0.0)) == [0]

    def test_a_region_without_a_crop_is_never_taken_and_shifts_no_other(self) -> None:
        (found,) = retrieve(
            APART,
            [phrase()],
            RetrievalSettings(top=3),
            encoder=FakeEncoder(bias=-5.0, scale=10.0),
            crops=CropEmbeddings((2, 0), torch.stack([at(0.9), at(0.3)])),
        )
        assert [(match.index, match.proposal) for match in found.items] == [(2, APART[2]), (0, APART[0])]
        assert found.probabilities[1] == 0

    def test_targets_do_not_compete(self) -> None:
        both = retrieve(
            APART,
            [phrase(), phrase()],
            RetrievalSettings(),
            encoder=FakeEncoder(bias=-5.0),
            crops=CropEmbeddings((0, 1, 2), torch.stack([at(0.9), at(0.3), at(0.2)])),
        )
        assert [places(found) for found in both] == [[0], [0]]


class TestDistinct:
    # the second is the first with a rim, the third half of it and half beside it
    NESTED = boxes_of(SHAPE, (2, 2, 8, 8), (1, 1, 9, 9), (5, 2, 11, 8), (20, 0, 28, 8))

    def test_the_same_thing_again_is_passed_over(self) -> None:
        assert places(ask((0.9, 0.8, 0.7, 0.1), self.NESTED, top=2)) == [0, 2]

    def test_how_much_may_be_shared_is_a_setting(self) -> None:
        assert places(ask((0.9, 0.8, 0.7, 0.1), self.NESTED, top=2, distinct=0.49)) == [0, 3]
        assert places(ask((0.9, 0.8, 0.7, 0.1), self.NESTED, top=2, distinct=1.0)) == [0, 1]

    def test_the_union(self) -> None:
        found = ask((0.9, 0.8, 0.7, 0.1), self.NESTED, top=2)
        np.testing.assert_array_equal(found.union(SHAPE), filled(SHAPE, (2, 2, 8, 8), (5, 2, 11, 8)))


class TestSaliency:
    def test_soft_dice_of_equal_masks_is_one(self) -> None:
        mask = filled(SHAPE, (0, 0, 8, 8))
        assert soft_dice(mask.astype(np.float32), mask) == 1
        assert soft_dice(np.zeros(SHAPE, np.float32), mask) == 0
        assert soft_dice(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.bool_)) == 0

    def test_the_region_that_covers_the_map_is_taken(self) -> None:
        saliency = filled(SHAPE, (10, 0, 18, 8)).astype(np.float32) * 0.5
        found = ask((), saliency=saliency, score="saliency")
        assert places(found) == [1]
        assert found.scores[1] == pytest.approx(2 * 32 / (64 + 32))
        assert found.probability == pytest.approx(0.5)

    def test_the_probability_is_that_of_the_regions_most_salient_hundredth(self) -> None:
        saliency = np.zeros(SHAPE, np.float32)
        saliency[0, 10:14] = (0.9, 0.8, 0.7, 0.6)  # three pixels are a hundredth of the scan
        saliency[9] = 1  # in no region
        assert ask((), saliency=saliency, score="saliency").probabilities[1] == pytest.approx(0.8)
        assert peak(saliency, filled(SHAPE, (13, 0, 15, 1))) == pytest.approx(0.3)

    def test_a_further_region_must_bring_the_union_nearer_to_the_map(self) -> None:
        halves = boxes_of(SHAPE, (0, 0, 18, 8), (10, 0, 18, 8), (16, 0, 28, 8))
        saliency = filled(SHAPE, (0, 0, 18, 8)).astype(np.float32)
        found = ask((), halves, phrase(regions=2), saliency=saliency, score="saliency")
        assert places(found) == [0]
        apart = filled(SHAPE, (0, 0, 8, 8)) | filled(SHAPE, (10, 0, 18, 8))
        found = ask((), APART, phrase(regions=2), saliency=apart.astype(np.float32), score="saliency")
        assert places(found) == [0, 1]

    def test_both_is_the_geometric_mean(self) -> None:
        saliency = filled(SHAPE, (10, 0, 18, 8)).astype(np.float32)
        alone = ask((0.6, 0.5, 0.9))
        found = ask((0.6, 0.5, 0.9), saliency=saliency, score="both")
        assert places(found) == [1]
        assert found.probability == pytest.approx(float(np.sqrt(alone.probabilities[1])))

    @pytest.mark.parametrize("score", ["saliency", "both"])
    def test_a_map_that_is_needed_and_missing(self, score: str) -> None:
        with pytest.raises(ValueError, match="not given"):
            ask((0.9, 0.5, 0.1), score=score)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"score": "dense"}, "score is 'dense'; expected one of crop, saliency, both"),
        ({"top": 0}, "top is 0"),
        ({"top": True}, "top is True"),
        ({"top": 1.5}, "top is 1.5"),
        ({"min_score": 1.1}, "min_score is 1.1"),
        ({"distinct": -1}, "distinct is -1"),
        ({"min_saliency": 2, "score": "saliency"}, "min_saliency is 2"),
        ({"min_saliency": 0.5}, "no map to trim by; expected score saliency or both"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RetrievalSettings(**settings)
