from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import BadManifest, UsageError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.metrics.catalogue import EmptyRule
from lexiseg.evaluation.results import EVERYTHING, Evaluation
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.values.overlap import dice

QUICK = Bootstrap(resamples=50)


def run(small: Any, *folders: Path, **settings: Any) -> Evaluation:
    return evaluate(small.manifest, folders, EvaluationSettings(bootstrap=QUICK, **settings))


def cases(found: Evaluation, system: int = 0) -> dict[str, Any]:
    return {case.id: case for case in found.systems[system].cases}


class TestScores:
    def test_are_those_of_the_masks(self, small: Any) -> None:
        found = cases(run(small, small.predict("p", 2)))
        for name in "abcde":
            truth = small.truths[name]
            assert found[name].values["dice"] == dice(truth, np.roll(truth, 2, axis=1))
        assert found["f"].values["dice"] == 1

    def test_mean_and_pooled(self, small: Any) -> None:
        system = run(small, small.predict("p", 2)).systems[0]
        summary = system.summaries[EVERYTHING]["dice"]
        assert summary.mean == pytest.approx(np.mean([case.values["dice"] for case in system.cases]))
        both = sum(int((t & np.roll(t, 2, axis=1)).sum()) for t in small.truths.values())
        assert summary.pooled == pytest.approx(both / sum(int(t.sum()) for t in small.truths.values()))

    def test_strata(self, small: Any) -> None:
        found = run(small, small.predict("p"), by=("label",))
        assert found.strata == [EVERYTHING, ("label", "none"), ("label", "x"), ("label", "y")]
        assert [found.systems[0].counts(each)["scans"] for each in found.strata] == [6, 1, 3, 2]

    def test_the_rule_for_empty_masks_is_the_users(self, small: Any) -> None:
        found = run(small, small.predict("p"), empty=EmptyRule.skip).systems[0]
        assert found.summaries[EVERYTHING]["dice"].left_out == 1
        assert found.counts()["both_empty"] == 1

    def test_presence_and_confidence_are_the_tables(self, small: Any) -> None:
        report = run(small, small.predict("p")).systems[0].presence[EVERYTHING]
        assert (report.with_target, report.without_target) == (5, 1)
        assert (report.auroc.value, report.sensitivity.value, report.specificity.value) == (1, 1, 1)

    def test_without_a_table_the_mask_decides(self, small: Any) -> None:
        report = run(small, small.predict("p", table=False)).systems[0].presence[EVERYTHING]
        assert (report.sensitivity.value, report.specificity.value) == (1, 1)
        assert math.isnan(report.auroc.value)

    def test_saliency(self, small: Any) -> None:
        folder = small.predict("p")
        for name, truth in small.truths.items():
            if name != "b":
                Image.fromarray((truth * 200 + 20).astype(np.uint8)).save(folder / f"{name}_saliency.png")
        found = cases(run(small, folder))
        assert found["a"].values["saliency_auc"] == found["a"].values["pointing"] == 1
        assert found["b"].values["saliency_auc"] == 0
        assert "saliency_auc" not in found["f"].values

    def test_systems_in_pairs(self, small: Any) -> None:
        found = run(small, small.predict("good", 0), small.predict("bad", 5))
        (compared,) = (each for each in found.comparisons if each.metric == "dice")
        assert (compared.first, compared.second, compared.groups) == ("good", "bad", 3)
        assert compared.effect == 1
        assert compared.first_larger == 5


class TestMatching:
    def test_is_by_id_whatever_the_order(self, small: Any) -> None:
        first = cases(run(small, small.predict("p", 3)))
        small.write_manifest(small.rows()[::-1])
        assert cases(run(small, small.folder.parent / "p")) == first

    def test_of_another_programs_names(self, small: Any) -> None:
        folder = small.predict("p", table=False)
        for path in folder.glob("*_mask.png"):
            path.rename(folder / path.name.replace("_mask", ""))
        assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in sorted(small.truths)]
        found = {case.id: case.status.value for case in run(small, folder).systems[0].cases}
        assert found == dict.fromkeys(small.truths, "ok")

    def test_masks_of_no_row_are_named(self, small: Any) -> None:
        folder = small.predict("p")
        shutil.copy(folder / "a_mask.png", folder / "zz_mask.png")
        assert run(small, folder).systems[0].others == ("zz_mask.png",)

    def test_names_tell_systems_apart(self, small: Any) -> None:
        small.predict("p")
        (small.folder.parent / "v2").mkdir()
        other = shutil.copytree(small.folder.parent / "p", small.folder.parent / "v2" / "p")
        found = run(small, small.folder.parent / "p", other)
        assert [system.name for system in found.systems][1] == "v2/p"

    def test_one_phrase_of_several(self, small: Any) -> None:
        folder = small.predict("p", table=False)
        lines = ["id,text,present,presence,confidence,status,error"]
        for name, truth in small.truths.items():
            labels = np.where(truth, 2, 0).astype(np.uint8)
            labels[:3, :3] = 1
            Image.fromarray(labels).save(folder / f"{name}_labels.png")
            Image.fromarray((labels > 0).astype(np.uint8) * 255).save(folder / f"{name}_mask.png")
            lines += [f"{name},corner,true,0.9,0.5,ok,", f"{name},disc,true,0.7,0.5,ok,"]
        (folder / "results.csv").write_text("\n".join(lines))
        assert cases(run(small, folder, text="Disc"))["a"].values["dice"] == 1
        assert cases(run(small, folder, text="Disc"))["a"].presence == 0.7
        assert "label map" in cases(run(small, folder, text="Disc"))["a"].notes[0]
        with pytest.raises(UsageError, match=r"a was asked for 'corner', 'disc', and no text .* choose with --text"):
            run(small, folder)


def remove(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(path))[:-3]).save(path)


def grey(path: Path) -> None:
    values = np.asarray(Image.open(path)).copy()
    values[0, 0], values[0, 1] = 100, 255
    Image.fromarray(values).save(path)


def damage(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")


def double(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".tif"))


BAD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (remove, "missing", "no a_mask.png"),
    "of another size": (shrink, "refused", "a_mask.png has 45 x 64 pixels, the truth a.png 48 x 64 pixels"),
    "not binary": (
        grey,
        "refused",
        "it holds 3 values, 0, 100 and 255, expected 0 and one other",
    ),
    "damaged": (damage, "refused", "a_mask.png: "),
    "there twice": (double, "refused", "a_mask.png and a_mask.tif are both there"),
}


class TestBadPredictions:
    @pytest.mark.parametrize("kind", BAD)
    def test_score_worst_and_are_listed_and_the_others_are_scored(self, small: Any, kind: str) -> None:
        spoil, status, reason = BAD[kind]
        folder = small.predict("p", 0)
        spoil(folder / "a_mask.png")
        found = run(small, folder)
        (failed,) = found.systems[0].failed()
        assert (failed.id, failed.status.value) == ("a", status)
        assert reason in failed.reason
        assert "\n" not in failed.reason
        assert failed.values["dice"] == failed.values["nsd_2px"] == 0
        assert failed.values["hd95_px"] == 80
        assert not found.complete
        assert found.systems[0].summaries[EVERYTHING]["dice"].mean == pytest.approx(5 / 6)
        assert found.systems[0].presence[EVERYTHING].sensitivity.value == pytest.approx(4 / 5)

    def test_a_failed_run_says_why(self, small: Any) -> None:
        folder = small.predict("p")
        (folder / "a_mask.png").unlink()
        table = (folder / "results.csv").read_text().replace("0.1,ok,", "0.1,failed,too dark", 1)
        (folder / "results.csv").write_text(table)
        (failed,) = run(small, folder).systems[0].failed()
        assert failed.reason == "its run failed: too dark"


class TestMissing:
    def test_are_told_first(self, small: Any, caplog: pytest.LogCaptureFixture) -> None:
        folder = small.predict("p")
        (folder / "a_mask.png").unlink()
        run(small, folder)
        assert caplog.messages[0] == f"1 of 6 scans of m.csv have no mask in {folder}: they score 0"

    def test_of_a_phrase_that_was_not_asked_of_every_scan(self, small: Any, caplog: pytest.LogCaptureFixture) -> None:
        folder = small.predict("p")
        table = (folder / "results.csv").read_text().replace("a.png,disc", "a.png,square", 1)
        (folder / "results.csv").write_text(table)
        found = run(small, folder, text="disc")
        assert caplog.messages[0].endswith("p for 'disc': they score 0")
        assert caplog.messages[0].startswith("1 of 6 scans")
        assert [case.id for case in found.systems[0].failed()] == ["a"]


class TestVolumes:
    AFFINE = np.diag([-0.5, -0.7, 3.0, 1.0])

    def write(self, small: Any, affine: np.ndarray) -> Path:
        rng = np.random.default_rng(3)
        truth = np.zeros((12, 14, 6), np.uint8)
        truth[3:8, 4:9, 2:4] = 1
        nib.save(nib.Nifti1Image(rng.random(truth.shape), self.AFFINE), small.folder / "v.nii.gz")
        nib.save(nib.Nifti1Image(truth, self.AFFINE), small.folder / "t.nii.gz")
        small.write_manifest([["v", "v.nii.gz", "t.nii.gz", "", ""]])
        folder: Path = small.folder.parent / "p"
        folder.mkdir()
        nib.save(nib.Nifti1Image(np.roll(truth, 1, axis=2), affine), folder / "v_mask.nii.gz")
        return folder

    def test_are_measured_in_mm(self, small: Any) -> None:
        found = cases(run(small, self.write(small, self.AFFINE)))["v"]
        assert found.values["hd95_mm"] == pytest.approx(3)
        assert found.size_unit == "mm3"
        assert found.truth_size == pytest.approx(50 * 0.5 * 0.7 * 3)

    def test_of_another_affine_are_refused(self, small: Any) -> None:
        moved = self.AFFINE.copy()
        moved[0, 3] = 2
        (failed,) = run(small, self.write(small, moved)).systems[0].failed()
        assert "v_mask.nii.gz lies 2 mm away from the truth t.nii.gz" in failed.reason
        assert "-0.5 0 0 2" in failed.reason
        assert "-0.5 0 0 0" in failed.reason

    def test_millimetres_and_pixels_are_never_averaged(self, small: Any) -> None:
        rows = small.rows()
        folder = self.write(small, self.AFFINE)
        shutil.copytree(small.predict("flat"), folder, dirs_exist_ok=True)
        small.write_manifest([*rows, ["v", "v.nii.gz", "t.nii.gz", "", ""]])
        summaries = run(small, folder).systems[0].summaries[EVERYTHING]
        assert (summaries["hd95_px"].count, summaries["hd95_mm"].count) == (6, 1)
        assert summaries["dice"].count == 7


class TestBoxesAlone:
    def test_are_scored_by_box_iou(self, small: Any) -> None:
        rows = [[r[0], r[1], "13 15 28 31" if r[0] == "a" else "", r[4]] for r in small.rows()[:2]]
        small.write_manifest(rows, ("id", "image", "bbox", "label"))
        found = run(small, small.predict("p"))
        assert [each.id for each in found.unusable] == ["b"]
        assert set(cases(found)["a"].values) == {"box_iou"}
        assert 0.7 < cases(found)["a"].values["box_iou"] <= 1
        known = run(small, small.folder.parent / "p", absent=("x",))
        assert cases(known)["b"].values["box_iou"] == 0


class TestBadManifests:
    def test_an_id_twice(self, small: Any) -> None:
        small.write_manifest([*small.rows(), small.rows()[0]])
        with pytest.raises(BadManifest, match="the id a is there more than once"):
            run(small, small.predict("p"))

    def test_empty(self, small: Any) -> None:
        small.write_manifest([])
        with pytest.raises(BadManifest, match="no rows"):
            run(small, small.predict("p"))

    def test_paths_that_leave_the_folder_cost_their_rows(self, small: Any) -> None:
        rows = small.rows()
        rows[0][2] = "../p/a_mask.png"
        small.write_manifest(rows)
        found = run(small, small.predict("p"))
        assert [each.id for each in found.unusable] == ["a"]
        assert "leads out of the manifest's folder" in found.unusable[0].reason
        assert len(found.systems[0].cases) == 5

    def test_no_row_with_a_truth(self, small: Any) -> None:
        small.write_manifest([[row[0], row[1]] for row in small.rows()], ("id", "image"))
        with pytest.raises(UsageError, match="no row has a truth"):
            run(small, small.predict("p"))

    def test_a_missing_truth_costs_its_row(self, small: Any) -> None:
        (small.folder / "masks" / "c.png").unlink()
        found = run(small, small.predict("p"))
        assert found.unusable[0].reason.endswith("no such file")


class TestBadCalls:
    def test_no_system(self, small: Any) -> None:
        with pytest.raises(UsageError, match="no folder of predictions"):
            run(small)

    def test_no_such_folder(self, small: Any) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            run(small, small.folder / "nowhere")

    def test_a_folder_of_other_things(self, small: Any) -> None:
        with pytest.raises(UsageError, match=r"no prediction of any of the manifest's 6 ids.*a_mask\.png"):
            run(small, small.folder)

    def test_a_system_twice(self, small: Any) -> None:
        folder = small.predict("p")
        with pytest.raises(UsageError, match="given twice"):
            run(small, folder, folder)

    def test_an_unknown_column(self, small: Any) -> None:
        with pytest.raises(UsageError, match="no column colour"):
            run(small, small.predict("p"), by=("colour",))

    @pytest.mark.parametrize("tolerance", [0, -1, math.nan, math.inf])
    def test_a_tolerance_that_is_none(self, tolerance: float) -> None:
        with pytest.raises(UsageError, match="tolerance"):
            EvaluationSettings(tolerance=tolerance)

    @pytest.mark.parametrize(
        ("before", "after", "reason"),
        [
            ("0.90", "1.90", "line 2 has the presence 1.90"),
            ("0.90", "high", "line 2 has the presence high"),
            ("\nb,", "\na,", "line 3 has the id a again"),
            ("id,image", "name,image", "no column id"),
        ],
    )
    def test_a_table_that_is_none(self, small: Any, before: str, after: str, reason: str) -> None:
        folder = small.predict("p")
        text = (folder / "results.csv").read_text()
        assert before in text
        (folder / "results.csv").write_text(text.replace(before, after))
        with pytest.raises(UsageError, match=reason):
            run(small, folder)
