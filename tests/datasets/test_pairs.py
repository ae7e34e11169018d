"""Pairs from tables and from the layouts of MedPix and ROCO, and their split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lexiseg.datasets.pairs.pairs import split_pairs
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.errors import BadManifest, UsageError

LONG = "a small tumor in the upper left"


def images(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")


def table(folder: Path, text: str, *names: str) -> Path:
    images(folder, *names)
    (folder / "pairs.csv").write_text(text, encoding="utf-8")
    return folder / "pairs.csv"


class TestTable:
    def test_columns(self, tmp_path: Path) -> None:
        path = table(
            tmp_path,
            f'image,text,group,split,extra\na.png,{LONG},p1,train,1\nb.png,"two,\n lines",p2,Validation,2\n',
            "a.png",
            "b.png",
        )
        first, second = read_pairs(path).pairs
        assert (first.image, first.text, first.group, first.part) == (tmp_path / "a.png", LONG, "p1", "train")
        assert (second.text, second.part) == ("two, lines", "val")

    def test_a_folder_with_a_table_and_the_names_of_others(self, tmp_path: Path) -> None:
        table(tmp_path, f"filename,Caption\na.png,{LONG}\nb.png,{LONG}\n", "a.png", "b.png")
        pairs = read_pairs(tmp_path).pairs
        assert [pair.text for pair in pairs] == [LONG, LONG]
        assert [pair.group for pair in pairs] == ["a.png", "b.png"]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("gone.png,a caption indeed", "no image gone.png"),
            ("a.png,", "caption is empty"),
            ("a.png,   ", "caption is empty"),
            ("a.png,too short", "9 characters, expected at least 10"),
            (",a caption indeed", "no image is named"),
            ("a.png,one,two", "3 fields, expected 2"),
            ("/etc/passwd,a caption indeed", "absolute path"),
            ("../a.png,a caption indeed", "leads out"),
        ],
    )
    def test_a_bad_row_is_left_out_and_said(self, tmp_path: Path, row: str, reason: str) -> None:
        path = table(tmp_path, f"image,text\na.png,{LONG}\n{row}\na.png,{LONG}!\n", "a.png")
        found = read_pairs(path, min_caption=10)
        assert len(found.pairs) == 2
        assert found.skipped[0].where == "line 3"
        assert reason in found.skipped[0].reason

    @pytest.mark.parametrize(
        "column",
        [
            "patient_id",
            "PatientID",
            "Patient ID",
            "patient",
            "subject_id",
            "subject",
            "study_id",
            "case_id",
            "CASE",
            "PID",
            "mrn",
            "Patient Number",
            "group_id",
        ],
    )
    def test_what_a_group_may_be_called(self, tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture) -> None:
        text = f"image,text,{column}\na.png,{LONG},p1\na.png,{LONG}!,p1\na.png,{LONG}?,None\n"
        found = read_pairs(table(tmp_path, text, "a.png"))
        # What is not known of a patient is no patient.
        assert [pair.group for pair in found.pairs] == ["p1", "p1", "a.png"]
        assert caplog.messages == [f"pairs.csv: the column {column} is taken as the group that a split keeps together"]

    def test_a_column_that_is_filled_counts_before_an_empty_one(self, tmp_path: Path) -> None:
        text = f"image,text,group,patient_id\na.png,{LONG},,p1\na.png,{LONG}!,,p1\n"
        assert {pair.group for pair in read_pairs(table(tmp_path, text, "a.png")).pairs} == {"p1"}

    def test_a_patients_name_goes_nowhere(self, tmp_path: Path) -> None:
        text = f"image,text,PatientName\na.png,{LONG},Doe^Ann\na.png,{LONG}!,Doe^Ann\na.png,{LONG}?,Roe^Ben\n"
        groups = [pair.group for pair in read_pairs(table(tmp_path, text, "a.png")).pairs]
        assert groups[0] == groups[1] != groups[2]
        assert not any("Ann" in group or "Ben" in group for group in groups)

    def test_a_patient_counts_before_a_study(self, tmp_path: Path) -> None:
        text = f"image,text,study_id,patient_id\na.png,{LONG},s1,p1\na.png,{LONG}!,s2,p1\n"
        assert {pair.group for pair in read_pairs(table(tmp_path, text, "a.png")).pairs} == {"p1"}

    @given(patients=st.lists(st.integers(0, 5), min_size=8, max_size=30), seed=st.integers(0, 9))
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    def test_no_patient_on_both_sides(self, tmp_path: Path, patients: list[int], seed: int) -> None:
        rows = "".join(f"a.png,{LONG} {k},p{patient}\n" for k, patient in enumerate(patients))
        pairs = read_pairs(table(tmp_path, f"image,text,subject_id\n{rows}", "a.png")).pairs
        try:
            train, validation = split_pairs(pairs, validation=0.3, seed=seed)
        except UsageError:
            return
        assert not {pair.group for pair in train} & {pair.group for pair in validation}

    def test_unknown_columns_and_a_missing_group_are_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        read_pairs(table(tmp_path, f"id,image,text,colour\n1,a.png,{LONG},red\n2,a.png,{LONG},red\n", "a.png"))
        assert len(caplog.messages) == 1
        assert "no column says which pairs are of one patient" in caplog.messages[0]
        assert "column colour not known, passed over" in caplog.messages[0]

    @pytest.mark.parametrize("caption", ["None", "NA", "n/a", "nan", "NaN", "null", "NULL", "-"])
    def test_placeholders_are_no_captions(self, tmp_path: Path, caption: str) -> None:
        path = table(tmp_path, f"image,text\na.png,{LONG}\na.png,{caption}\na.png,{LONG}!\n", "a.png")
        found = read_pairs(path)
        assert len(found.pairs) == 2
        assert found.skipped[0].reason == f"the caption is {caption!r}, which says nothing"

    def test_backslashes_get_a_hint(self, tmp_path: Path) -> None:
        text = f"image,text\na.png,{LONG}\nimg\\a.png,{LONG}\na.png,{LONG}!\n"
        found = read_pairs(table(tmp_path, text, "a.png", "img/a.png"))
        assert "backslashes: write / between folders" in found.skipped[0].reason

    def test_an_unknown_split(self, tmp_path: Path) -> None:
        text = f"image,text,split\na.png,{LONG},train\na.png,{LONG},later\na.png,{LONG},\n"
        assert "later" in read_pairs(table(tmp_path, text, "a.png")).skipped[0].reason

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "empty"),
            ("image,words\na.png,b\n", "column text is missing"),
            ("image,text\n", "no pair can be used"),
            (f"image,text\na.png,{LONG}\n", "1 pair can be used, expected at least 2"),
            ("image,text\ngone.png,b\n", "line 2: there is no image gone.png"),
            ('image,text\n"a.png,b\n', "not CSV"),
        ],
    )
    def test_a_table_that_cannot_be_used(self, tmp_path: Path, text: str, message: str) -> None:
        path = table(tmp_path, text, "a.png")
        with pytest.raises(BadManifest, match=message) as raised:
            read_pairs(path)
        assert str(raised.value).startswith(str(path))
        assert "\n" not in str(raised.value)

    def test_not_utf8_and_missing(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes("image,text\na,\xe9".encode("latin-1"))
        with pytest.raises(BadManifest, match="UTF-8"):
            read_pairs(tmp_path / "x.csv")
        with pytest.raises(BadManifest, match="no such file"):
            read_pairs(tmp_path / "y.csv")


class TestMedPix:
    def entry(self, image: str, caption: object, case: str = "MPX1") -> dict[str, object]:
        return {"Type": "CT", "U_id": case, "image": image, "Description": {"Caption": caption}}

    def test_list(self, tmp_path: Path) -> None:
        entries = [
            self.entry("MPX1_a", LONG), self.entry("MPX1_b", "Two\n lines of text"),
            self.entry("MPX2_c", LONG, "MPX2"),
            self.entry("MPX3_d", "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS."),
            self.entry("MPX3_e", "IN PROGRESS"), self.entry("MPX3_f", None), self.entry("../g", LONG), 7,
        ]  # fmt: skip
        images(tmp_path, *(f"images/{name}.png" for name in ("MPX1_a", "MPX1_b", "MPX2_c", "MPX3_d", "MPX3_f")))
        (tmp_path / "Descriptions.json").write_text(json.dumps(entries))
        found = read_pairs(tmp_path)
        assert [pair.group for pair in found.pairs] == ["MPX1", "MPX1", "MPX2"]
        assert found.pairs[1].text == "Two lines of text"
        assert found.pairs[0].image == tmp_path / "images" / "MPX1_a.png"
        assert [each.reason for each in found.skipped] == [
            "the caption was never written", "the caption was never written", "the caption is empty",
            "it names no image", "it names no image",
        ]  # fmt: skip

    def test_lines_bring_their_split(self, tmp_path: Path) -> None:
        for part in ("train_1", "dev", "test"):
            path = tmp_path / "splitted_dataset" / f"descriptions_{part}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(self.entry(f"x_{part}", LONG)) + "\n\n")
            images(tmp_path, f"images/x_{part}.png")
        assert sorted(pair.part for pair in read_pairs(tmp_path).pairs) == ["test", "train", "val"]

    def test_broken_json(self, tmp_path: Path) -> None:
        (tmp_path / "Description.json").write_text("[{")
        with pytest.raises(BadManifest, match="not JSON"):
            read_pairs(tmp_path)


class TestRoco:
    def test_first_version(self, tmp_path: Path) -> None:
        for part in ("train", "validation", "test"):
            folder = tmp_path / "data" / part / "radiology"
            images(folder, "images/ROCO_1.jpg", "images/PMC77_fig.jpg")
            folder.joinpath("captions.txt").write_text(f"ROCO_1\t {LONG}\nROCO_2\t{LONG}\nROCO_3\t{LONG}\nno tab\n")
            folder.joinpath("dlinks.txt").write_text(
                "ROCO_2\twget -nd ftp://x/oa_package/00/00/PMC77.tar.gz -P d\tfig.jpg\n"
            )
        found = read_pairs(tmp_path)
        assert [pair.part for pair in found.pairs] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
        assert (found.pairs[1].image.name, found.pairs[1].group) == ("PMC77_fig.jpg", "PMC77")
        assert len(found.skipped) == 6

    @pytest.mark.parametrize("folder", ["{}_images", "{}", "{0}_images/{0}_images"])
    def test_second_version(self, tmp_path: Path, folder: str) -> None:
        for part in ("train", "valid"):
            name = f"ROCOv2_2023_{part}_000001"
            images(tmp_path / folder.format(part), f"{name}.jpg")
            (tmp_path / f"{part}_captions.csv").write_text(f'ID,Caption\n{name},"{LONG}, again"\ngone,{LONG}\n')
        found = read_pairs(tmp_path)
        assert [pair.part for pair in found.pairs] == ["train", "val"]
        assert [each.where for each in found.skipped] == ["gone", "gone"]

    def test_an_unknown_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="MedPix"):
            read_pairs(tmp_path)


class TestSplit:
    def many(self, tmp_path: Path, count: int = 100, column: str = "") -> Path:
        rows = [f"a.png,{LONG} {index},p{index // 4},{column}" for index in range(count)]
        return table(tmp_path, "image,text,group,split\n" + "\n".join(rows), "a.png")

    def test_shares_by_group_and_seed(self, tmp_path: Path) -> None:
        pairs = read_pairs(self.many(tmp_path)).pairs
        train, val = split_pairs(pairs)
        assert len(train) + len(val) == 100
        assert len(val) == pytest.approx(15, abs=4)
        assert not {pair.group for pair in train} & {pair.group for pair in val}
        assert split_pairs(pairs) == (train, val)
        assert split_pairs(pairs, seed=1) != (train, val)

    def test_a_patient_in_two_parts_is_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        rows = [f"a.png,{LONG} {index},p{index % 5},{('train', 'val')[index % 2]}" for index in range(20)]
        split_pairs(read_pairs(table(tmp_path, "image,text,group,split\n" + "\n".join(rows), "a.png")).pairs)
        assert "scans of 5 of 5 groups in two parts" in caplog.text

    def test_a_patient_in_train_and_test_is_told_where_nothing_validates(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = [f"a.png,{LONG} {index},p{index % 5},{('train', 'test')[index % 2]}" for index in range(20)]
        split_pairs(
            read_pairs(table(tmp_path, "image,text,group,split\n" + "\n".join(rows), "a.png")).pairs, validation=0.4
        )
        assert "scans of 5 of 5 groups in two parts" in caplog.text

    def test_the_data_sets_own_split_counts(self, tmp_path: Path) -> None:
        rows = [f"a.png,{LONG},p{index},{part}" for index, part in enumerate(["train", "val", "test"] * 3)]
        path = table(tmp_path, "image,text,group,split\n" + "\n".join(rows), "a.png")
        train, val = split_pairs(read_pairs(path).pairs)
        assert {pair.part for pair in train} == {"train"}
        assert {pair.part for pair in val} == {"val"}
        assert len(train) == len(val) == 3

    def test_test_pairs_are_never_trained_on(self, tmp_path: Path) -> None:
        rows = [f"a.png,{LONG},p{index},{'test' if index % 2 else ''}" for index in range(40)]
        path = table(tmp_path, "image,text,group,split\n" + "\n".join(rows), "a.png")
        train, val = split_pairs(read_pairs(path).pairs)
        assert {pair.part for pair in (*train, *val)} == {""}
        assert len(train) + len(val) == 20

    def test_one_patient_cannot_be_split(self, tmp_path: Path) -> None:
        path = table(tmp_path, f"image,text,group\na.png,{LONG},p\nb.png,{LONG},p\nb.png,{LONG},p\n", "a.png", "b.png")
        with pytest.raises(UsageError, match="1 groups"):
            split_pairs(read_pairs(path).pairs)

    def test_a_share_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="more than 0"):
            split_pairs(read_pairs(self.many(tmp_path, 8)).pairs, validation=1.0)
