"""Losses against plain loops in float64, their limits, their gradients, and their range."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import UsageError
from lexiseg.training.losses import (
    LOSSES,
    as_released,
    dcl,
    dhn_nce,
    find_loss,
    hn_nce,
    identity,
    infonce,
    true_negatives,
)

BETAS = (0.15, 0.4)


def embeddings(pairs: int = 7, size: int = 5, *, seed: int = 0, kind: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(pairs, size, generator=generator, dtype=torch.float64).to(kind) for _ in range(2)]


def cosines(image: Tensor, text: Tensor) -> list[list[float]]:
    return [[float(a @ b / (a.norm() * b.norm())) for b in text.double()] for a in image.double()]


def by_hand(
    image: Tensor, text: Tensor, tau: float, betas: tuple[float, float], *, alpha: float,
    negative: Tensor | None = None,
) -> float:  # fmt: skip
    """The equations, term by term, with exp as it stands."""
    cosine, size, total = cosines(image, text), len(image), 0.0
    for turned, beta in enumerate(betas):
        rows = 0.0
        counted = 0
        for i in range(size):
            s = [(cosine[j][i] if turned else cosine[i][j]) / tau for j in range(size)]
            others = [
                j for j in range(size)
                if j != i and (negative is None or bool(negative[j, i] if turned else negative[i, j]))
            ]  # fmt: skip
            if not others:
                continue
            counted += 1
            normal = sum(math.exp(beta * s[k]) for k in others)
            weighed = sum(len(others) * math.exp(beta * s[j]) / normal * math.exp(s[j]) for j in others)
            rows += -s[i] + math.log(alpha * math.exp(s[i]) + weighed)
        total += rows / max(counted, 1)
    return total


def released_by_hand(image: Tensor, text: Tensor, tau: float, betas: tuple[float, float]) -> float:
    """Each of the B x B entries as the released code makes it."""
    cosine, size, total = cosines(image, text), len(image), 0.0
    for turned, beta in enumerate(betas):
        for i, j in itertools.product(range(size), repeat=2):
            s = [(cosine[k][i] if turned else cosine[i][k]) / tau for k in range(size)]
            off = [0.0 if k == i else s[k] for k in range(size)]
            positive = math.exp(s[j] if j == i else 0.0)
            weight = (size - 1) * math.exp(beta * off[j]) / sum(math.exp(value) for value in off)
            total += -math.log(positive / (weight * math.exp(off[j])))
    return total / size**2


class TestEquations:
    @pytest.mark.parametrize("tau", [0.05, 0.6, 1.0])
    @pytest.mark.parametrize(
        ("name", "betas", "alpha"),
        [
            ("infonce", (0.0, 0.0), 1.0), ("dcl", (0.0, 0.0), 0.0),
            ("hn-nce", BETAS, 1.0), ("dhn-nce", BETAS, 0.0),
        ],
    )  # fmt: skip
    def test_against_a_loop(self, name: str, betas: tuple[float, float], alpha: float, tau: float) -> None:
        image, text = embeddings()
        expected = by_hand(image, text, tau, betas, alpha=alpha)
        assert float(LOSSES[name](image, text, tau, *betas)) == pytest.approx(expected, rel=1e-12)

    def test_infonce_is_twice_what_clip_averages(self) -> None:
        open_clip = pytest.importorskip("open_clip")
        image, text = (functional.normalize(each, dim=-1) for each in embeddings())
        expected = open_clip.ClipLoss()(image, text, torch.tensor(1 / 0.07, dtype=torch.float64))
        assert float(infonce(image, text, 0.07)) == pytest.approx(2 * float(expected), rel=1e-12)

    def test_length_of_embeddings_does_not_matter(self) -> None:
        image, text = embeddings()
        assert torch.allclose(dhn_nce(3 * image, text), dhn_nce(image, text / 7), rtol=1e-12)

    def test_directions_have_their_own_hardness(self) -> None:
        image, text = embeddings()
        there, back = dhn_nce(image, text, 0.6, 0.1, 0.9), dhn_nce(text, image, 0.6, 0.9, 0.1)
        assert float(there) == pytest.approx(float(back), rel=1e-12)
        assert float(there) != pytest.approx(float(dhn_nce(image, text, 0.6, 0.9, 0.1)), rel=1e-6)

    def test_a_temperature_can_be_learnt(self) -> None:
        image, text = embeddings()
        scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: dhn_nce(image, text, t), (scale,))


class TestLimits:
    def test_without_hardness_dhn_is_dcl_and_hn_is_infonce(self) -> None:
        image, text = embeddings()
        assert float(dhn_nce(image, text, 0.2, 0.0, 0.0)) == float(dcl(image, text, 0.2))
        assert float(hn_nce(image, text, 0.2, 0.0, 0.0)) == float(infonce(image, text, 0.2))

    def test_without_the_positive_hn_is_dhn(self) -> None:
        image, text = embeddings()
        assert torch.equal(hn_nce(image, text, 0.2, *BETAS, alpha=0.0), dhn_nce(image, text, 0.2, *BETAS))

    def test_equal_negatives_make_hardness_meaningless(self) -> None:
        image = torch.eye(6, dtype=torch.float64)
        assert torch.allclose(dhn_nce(image, image, 0.5, 2.0, 2.0), dcl(image, image, 0.5), rtol=1e-12)

    def test_hardness_gives_harder_negatives_the_greater_say(self) -> None:
        """The log of a weighted mean of exp(s) rises with beta, unless all negatives are alike."""
        image, text = embeddings()
        values = [float(dhn_nce(image, text, 0.5, beta, beta)) for beta in (0.0, 0.15, 0.5, 2.0, 8.0)]
        assert values == sorted(values)
        assert values[-1] > values[0] + 0.5

    def test_one_hard_negative_counts_for_more(self) -> None:
        """Making one negative of the first image harder costs more the higher beta is."""
        image, text = embeddings(6, 8)
        harder = text.clone()
        harder[1] += 2 * image[0]
        costs = [
            float(dhn_nce(image, harder, 0.5, beta, 0.0) - dhn_nce(image, text, 0.5, beta, 0.0))
            for beta in (0.0, 0.5, 1.0)
        ]
        assert costs == sorted(costs)
        assert costs[-1] > costs[0]

    def test_infinite_hardness_sees_only_the_hardest(self) -> None:
        image, text = embeddings()
        s = torch.tensor(cosines(image, text), dtype=torch.float64) / 0.5
        off = s - 1e9 * torch.eye(len(s), dtype=torch.float64)
        n = math.log(len(s) - 1)
        expected = sum(float((each.amax(1) + n - each.new_tensor(0) - s.diagonal()).mean()) for each in (off, off.T))
        assert float(dhn_nce(image, text, 0.5, 500.0, 500.0)) == pytest.approx(expected, rel=1e-6)


class TestGradients:
    @pytest.mark.parametrize("name", LOSSES)
    def test_gradcheck(self, name: str) -> None:
        image, text = (each.requires_grad_() for each in embeddings(5, 4))
        negative = true_negatives(torch.tensor([0, 1, 2, 1, 4]))
        assert torch.autograd.gradcheck(lambda a, b: LOSSES[name](a, b, 0.3, *BETAS, negatives=negative), (image, text))

    def test_the_positive_does_not_damp_a_decoupled_gradient(self) -> None:
        """Nearly solved pairs: InfoNCE's gradient vanishes with 1 - p, the decoupled one does not."""
        image = torch.eye(4, dtype=torch.float64)
        text = (image + 0.05).requires_grad_()
        (coupled,) = torch.autograd.grad(infonce(image, text, 0.05), text)
        (decoupled,) = torch.autograd.grad(dcl(image, text, 0.05), text)
        assert float(decoupled.norm()) > 1e3 * float(coupled.norm())


class TestRange:
    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("name", LOSSES)
    def test_half_precision_low_temperature_large_batch(self, name: str, kind: torch.dtype) -> None:
        pairs = 2048 if name == "dhn-nce" else 512  # seconds each
        image, text = (each.requires_grad_() for each in embeddings(pairs, 16, kind=kind))
        loss = LOSSES[name](image, text, 0.01, 0.15, 0.15)
        loss.backward()
        assert loss.dtype == torch.float32
        assert bool(loss.isfinite())
        for each in (image, text):
            assert each.grad is not None
            assert bool(each.grad.isfinite().all())
            assert bool(each.grad.abs().sum() > 0)

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_half_precision_costs_only_the_rounding_of_its_input(self, kind: torch.dtype) -> None:
        image, text = embeddings(64, 16, kind=kind)
        exact = dhn_nce(image.double(), text.double(), 0.01)
        # float32 rounds similarities of up to 100 by 100 * 6e-8 each: of a loss of about 100, 1e-6 at most.
        assert float(dhn_nce(image, text, 0.01)) == pytest.approx(float(exact), rel=1e-5)

    def test_autocast_does_not_reach_the_product(self) -> None:
        image, text = embeddings(8, 16, kind=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = dhn_nce(image, text, 0.01)
        assert torch.equal(inside, dhn_nce(image, text, 0.01))


class TestAsReleased:
    @pytest.mark.parametrize("tau", [0.1, 0.6])
    def test_against_a_loop(self, tau: float) -> None:
        image, text = embeddings()
        assert float(as_released(image, text, tau, *BETAS)) == pytest.approx(
            released_by_hand(image, text, tau, BETAS), rel=1e-12
        )

    def test_it_is_not_the_equation_of_the_paper(self) -> None:
        image, text = embeddings(8, 16)
        paper, released = float(dhn_nce(image, text)), float(as_released(image, text))
        assert abs(paper - released) > 1

    def test_it_barely_rewards_a_matching_pair(self) -> None:
        """Its pull on a positive pair is 1 / B of the paper's."""
        image, text = embeddings(8, 16)
        pulls = []
        for loss in (dhn_nce, as_released):
            moved = text.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(image, moved), moved)
            apart = functional.normalize(image, dim=-1)
            pulls.append(-float((gradient * apart).sum()))
        assert pulls[1] < pulls[0] / 4


class TestFalseNegatives:
    def test_captions_alike_are_the_same(self) -> None:
        ids = identity(["A small  tumor.", "a small tumor", "a large tumor.", "A SMALL TUMOR ."])
        assert ids[0] == ids[1] == ids[3] != ids[2]

    def test_a_shared_caption_or_image_is_no_negative(self) -> None:
        captions, images = torch.tensor([0, 1, 0, 3]), torch.tensor([9, 8, 7, 8])
        found = true_negatives(captions, images)
        assert [tuple(pair) for pair in (~found).nonzero().tolist()] == [
            (0, 0), (0, 2), (1, 1), (1, 3), (2, 0), (2, 2), (3, 1), (3, 3),
        ]  # fmt: skip

    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_masked_pairs_against_a_loop(self, alpha: float) -> None:
        image, text = embeddings()
        negative = true_negatives(torch.tensor([0, 1, 2, 1, 1, 5, 6]))
        expected = by_hand(image, text, 0.3, BETAS, alpha=alpha, negative=negative)
        found = hn_nce(image, text, 0.3, *BETAS, alpha=alpha, negatives=negative)
        assert float(found) == pytest.approx(expected, rel=1e-12)

    def test_a_duplicate_is_not_pushed_away(self) -> None:
        image, text = embeddings(3, 4)
        text[1] = text[0]
        image.requires_grad_()
        (pushed,) = torch.autograd.grad(dcl(image, text, 0.1), image)
        (spared,) = torch.autograd.grad(
            dcl(image, text, 0.1, negatives=true_negatives(identity(["a", "a", "b"]))), image
        )
        # towards the shared caption: unmasked, a decoupled loss pulls and pushes at once
        towards = functional.normalize(text[0], dim=0)
        assert float(-(spared[0] @ towards)) > float(-(pushed[0] @ towards))

    def test_rows_without_a_negative_are_left_out(self) -> None:
        image, text = (each.requires_grad_() for each in embeddings(3, 4))
        negative = torch.ones(3, 3, dtype=torch.bool)
        negative[0] = False
        expected = by_hand(image.detach(), text.detach(), 0.3, BETAS, alpha=0.0, negative=negative)
        found = dhn_nce(image, text, 0.3, *BETAS, negatives=negative)
        assert found.item() == pytest.approx(expected, rel=1e-12)
        found.backward()
        assert image.grad is not None
        assert bool(image.grad.isfinite().all())

    def test_a_batch_of_one_caption_is_zero_with_a_gradient_of_zero(self) -> None:
        image, text = (each.requires_grad_() for each in embeddings(3, 4))
        loss = dhn_nce(image, text, negatives=true_negatives(identity(["same"] * 3)))
        loss.backward()
        assert loss.item() == 0
        assert image.grad is not None
        assert float(image.grad.abs().sum()) == 0


class TestRefuses:
    def test_one_pair(self) -> None:
        with pytest.raises(ValueError, match="at least 2"):
            dhn_nce(torch.ones(1, 4), torch.ones(1, 4))

    def test_shapes_that_differ(self) -> None:
        with pytest.raises(ValueError, match=r"\(2, 4\) and \(2, 5\)"):
            infonce(torch.ones(2, 4), torch.ones(2, 5))

    @pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
    def test_temperatures_that_are_not_positive(self, tau: float) -> None:
        with pytest.raises(ValueError, match="positive"):
            dcl(torch.eye(2), torch.eye(2), tau)

    def test_a_mask_of_another_shape(self) -> None:
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            dcl(torch.eye(2), torch.eye(2), negatives=torch.ones(2, 3, dtype=torch.bool))

    def test_unknown_names(self) -> None:
        with pytest.raises(UsageError, match="dhn-nce, hn-nce"):
            find_loss("triplet")
