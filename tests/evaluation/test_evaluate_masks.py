"""What truths and predictions are stored as changes nothing, and what was decided is told."""

from __future__ import annotations

import csv
import sys
import unicodedata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from mask_files import EXACT, SOFT, nifti

from lexiseg.errors import UsageError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.metrics.masks import score_mask
from lexiseg.evaluation.report.page import to_html, to_markdown
from lexiseg.evaluation.report.record import cases_csv, to_json
from lexiseg.evaluation.results import Evaluation
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap

QUICK = Bootstrap(resamples=20)


def run(small: Any, *folders: Path, **options: Any) -> Evaluation:
    return evaluate(small.manifest, folders, EvaluationSettings(bootstrap=QUICK, **options))


def cases(found: Evaluation) -> dict[str, Any]:
    return {case.id: case for case in found.systems[0].cases}


def folder_of(small: Any, name: str = "p") -> Path:
    folder: Path = small.folder.parent / name
    folder.mkdir(exist_ok=True)
    return folder


def one_scan(small: Any, truth: Path, image: str = "images/a.png", text: str = "") -> None:
    small.write_manifest([["a", image, str(truth.relative_to(small.folder)), text]], ("id", "image", "mask", "text"))


@pytest.mark.parametrize("role", ["truth", "prediction"])
@pytest.mark.parametrize("name", [*EXACT, *SOFT])
def test_every_encoding_in_every_role(small: Any, name: str, role: str) -> None:
    write = {**EXACT, **SOFT}[name]
    mask, folder = small.truths["a"], folder_of(small)
    truth = (write if role == "truth" else EXACT["0 and 255"])(mask, small.folder / "masks" / "t")
    (write if role == "prediction" else EXACT["0 and 255"])(mask, folder / "a_mask")
    one_scan(small, truth)
    case = cases(run(small, folder))["a"]
    assert (case.status.value, case.reason) == ("ok", "")
    assert case.values["dice"] == 1 if name in EXACT else case.values["dice"] > 0.85
    decided = [note for note in case.notes if note.startswith(f"{role}: ")]
    assert len(decided) == len(case.notes)
    if "white is zero" in name:
        assert "inverted" in decided[0]


class TestSingleSlices:
    """An axis of length one has no surface."""

    @given(
        truth=st.integers(0, 2**30).map(lambda seed: np.random.default_rng(seed).random((9, 11)) > 0.5),
        shift=st.integers(0, 4),
        axis=st.integers(0, 2),
    )
    @settings(deadline=None)
    def test_score_as_their_picture(self, truth: np.ndarray, shift: int, axis: int) -> None:
        predicted = np.roll(truth, shift, axis=1)
        flat = score_mask(truth, predicted, spacing=(0.7, 0.7), tolerance=1)
        steps = [0.7, 0.7, 0.7]
        steps[axis] = 5.0
        deep = score_mask(np.expand_dims(truth, axis), np.expand_dims(predicted, axis), spacing=steps, tolerance=1)
        assert flat.values == deep.values
        assert flat.fractions == deep.fractions

    def test_nothing_at_all_and_one_voxel(self) -> None:
        one = np.ones((1, 1, 1), bool)
        assert score_mask(one, one).values["hd95_px"] == 0
        assert score_mask(one, ~one).values["dice"] == 0

    def test_files(self, small: Any) -> None:
        folder, mask = folder_of(small), small.truths["a"]
        nifti(mask, small.folder / "t")
        nifti(np.roll(mask, 4, axis=1), folder / "n_mask")
        EXACT["0 and 255"](np.roll(mask, 4, axis=1), folder / "a_mask")
        small.write_manifest(
            [["a", "images/a.png", "masks/a.png"], ["n", "t.nii.gz", "t.nii.gz"]], ("id", "image", "mask")
        )
        found = cases(run(small, folder))
        for metric in ("nsd_2", "hd95_", "assd_"):
            assert found["a"].values[f"{metric}px"] == found["n"].values[f"{metric}mm"]
        assert found["a"].values["nsd_2px"] < 1


class TestVolumes:
    AFFINE = np.array([[-0.7619, 0.2405, 0.1548, 60], [-0.244, -0.7509, -0.4834, 70], [0, -0.1353, 2.9568, -30], [0, 0, 0, 1]])  # fmt: skip  # noqa: E501

    def write(self, small: Any, affine: np.ndarray, orientation: Any = None, stem: str = "v") -> Path:
        truth = np.zeros((24, 26, 8), np.uint8)
        truth[3:12, 6:19, 2:4] = 1
        folder = folder_of(small)
        nib.save(nib.Nifti1Image(truth, self.AFFINE), small.folder / "t.nii.gz")
        made = nib.Nifti1Image(truth, affine)
        if orientation is not None:
            made = made.as_reoriented(np.array(orientation))
        nib.save(made, folder / f"{stem}_mask.nii.gz")
        small.write_manifest([["v", "t.nii.gz", "t.nii.gz", ""]], ("id", "image", "mask", "text"))
        return folder

    @pytest.mark.parametrize("decimals", [2, 3, 4])
    def test_rounded_affines_are_the_same_grid(self, small: Any, decimals: int) -> None:
        case = cases(run(small, self.write(small, np.round(self.AFFINE, decimals))))["v"]
        assert case.values["dice"] == 1

    @pytest.mark.parametrize("orientation", [[[0, -1], [1, 1], [2, 1]], [[2, 1], [0, -1], [1, 1]]])
    def test_turned_predictions_are_turned_back_with_a_note(self, small: Any, orientation: Any) -> None:
        case = cases(run(small, self.write(small, self.AFFINE, orientation)))["v"]
        assert case.values["dice"] == 1
        assert "undone by the affines" in case.notes[0]

    @pytest.mark.parametrize("share", [0.5, 1, -3])
    def test_a_shift_is_refused(self, small: Any, share: float) -> None:
        moved = self.AFFINE.copy()
        moved[:3, 3] += share * self.AFFINE[:3, 2]
        (failed,) = run(small, self.write(small, moved)).systems[0].failed()
        assert "mm away from the truth t.nii.gz" in failed.reason

    def test_upper_case_suffixes(self, small: Any) -> None:
        folder = self.write(small, self.AFFINE)
        (folder / "v_mask.nii.gz").rename(folder / "v_mask.NII.GZ")
        assert cases(run(small, folder))["v"].values["dice"] == 1


class TestNames:
    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    @pytest.mark.parametrize("other", ["NFC", "NFD"])
    def test_accents_compose_alike(self, small: Any, form: str, other: str) -> None:
        name, file_name = (unicodedata.normalize(each, "Prüfung-Ångström") for each in (form, other))
        folder = folder_of(small)
        EXACT["0 and 255"](small.truths["a"], folder / f"{file_name}_mask")
        EXACT["0 and 255"](small.truths["a"], small.folder / "masks" / file_name)
        small.write_manifest([[name, "images/a.png", f"masks/{name}.png"]], ("id", "image", "mask"))
        (case,) = run(small, folder).systems[0].cases
        assert (case.status.value, case.values["dice"]) == ("ok", 1)

    def test_both_ways_to_compose_one_name_are_two_files(self, small: Any) -> None:
        folder = folder_of(small)
        for form in ("NFC", "NFD"):
            EXACT["0 and 255"](small.truths["a"], folder / f"{unicodedata.normalize(form, 'ü')}_mask")
        if len(list(folder.iterdir())) < 2:
            pytest.skip("this file system composes names itself")
        small.write_manifest([["ü", "images/a.png", "masks/a.png"]], ("id", "image", "mask"))
        assert "are both there" in run(small, folder).systems[0].failed()[0].reason


class TestExif:
    def turned(self, small: Any, orientation: int, side: int) -> None:
        """A photograph whose stored pixels show the disc elsewhere than viewers do."""
        stored = np.full((48, side), 60, np.uint8)
        stored[5:20, 8:17] = 160
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(small.folder / "images" / "turned.jpg", exif=exif)

    def masks(self, small: Any, side: int) -> tuple[np.ndarray, np.ndarray]:
        raw = np.zeros((48, side), bool)
        raw[5:20, 8:17] = True
        return raw, np.rot90(raw, -1)

    def test_names_exif_where_sizes_differ(self, small: Any) -> None:
        self.turned(small, 6, 64)
        raw, upright = self.masks(small, 64)
        folder = folder_of(small)
        EXACT["0 and 255"](upright, folder / "a_mask")
        one_scan(small, EXACT["0 and 255"](raw, small.folder / "masks" / "t"), "images/turned.jpg")
        (failed,) = run(small, folder).systems[0].failed()
        assert "EXIF orientation 6 turns the scan: one of them was drawn on the unturned pixels" in failed.reason

    @pytest.mark.parametrize("whose", ["truth", "prediction"])
    def test_names_exif_where_the_scan_is_square(self, small: Any, whose: str) -> None:
        self.turned(small, 6, 48)
        raw, upright = self.masks(small, 48)
        folder = folder_of(small)
        EXACT["0 and 255"](upright if whose == "truth" else raw, folder / "a_mask")
        truth = EXACT["0 and 255"](raw if whose == "truth" else upright, small.folder / "masks" / "t")
        one_scan(small, truth, "images/turned.jpg")
        (note,) = cases(run(small, folder))["a"].notes
        assert "EXIF orientation 6 turns the scan" in note
        assert f"with the {whose} turned so too, Dice would be 1.000" in note

    def test_says_no_more_than_that_where_masks_fit(self, small: Any) -> None:
        self.turned(small, 6, 48)
        _, upright = self.masks(small, 48)
        folder = folder_of(small)
        EXACT["0 and 255"](upright, folder / "a_mask")
        one_scan(small, EXACT["0 and 255"](upright, small.folder / "masks" / "t"), "images/turned.jpg")
        case = cases(run(small, folder))["a"]
        assert case.values["dice"] == 1
        assert "seems" not in case.notes[0]


def results(folder: Path, rows: list[str]) -> None:
    (folder / "results.csv").write_text("\n".join(["id,text,present,status,error,notes", *rows]) + "\n")


class TestPhrases:
    PHRASES = ("lungs", "left lung")

    @pytest.fixture
    def asked(self, small: Any) -> Path:
        """A run of two phrases of which one holds the other; the label map has no pixel of the smaller one."""
        folder = folder_of(small)
        lungs, left = np.zeros((2, 48, 64), bool)
        lungs[5:40, 5:60], left[5:40, 32:60] = True, True
        EXACT["0 and 255"](lungs, folder / "a_mask")
        EXACT["0 and 1"](lungs, folder / "a_labels")
        EXACT["0 and 255"](lungs, folder / "a_mask_lungs")
        EXACT["0 and 255"](left, folder / "a_mask_left-lung")
        EXACT["0 and 255"](left, small.folder / "masks" / "left")
        EXACT["0 and 255"](lungs, small.folder / "masks" / "lungs")
        results(folder, [f"a,{phrase},true,ok,," for phrase in self.PHRASES])
        return folder

    @pytest.mark.parametrize(("phrase", "file"), [("left lung", "left"), ("lungs", "lungs"), ("Left  LUNG", "left")])
    @pytest.mark.parametrize("given_by", ["text", "row"])
    def test_have_their_own_masks(self, small: Any, asked: Path, phrase: str, file: str, given_by: str) -> None:
        one_scan(small, small.folder / "masks" / f"{file}.png", text=phrase if given_by == "row" else "")
        case = cases(run(small, asked, text=phrase if given_by == "text" else None))["a"]
        assert case.values["dice"] == 1
        assert case.notes == ()

    def test_an_unknown_one_is_counted_as_no_finding(self, small: Any, asked: Path) -> None:
        one_scan(small, small.folder / "masks" / "left.png", text="left lung")
        (asked / "results.csv").write_text("id,text,present,status,verdict\na,left lung,false,ok,unknown\n")
        system = run(small, asked).systems[0]
        assert system.counts()["unknown"] == 1
        assert "run: the phrase is unknown to the models" in cases(run(small, asked))["a"].notes

    @pytest.mark.parametrize("text", ["", "a chest with lungs"])
    def test_are_refused_where_nobody_says_which(self, small: Any, asked: Path, text: str) -> None:
        one_scan(small, small.folder / "masks" / "left.png", text=text)
        with pytest.raises(UsageError, match=r"'lungs', 'left lung'.*--text"):
            run(small, asked)

    def test_own_masks_are_no_unknown_ones(self, small: Any, asked: Path) -> None:
        one_scan(small, small.folder / "masks" / "left.png", text="left lung")
        assert run(small, asked).systems[0].others == ()

    def test_another_phrase_than_the_manifests_is_noted(self, small: Any, asked: Path) -> None:
        results(asked, ["a,lungs,true,ok,,"])
        one_scan(small, small.folder / "masks" / "left.png", text="heart")
        assert cases(run(small, asked))["a"].notes == ("run: it was asked for 'lungs', the manifest's text is 'heart'",)


class TestRuns:
    def test_a_mask_of_another_run_is_no_prediction(self, small: Any) -> None:
        folder = small.predict("p", 0)
        lines = (folder / "results.csv").read_text().splitlines()
        (folder / "results.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n")
        (failed,) = run(small, folder).systems[0].failed()
        assert (failed.id, failed.status.value, failed.values["dice"]) == ("a", "missing", 0)
        assert failed.reason == "results.csv does not list it; the mask that lies there is of another run"

    def test_nor_is_one_of_a_scan_that_failed(self, small: Any) -> None:
        folder = small.predict("p", 0)
        table = (folder / "results.csv").read_text().replace("0.1,ok,", "0.1,failed,too dark", 1)
        (folder / "results.csv").write_text(table)
        (failed,) = run(small, folder).systems[0].failed()
        assert (failed.id, failed.reason) == ("a", "its run failed: too dark")

    def test_what_the_run_noted_is_in_every_report(self, small: Any) -> None:
        folder = small.predict("p", 0, table=False)
        results(folder, [f"{name},disc,true,ok,,format: PNG; padding: black" for name in small.truths])
        found = run(small, folder)
        assert cases(found)["a"].notes == ("run: format: PNG", "run: padding: black")
        rows = list(csv.DictReader(cases_csv(found).splitlines()))
        assert rows[0]["notes"] == "run: format: PNG; run: padding: black"
        for text in (to_markdown(found), to_html(found, cases=0), to_json(found)):
            assert "run: padding: black" in text


def test_an_inverted_truth_is_told(small: Any) -> None:
    folder = small.predict("p", 1)
    EXACT["0 and 255"](~small.truths["a"], small.folder / "masks" / "a")
    found = cases(run(small, folder))
    assert found["a"].values["dice"] < 0.2
    assert "truth: inverted it would score Dice 0." in found["a"].notes[0]
    assert found["b"].notes == ()


def test_notes_that_differ_in_numbers_are_one_row(small: Any) -> None:
    folder = small.predict("p", 0, table=False)
    results(folder, [f"{name},disc,true,ok,,range: 0 to {k}" for k, name in enumerate(small.truths)])
    assert "| run: range: … to … | 6 |" in to_markdown(run(small, folder))
