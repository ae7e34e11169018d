from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from scans_of import preset_of

from lexiseg.errors import UnknownPreset, UsageError
from lexiseg.pipelines.preset import (
    PIPELINE_SECTIONS,
    Preset,
    load_preset,
    merge_settings,
    parse_setting,
    preset_names,
)
from lexiseg.pipelines.settings import MaskSettings
from lexiseg.saliency.settings import DenseSettings, GScoreCAMSettings
from lexiseg.settings import RENAMED


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def one_line(error: BaseException) -> bool:
    return len(str(error).splitlines()) == 1


class TestShipped:
    def test_every_name_is_a_preset_with_a_line_for_a_person(self) -> None:
        assert {"demo", "medclip-sam"} <= set(preset_names())
        for name in preset_names():
            preset = load_preset(name)
            assert preset.name == name
            assert preset.about
            assert "\n" not in preset.about

    def test_the_published_pipeline_has_the_papers_models_and_settings(self) -> None:
        preset = load_preset("medclip-sam")
        assert preset.encoder.endswith("BiomedCLIP-PubMedBERT_256-vit_base_patch16_224")
        assert preset.segmenter == "facebook/sam-vit-base"
        assert preset["saliency"] == GScoreCAMSettings(k=300)
        assert preset["presence"].threshold is None

    def test_a_path_that_spells_a_name_is_that_name(self) -> None:
        assert load_preset(Path("demo")) == load_preset("demo")

    def test_as_plain_values_it_makes_the_same_preset_again(self) -> None:
        preset = load_preset("demo")
        names = {name: value for name, value in preset.as_dict().items() if isinstance(value, str)}
        sections = {name: value for name, value in preset.as_dict().items() if isinstance(value, dict)}
        assert Preset(**names).override(**sections) == preset


class TestSections:
    @pytest.mark.parametrize("pipeline", PIPELINE_SECTIONS)
    def test_a_threshold_is_that_of_presence_where_there_is_any(self, pipeline: str) -> None:
        preset = preset_of("test", pipeline=pipeline)
        assert preset.threshold is None
        assert preset.reads("presence") == ("presence" in PIPELINE_SECTIONS[pipeline])
        if preset.reads("presence"):
            assert preset.override(presence={"threshold": 0.25}).threshold == 0.25


class TestFile:
    def test_what_it_leaves_out_is_the_default(self, tmp_path: Path) -> None:
        preset = load_preset(write(tmp_path, "encoder: some/model\nsaliency: {method: dense, shifts: 2}\n"))
        assert preset == Preset("mine", encoder="some/model", sections={"saliency": DenseSettings(shifts=2)})
        assert preset["mask"] == MaskSettings()

    def test_it_may_name_itself(self, tmp_path: Path) -> None:
        assert load_preset(str(write(tmp_path, "name: ours\nabout: x", "a.yml"))).name == "ours"

    def test_changes_are_merged_into_it(self, tmp_path: Path) -> None:
        path = write(tmp_path, "saliency: {method: dense, shifts: 2}")
        changed = load_preset(path, saliency={"shifts": 3}, segmenter="sam.pth")
        assert (changed["saliency"], changed.segmenter) == (DenseSettings(shifts=3), "sam.pth")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("encoder: [", "is not YAML"),
            ("about: 2020-13-45", "is not YAML"),
            ("- a\n- b", "holds no fields"),
            ("", "holds no fields"),
        ],
    )
    def test_not_a_preset(self, tmp_path: Path, content: str, words: str) -> None:
        with pytest.raises(UnknownPreset, match=words) as caught:
            load_preset(write(tmp_path, content))
        assert one_line(caught.value)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("encoders: bundled", "no field 'encoders'; expected one of name, about, pipeline, encoder"),
            ("1: 2", "no field '1'"),
            ("self: 2", "no field 'self'"),
            ("encoder: 5", "encoder is 5; expected text"),
            ("saliency: dense", "saliency is 'dense'; expected settings"),
            ("presence:", "presence is None; expected settings"),
        ],
    )
    def test_a_field_that_is_wrong(self, tmp_path: Path, content: str, words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(words)) as caught:
            load_preset(write(tmp_path, content))
        assert one_line(caught.value)

    def test_missing_or_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownPreset, match=r"gone\.yaml cannot be read \(FileNotFoundError\)"):
            load_preset(tmp_path / "gone.yaml")
        (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UnknownPreset, match=r"UnicodeDecodeError"):
            load_preset(tmp_path / "bytes.yaml")

    @pytest.mark.parametrize("name", ["demos", "", "../presets/demo", "Demo"])
    def test_an_unknown_name_is_told_the_known_ones(self, name: str) -> None:
        with pytest.raises(UnknownPreset, match=r"expected one of demo, .*medclip-sam.* or a \.yaml file"):
            load_preset(name)


class TestOverride:
    BASE = preset_of("p", saliency={"method": "dense", "shifts": 2}, mask={"fill_holes": True})

    def test_a_section_is_merged_and_the_others_stay(self) -> None:
        changed = self.BASE.override(saliency={"framing": "tile"})
        assert changed["saliency"] == DenseSettings(shifts=2, framing="tile")
        assert changed["mask"] == self.BASE["mask"]
        assert self.BASE["saliency"] == DenseSettings(shifts=2)

    def test_another_method_drops_the_first_ones_settings(self) -> None:
        changed = self.BASE.override(saliency={"method": "gscorecam", "k": 10})
        assert changed["saliency"] == GScoreCAMSettings(k=10)

    def test_the_same_method_named_again_keeps_them(self) -> None:
        assert self.BASE.override(saliency={"method": "dense"})["saliency"] == self.BASE["saliency"]

    def test_another_pipeline_leaves_out_what_it_does_not_read(self) -> None:
        changed = load_preset("demo", pipeline="salip")
        assert "regions" not in changed.sections and changed["mask"] == load_preset("demo")["mask"]

    @pytest.mark.parametrize(("former", "today"), [*RENAMED.items()])
    def test_a_former_name_is_told_todays(self, former: tuple[str, str], today: str) -> None:
        section, name = former
        with pytest.raises(UsageError, match=re.escape(f"{section} has no setting '{name}' any more")) as caught:
            load_preset("demo-salip", **{section: {name: 1}})
        assert today in str(caught.value) and one_line(caught.value)

    def test_a_name_can_be_given(self) -> None:
        assert self.BASE.override(name="q").name == "q"
        assert load_preset("demo", name="q").name == "q"

    @pytest.mark.parametrize(
        "changes", [{"colour": 1}, {"self": 1}, {"mask": "region"}, {"mask": ["x"]}, {"segmenter": None}]
    )
    def test_what_cannot_be(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="expected") as caught:
            self.BASE.override(**changes)
        assert one_line(caught.value)


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("saliency.method=gscorecam", {"saliency": {"method": "gscorecam"}}),
            ("saliency.k=30", {"saliency": {"k": 30}}),
            ("presence.threshold=null", {"presence": {"threshold": None}}),
            ("presence.threshold=", {"presence": {"threshold": None}}),
            ("prompts.min_area=0.5", {"prompts": {"min_area": 0.5}}),
            (" mask . fill_holes = true ", {"mask": {"fill_holes": True}}),
            ("mask={fusion: region}", {"mask": {"fusion": "region"}}),
            ("encoder=hf-hub:org/model", {"encoder": "hf-hub:org/model"}),
            ("encoder=a=b", {"encoder": "a=b"}),
        ],
    )
    def test_values_are_read_as_yaml(self, text: str, expected: dict[str, Any]) -> None:
        assert parse_setting(text) == expected

    @pytest.mark.parametrize("text", ["", "saliency", "saliency.k", "=1", ".k=1", "saliency.=1", "a.b.c=1"])
    def test_not_of_the_form(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"not of the form section\.key=value"):
            parse_setting(text)

    @pytest.mark.parametrize("value", ["[", "2020-13-45"])
    def test_a_value_that_is_not_yaml(self, value: str) -> None:
        with pytest.raises(UsageError, match="cannot be read") as caught:
            parse_setting(f"saliency.k={value}")
        assert one_line(caught.value)

    @pytest.mark.parametrize("name", ["device", "progress", "preset", "self", "salience.k"])
    def test_a_callers_own_keyword_is_no_field(self, name: str) -> None:
        with pytest.raises(UsageError, match="a preset has no field"):
            parse_setting(f"{name}=1")

    def test_several_of_one_section_are_put_together_and_the_last_wins(self) -> None:
        merged = merge_settings(["saliency.k=3", "saliency.method=gscorecam", "about=x", "saliency.k=4"])
        assert merged == {"saliency": {"k": 4, "method": "gscorecam"}, "about": "x"}

    def test_settings_of_another_method_survive_its_switch_in_any_order(self) -> None:
        for texts in (
            ["saliency.k=3", "saliency.method=gscorecam"],
            ["saliency.method=gscorecam", "saliency.k=3"],
        ):
            preset = load_preset("demo", **merge_settings(texts))
            assert preset["saliency"] == GScoreCAMSettings(k=3, clip_percentile=100)

    def test_a_section_that_is_no_section_reaches_the_person(self) -> None:
        with pytest.raises(UsageError, match="saliency is 3"):
            load_preset("demo", **merge_settings(["saliency.k=1", "saliency=3"]))

    def test_nothing(self) -> None:
        assert merge_settings([]) == {}
