from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_data import suite_fields, write_suite

from lexiseg.benchmark.suite import load_suite
from lexiseg.errors import UsageError

SHIPPED = sorted((Path(__file__).parents[2] / "benchmarks" / "suites").glob("*.yaml"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The tiny suite with one field, named by its path, replaced."""
    fields = suite_fields()
    place: Any = fields
    *folders, last = path.split("/")
    for name in folders:
        place = place[name]
    place[last] = value
    return fields


class TestShippedSuites:
    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
    def test_is_sound(self, path: Path) -> None:
        suite = load_suite(path)
        assert suite.wording is not None
        assert all(chosen.generic for chosen in suite.sets.values())

    def test_there_are_some(self) -> None:
        assert {path.stem for path in SHIPPED} >= {"bundled", "smoke"}

    def test_the_bundled_one_asks_what_it_should(self) -> None:
        suite = load_suite(next(path for path in SHIPPED if path.stem == "bundled"))
        assert list(suite.sets) == ["busi", "cxr", "hc18", "cheng", "lgg"]
        assert list(suite.systems) == ["demo", "demo-salip", "sam-unprompted", "sam-box"]
        trained = {name for name, chosen in suite.sets.items() if chosen.part == "bundled-validation"}
        assert trained == {"busi", "cxr", "hc18", "cheng"}


class TestReading:
    def test_settings_change_the_preset(self, tmp_path: Path) -> None:
        fields = changed("presets", {"strict": {"preset": "demo", "settings": {"presence": {"threshold": 0.9}}}})
        fields["sensitivity"]["presets"] = ["strict"]
        system = load_suite(write_suite(tmp_path / "s.yaml", fields)).systems["strict"]
        assert system.preset["presence"].threshold == 0.9
        assert system.preset["saliency"].method == "dense"

    def test_a_preset_of_ones_own_lies_beside_the_suite(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("pipeline: medclip-sam\nencoder: bundled\n")
        fields = changed("presets", {"demo": {"preset": "mine.yaml"}})
        assert load_suite(write_suite(tmp_path / "s.yaml", fields)).systems["demo"].preset.name == "mine"

    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            ("presets/nonesuch", {}, "nonesuch"),
            ("presets/demo", {"preset": "gone.yaml"}, "gone.yaml"),
            ("presets/demo", {"sets": {}}, "'sets'"),
            ("presets/demo", {"settings": {"magic": 1}}, "magic"),
            ("presets/demo", {"prompts": ["best"]}, "best"),
            ("presets/a b", {"preset": "demo"}, "'a b'"),
            ("presets/Demo", {"preset": "demo"}, "case"),
            ("presets", {}, "presets is empty"),
            ("sets", None, "sets is empty"),
            ("sets", ["busi"], "['busi']"),
            ("sets/busi/manifest", 3, "manifest is 3"),
            ("sets/busi/colour", "red", "'colour'"),
            ("sets/busi/part", "best", "'best'"),
            ("sets/busi/limit", 0, "limit is 0"),
            ("sets/busi/prompts", {}, "prompts is empty"),
            ("sets/busi/prompts", {"vague": "x"}, "'vague'"),
            ("sets/busi/prompts/generic", "123", "no letter"),
            ("sets/busi/prompts/oracle-class", {False: "x"}, "put it in quotes"),
            ("sets/busi/contrasts/gibberish", "Breast Tumor", "asked twice"),
            ("sets/busi/contrasts/right", "lungs", "right"),
            ("sets/busi/where", {"label": 3}, "label is 3"),
            ("seeds", [], "seeds is []"),
            ("seeds", [0, 0], "seeds is [0, 0]"),
            ("seeds", [True], "seeds is [True]"),
            ("tolerance", -1, "tolerance is -1"),
            ("resamples", "many", "resamples"),
            ("save_stages", "maybe", "save_stages"),
            ("sensitivity/presets", ["nobody"], "nobody"),
            ("sensitivity/presets", ["sam-box"], "told the truth"),
            ("sensitivity/presets", [], "presets is empty"),
            ("extra", 1, "'extra'"),
        ],
    )
    def test_whatever_is_wrong_is_one_line(self, tmp_path: Path, path: str, value: Any, told: str) -> None:
        suite = write_suite(tmp_path / "s.yaml", changed(path, value))
        with pytest.raises(UsageError) as caught:
            load_suite(suite)
        assert told in str(caught.value)
        assert str(caught.value).startswith("s.yaml")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"- a\n", b"a: [", b"\xff\xfe", b"text", b"a: 2020-99-99"])
    def test_no_suite_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "s.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=r"s\.yaml") as caught:
            load_suite(tmp_path / "s.yaml")
        assert "\n" not in str(caught.value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="No such file"):
            load_suite(tmp_path / "s.yaml")
