"""Splits, settings, and sets on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from discs import write_discs
from PIL import Image

from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.errors import NoLabels, UsageError
from lexiseg.training.students.labels import names_a_side, parts_of, read_pseudo_labels, read_true_masks, tell_splits
from lexiseg.training.students.samples import load_samples
from lexiseg.training.students.settings import TrainSettings


def rows(*groups: str, split: str = "") -> list[ManifestRow]:
    return [
        ManifestRow(id=f"r{k}", image=Path(f"{k}.png"), group=group, extra={"split": split})
        for k, group in enumerate(groups)
    ]


class TestParts:
    def test_a_patient_is_in_one_part(self) -> None:
        groups = [f"p{k % 17}" for k in range(60)]
        parts = parts_of(rows(*groups), validation=0.3, seed=1)
        where = {group: {p for g, p in zip(groups, parts, strict=True) if g == group} for group in groups}
        assert all(len(found) == 1 for found in where.values())
        assert 8 <= parts.count("val") <= 30

    def test_a_seed_is_a_split(self) -> None:
        many = rows(*(f"p{k}" for k in range(30)))
        first = parts_of(many, validation=0.3, seed=1)
        assert first == parts_of(many, validation=0.3, seed=1) != parts_of(many, validation=0.3, seed=2)

    @pytest.mark.parametrize("validation", [0.01, 0.5, 0.99])
    def test_two_patients_are_one_on_each_side(self, validation: float) -> None:
        parts = parts_of(rows("a", "a", "b"), validation=validation, seed=0)
        assert set(parts) == {"train", "val"}
        assert parts[0] == parts[1]

    def test_one_patient_is_trained_on(self) -> None:
        assert parts_of(rows("a", "a"), validation=0.2, seed=0) == ["train", "train"]

    @pytest.mark.parametrize("word", ["train", "val", "test"])
    def test_a_split_that_is_given_holds(self, word: str) -> None:
        assert parts_of(rows("a", "b", split=word), validation=0.5, seed=0) == [word, word]

    @pytest.mark.parametrize("word", ["train", "val", "test"])
    def test_a_scan_without_a_word_follows_its_patient(self, word: str) -> None:
        mixed = [*rows("a", split=word), *rows("a", "b", "c"), *rows("a")]
        parts = parts_of(mixed, validation=0.5, seed=0)
        assert [parts[0], parts[1], parts[4]] == [word] * 3

    def test_a_scan_of_a_torn_patient_is_not_learnt(self) -> None:
        torn = [*rows("a", split="test"), *rows("a", split="train"), *rows("a"), *rows("b", split="train")]
        assert parts_of(torn, validation=0.5, seed=0) == ["test", "train", "test", "train"]

    @pytest.mark.parametrize(
        ("word", "part"), [("Testing", "test"), ("held-out", "test"), ("dev", "val"), ("Training", "train")]
    )
    def test_other_words_for_the_parts(self, word: str, part: str) -> None:
        assert parts_of(rows("a", "b", split=word), validation=0.5, seed=0) == [part, part]


class TestTellSplits:
    def test_no_patients_is_told_where_a_split_is_made(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_splits(rows("", "", split="train"))
        assert not caplog.text
        tell_splits(rows("", ""))
        assert "no column says which scans are of one patient" in caplog.text

    def test_the_column_that_is_taken_for_the_patient(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_splits([replace(row, extra={"PID": row.group}) for row in rows("a", "b")])
        assert caplog.messages == ["the column PID is taken as the group that a split keeps together"]

    def test_a_patient_in_two_parts(self, caplog: pytest.LogCaptureFixture) -> None:
        torn = [*rows("a", "b", split="train"), *rows("a", split="val")]
        tell_splits(torn)
        assert "scans of 1 of 2 groups in two parts" in caplog.text

    def test_a_word_that_is_no_part(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_splits(rows("a", "b", split="trian"))
        assert "the column split says 'trian' of 2 rows" in caplog.text

    def test_what_is_sound_is_not_spoken_of(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_splits([*rows("a", "a", split="train"), *rows("b", split="Validation"), *rows("c")])
        assert not caplog.text


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"size": 100},
            {"size": 16},
            {"longest": 64},
            {"robust": ("magic",)},
            {"robust": ("small-loss", "co-teaching")},
            {"robust": ("weighting", "none")},
            {"steps": 0},
            {"precision": "float8"},
            {"widths": (16,)},
        ],
    )
    def test_refuses_in_one_line(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UsageError, match="expected") as caught:
            TrainSettings(**wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    def test_whole_scans_unless_told_otherwise(self) -> None:
        assert TrainSettings(size=64).extent == 64
        assert TrainSettings(size=64, longest=200).extent == 200


@pytest.mark.parametrize(
    ("phrase", "side"),
    [
        *((name, True) for name in ("left lung", "Right kidney", "LV", "rv", "R lung", "lung (L)", "L kidney", "LUL")),
        *(
            (name, True)
            for name in ("LeftLung", "lungL", "kidney_left", "linke Lunge", "poumon gauche", "riñón derecho")
        ),
        *((name, False) for name in ("lungs", "bright lesion", "liver", "L5 vertebra", "T2 lesion", "myocardium")),
    ],
)
def test_knows_a_side(phrase: str, side: bool) -> None:
    assert names_a_side(["heart", phrase]) is side


class TestTrueMasks:
    def test_why_no_row_can_be_used(self, tmp_path: Path) -> None:
        write_discs(tmp_path, 2)
        lines = (tmp_path / "manifest.csv").read_text().splitlines()
        whole = [line.replace("images/", f"{tmp_path}/images/") for line in lines]
        (tmp_path / "absolute.csv").write_text("\n".join(whole))
        with pytest.raises(UsageError, match=r"no row can be used; the first problem: .*absolute path"):
            read_true_masks(tmp_path / "absolute.csv", ["disc"])

    def test_rows_that_cannot_be_used_are_spoken_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_discs(tmp_path, 3)
        lines = (tmp_path / "manifest.csv").read_text().splitlines()
        lines[1] = lines[1].replace("images/", "/images/", 1)
        (tmp_path / "one.csv").write_text("\n".join(lines))
        assert len(read_true_masks(tmp_path / "one.csv", ["disc"]).rows) == 2
        assert "1 of 3 rows cannot be used" in caplog.text

    def test_leaves_test_scans_out(self, tmp_path: Path) -> None:
        write_discs(tmp_path, 4, split="test")
        with pytest.raises(UsageError, match="split test"):
            read_true_masks(tmp_path / "manifest.csv")

    def test_says_what_it_is(self, discs: Path) -> None:
        found = read_true_masks(discs / "manifest.csv")
        assert found.supervised
        assert found.kind == "true masks"
        assert found.names == ("target",)

    def test_images_that_exif_turns_are_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        first, *_ = write_discs(tmp_path, 3)
        turned = Image.Exif()
        turned[274] = 2
        Image.open(first.image).save(first.image, exif=turned)
        read_true_masks(tmp_path / "manifest.csv", ["disc"])
        assert "EXIF turns 1 of 3 images, and masks are taken as drawn on the turned one" in caplog.text

    @pytest.mark.parametrize(
        ("texts", "sided"),
        [
            ("lungs", False),
            ("left lung", True),
            ("", True),
            ("lungs|heart", False),
            ("lungs|", True),
            ("lungs|LV", True),
        ],
    )
    def test_mirrors_nothing_that_may_be_one_sides(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, texts: str, sided: bool
    ) -> None:
        write_discs(tmp_path, 2)
        listed = read_manifest(tmp_path / "manifest.csv")
        each = (texts.split("|") * 2)[:2]
        named = [replace(row, text=text) for row, text in zip(listed, each, strict=True)]
        write_manifest(named, tmp_path / "named.csv")
        assert read_true_masks(tmp_path / "named.csv").sided is sided
        assert ("no scan is mirrored; --text names it" in caplog.text) is ("" in each)
        assert not read_true_masks(tmp_path / "named.csv", ["disc"]).sided


class TestPseudoLabels:
    def test_true_masks_do_not_pass_for_pseudo_labels(self, discs: Path) -> None:
        with pytest.raises(UsageError, match="--masks"):
            read_pseudo_labels(discs)

    def test_a_row_without_weight_is_refused(self, tmp_path: Path) -> None:
        write_discs(tmp_path, 2, split="train")
        record = {"phrases": ["disc"], "teacher": {}}
        (tmp_path / "pseudo_labels.json").write_text(json.dumps(record))
        with pytest.raises(UsageError, match="weight"):
            read_pseudo_labels(tmp_path)

    def test_a_damaged_record_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "pseudo_labels.json").write_text("{")
        with pytest.raises(UsageError, match="again"):
            read_pseudo_labels(tmp_path)


class TestSamples:
    def test_sizes_and_channels_may_differ(self, discs: Path, tmp_path: Path) -> None:
        shutil.copytree(discs, tmp_path / "set")
        colour = np.random.default_rng(0).integers(0, 255, (20, 70, 3)).astype(np.uint8)
        Image.fromarray(colour).save(tmp_path / "set" / "images" / "d3.png")
        Image.fromarray(np.full((20, 70), 255, np.uint8)).save(tmp_path / "set" / "masks" / "d3.png")
        samples = load_samples(read_true_masks(tmp_path / "set" / "manifest.csv"), extent=32)
        assert samples.images.shape == (12, 3, 32, 32)
        assert samples.failed == 0

    def test_a_corrupt_scan_is_left_out_and_told(
        self, discs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shutil.copytree(discs, tmp_path / "set")
        (tmp_path / "set" / "images" / "d5.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
        samples = load_samples(read_true_masks(tmp_path / "set" / "manifest.csv"), extent=32)
        assert (len(samples.rows), samples.failed) == (11, 1)
        assert "d5.png" in caplog.text

    def test_nothing_but_background_is_refused(self, discs: Path, tmp_path: Path) -> None:
        shutil.copytree(discs, tmp_path / "set")
        for path in (tmp_path / "set" / "masks").iterdir():
            Image.fromarray(np.zeros((36, 48), np.uint8)).save(path)
        with pytest.raises(NoLabels, match="nothing to learn"):
            load_samples(read_true_masks(tmp_path / "set" / "manifest.csv"), extent=32)

    def test_held_out_scans_without_a_target_are_told(
        self, discs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shutil.copytree(discs, tmp_path / "set")
        labels = read_true_masks(tmp_path / "set" / "manifest.csv", ["disc"])
        held = [row for row in labels.rows if row.extra["split"] == "val"]
        for row in held:
            assert row.mask is not None
            Image.fromarray(np.zeros((36, 48), np.uint8)).save(row.mask)
        load_samples(labels, extent=32)
        assert f"none of the {len(held)} held-out scans shows a target" in caplog.text
        for row in held:
            row.image.unlink()
        load_samples(labels, extent=32)
        assert "no held-out scan could be read" in caplog.text

    def test_a_target_that_nobody_shows_is_named(self, discs: Path, tmp_path: Path) -> None:
        shutil.copytree(discs, tmp_path / "set")
        for path in (tmp_path / "set" / "masks").iterdir():
            values = np.asarray(Image.open(path)) // 255
            Image.fromarray(values.astype(np.uint8)).save(path)
        labels = read_true_masks(tmp_path / "set" / "manifest.csv", ["disc", "ring"])
        with pytest.raises(NoLabels, match="ring"):
            load_samples(labels, extent=32)
