from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from lexiseg.datasets.splits import parse_shares, split_by_group
from lexiseg.errors import UsageError


class TestShares:
    @pytest.mark.parametrize(
        ("text", "shares"),
        [
            ("70/15/15", {"train": 0.7, "val": 0.15, "test": 0.15}),
            ("80/20", {"train": 0.8, "test": 0.2}),
            ("0.5/0.5/0", {"train": 0.5, "val": 0.5, "test": 0}),
        ],
    )
    def test_read(self, text: str, shares: dict[str, float]) -> None:
        assert parse_shares(text) == pytest.approx(shares)

    @pytest.mark.parametrize("text", ["70", "a/b", "1/2/3/4", "-1/2", "0/0/0", "nan/1", "inf/1", "70/15/\n15x"])
    def test_refused_on_one_line(self, text: str) -> None:
        with pytest.raises(UsageError, match="expected such as 70/15/15") as error:
            parse_shares(text)
        assert "\n" not in str(error.value)


class TestSplit:
    groups = [f"p{number % 40}" for number in range(300)] + [f"alone{number}" for number in range(100)]
    shares = parse_shares("70/15/15")

    def test_a_group_stays_together_and_shares_are_kept(self) -> None:
        parts = split_by_group(self.groups, self.shares)
        of_group = defaultdict(set)
        for group, part in zip(self.groups, parts, strict=True):
            of_group[group].add(part)
        assert all(len(each) == 1 for each in of_group.values())
        assert Counter(parts) == pytest.approx({"train": 280, "val": 60, "test": 60}, abs=8)

    def test_the_order_of_scans_does_not_count_and_the_seed_does(self) -> None:
        def by_group(groups: list[str], seed: int) -> dict[str, str]:
            return dict(zip(groups, split_by_group(groups, self.shares, seed=seed), strict=True))

        shuffled = random.Random(1).sample(self.groups, len(self.groups))
        assert by_group(shuffled, 0) == by_group(self.groups, 0)
        assert by_group(self.groups, 1) != by_group(self.groups, 0)

    def test_an_empty_share_gets_nothing(self) -> None:
        assert set(split_by_group(self.groups, parse_shares("50/50/0"))) == {"train", "val"}
