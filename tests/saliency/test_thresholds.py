"""Thresholds for a wanted sensitivity or specificity, from scans that were kept back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from lexiseg.errors import BrokenWeights, UsageError
from lexiseg.saliency.thresholds import FILE, Seen, common_threshold, parse_wanted, read_seen

RNG = np.random.default_rng(0)
MANY = Seen(present=tuple(RNG.beta(5, 2, 83)), absent=tuple(RNG.beta(2, 5, 57)))


class TestSeen:
    @pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.9, 0.95, 1.0])
    def test_no_other_threshold_is_better(self, share: float) -> None:
        high = MANY.threshold("sensitivity", share)
        assert MANY.rates(high)[0] >= share > MANY.rates(math.nextafter(high, 2))[0]
        low = MANY.threshold("specificity", share)
        assert MANY.rates(low)[1] >= share > MANY.rates(math.nextafter(low, -1))[1]

    def test_nothing_is_told_from_no_scan(self) -> None:
        seen = Seen(present=(0.5,), absent=())
        assert math.isnan(seen.rates(0.4)[1])
        with pytest.raises(UsageError, match="no scan without the target was kept back"):
            seen.threshold("specificity", 0.9)

    def test_it_stays_a_share(self) -> None:
        assert Seen(present=(), absent=(1.0,)).threshold("specificity", 1.0) == 1.0


@pytest.mark.parametrize(
    "text", ["0.5", "auto", "auto:sensitivity", "auto:sensitivity=", "auto:speed=1", "auto:sensitivity=0",
             "auto:specificity=1.1", "auto:sensitivity=nan", "auto:sensitivity=95%"],
)  # fmt: skip
def test_what_is_not_understood_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="expected 0 to 1, auto:sensitivity=X"):
        parse_wanted(text)


SEEN = {"lungs": Seen(present=(0.2, 0.8), absent=(0.1,)), "liver": Seen(present=(0.3, 0.7), absent=(0.1,))}


class TestCommon:
    def test_one_phrase_has_its_targets(self) -> None:
        assert common_threshold(SEEN, {"both lungs": "lungs"}, "auto:sensitivity=1") == 0.2

    def test_several_may_agree(self) -> None:
        both = {"lungs": "lungs", "liver": "liver"}
        assert 0.1 < common_threshold(SEEN, both, "auto:specificity=1") < 0.11
        with pytest.raises(UsageError, match=r"is 0.200 for 'lungs', 0.300 for 'liver'; ask for each by itself"):
            common_threshold(SEEN, both, "auto:sensitivity=1")

    @pytest.mark.parametrize("target", [None, "moon"])
    def test_what_was_not_kept_back_is_said(self, target: str | None) -> None:
        with pytest.raises(UsageError, match=r"is not known for .moon rock..*liver, lungs.*give a number"):
            common_threshold(SEEN, {"moon rock": target}, "auto:sensitivity=0.9")


class TestFile:
    def test_it_is_read(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text(yaml.safe_dump({"targets": {"lungs": {"present": [0.9], "absent": []}}}))
        assert read_seen(tmp_path) == {"lungs": Seen(present=(0.9,), absent=())}
        assert read_seen(tmp_path / "elsewhere") == {}

    @pytest.mark.parametrize("content", ["", "targets: [1]", "targets: {lungs: {present: [2], absent: []}}", "{"])
    def test_what_cannot_be_read_is_said(self, tmp_path: Path, content: str) -> None:
        (tmp_path / FILE).write_text(content)
        with pytest.raises(BrokenWeights, match="does not say what presence was"):
            read_seen(tmp_path)
