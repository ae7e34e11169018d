"""Settings as data: what a field may be, files, changes, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from lexiseg.errors import UnknownPreset, UsageError
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.losses import LOSSES
from lexiseg.training.settings import Settings, make_settings, parse_change, read_settings, setting
from lexiseg.training.students.pseudo_labels import LabelRule
from lexiseg.training.students.settings import ROBUST, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Some(Settings):
    """One field of each kind."""

    count: int = setting(3, "How many.", low=1)
    share: float = setting(0.5, "How much.", low=0, high=1)
    rate: float | None = setting(None, "How fast; None: as it comes.", above=0)
    side: Literal["left", "right"] = setting("left", "Where.")
    sizes: tuple[int, ...] = setting((1, 2), "How large.")
    helps: tuple[str, ...] = setting((), "With what.", choices=("a", "b"))
    quick: bool = setting(False, "Whether soon.")


class TestValues:
    def test_plain_values_become_what_the_fields_are(self) -> None:
        found = make_settings(Some, {"share": "1e-1", "rate": 2, "sizes": [4], "helps": ["b"]})
        assert found == Some(share=0.1, rate=2.0, sizes=(4,), helps=("b",))
        assert isinstance(found.rate, float)
        assert found.as_dict() == {
            "count": 3, "share": 0.1, "rate": 2.0, "side": "left", "sizes": [4], "helps": ["b"], "quick": False,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"count": 0}, "count is 0; expected a whole number, at least 1"),
            ({"count": 1.0}, "count is 1.0; expected a whole number, at least 1"),
            ({"count": True}, "count is True; expected a whole number, at least 1"),
            ({"share": float("nan")}, "share is nan; expected a number, 0 to 1"),
            ({"share": "much"}, "share is 'much'; expected a number, 0 to 1"),
            ({"rate": 0.0}, "rate is 0.0; expected a number, more than 0 or nothing"),
            ({"side": "top"}, "side is 'top'; expected one of left, right"),
            ({"sizes": [1.5]}, "sizes is (1.5,); expected a list, each a whole number"),
            ({"helps": ["c"]}, "helps is ('c',); expected among a, b"),
            ({"quick": 1}, "quick is 1; expected true or false"),
            ({"slow": 1}, "there is no setting 'slow'; expected one of count, share,"),
        ],
    )
    def test_what_cannot_be_is_named_in_one_line(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError) as caught:
            make_settings(Some, wrong)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)

    def test_what_is_made_in_code_is_checked_too(self) -> None:
        with pytest.raises(UsageError, match="share is 2"):
            Some(share=2)


class TestFiles:
    def test_fields_of_a_file_and_changes(self, tmp_path: Path) -> None:
        (tmp_path / "some.yaml").write_text("share: 1e-1\nsizes: [8, 9]\n")
        assert read_settings(Some, tmp_path / "some.yaml", count=7, rate=None) == Some(count=7, share=0.1, sizes=(8, 9))

    @pytest.mark.parametrize(
        ("content", "message"), [("[1, 2]", "no fields; expected count, share, rate"), ("a: [", "not YAML")]
    )
    def test_what_holds_no_fields(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "some.yaml").write_text(content)
        with pytest.raises(UnknownPreset, match=message):
            read_settings(Some, tmp_path / "some.yaml")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownPreset, match="FileNotFoundError"):
            read_settings(Some, tmp_path / "none.yaml")

    def test_changes_as_text(self) -> None:
        assert parse_change("temperature=0.1") == ("temperature", 0.1)
        for text in ("temperature", "=1", "a=["):
            with pytest.raises(UsageError):
                parse_change(text)


class TestWords:
    @pytest.mark.parametrize("kind", [FinetuneSettings, TrainSettings, LabelRule])
    def test_every_setting_of_a_training_is_described(self, kind: type[Settings]) -> None:
        meanings = [each.metadata["meaning"] for each in fields(kind)]
        assert meanings and all(meaning.endswith(".") for meaning in meanings)

    @pytest.mark.parametrize(
        ("kind", "given", "expected"),
        [
            (Some, {"rate": 0}, "a number, more than 0 or nothing"),
            (FinetuneSettings, {"loss": "nonsense"}, f"one of {', '.join(LOSSES)}"),
            (TrainSettings, {"robust": ("nonsense",)}, f"among {', '.join(ROBUST)} or nothing"),
        ],
    )
    def test_a_wrong_value_is_told_what_there_is(
        self, kind: type[Settings], given: dict[str, Any], expected: str
    ) -> None:
        with pytest.raises(UsageError) as told:
            make_settings(kind, given)
        assert str(told.value).endswith(f"; expected {expected}")
