from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_series import SeriesPlan, write_series
from discs import disc, write_discs
from fake_pipeline import FakePipeline
from PIL import Image

from lexiseg.datasets.manifest import ManifestRow, write_manifest
from lexiseg.errors import BadPhrase, NoLabels, UsageError
from lexiseg.runs.table import Row
from lexiseg.training.students.corrected import is_corrected
from lexiseg.training.students.labels import read_pseudo_labels
from lexiseg.training.students.pseudo_labels import LabelRule, PseudoLabelRequest, make_pseudo_labels


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setattr("lexiseg.pipelines.loading.load", lambda preset, **_: fake)
    return fake


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_discs(tmp_path / "data", 10)
    return tmp_path / "data"


def table(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def row(**values: str) -> Row:
    return Row(id="a", image="a.png", text="t", preset="demo", **{"present": "true", **values})


class TestRule:
    def test_confidence_is_the_weight(self) -> None:
        assert LabelRule().weight([row(confidence="0.8", presence="0.9")]) == 0.8

    def test_unsure_ones_are_left_out(self) -> None:
        assert LabelRule(confidence=0.7).weight([row(confidence="0.6", presence="0.9")]) == 0
        assert LabelRule(presence=0.95).weight([row(confidence="0.8", presence="0.9")]) == 0

    def test_absent_ones_need_certainty(self) -> None:
        sure, unsure = (row(present="false", confidence=value, presence="0.1") for value in ("0.9", "0.6"))
        assert LabelRule().weight([sure]) == 0.9
        assert LabelRule().weight([unsure]) == 0
        assert LabelRule(absent="drop").weight([sure]) == 0

    def test_undefined_evidence_does_not_count_against_it(self) -> None:
        assert LabelRule(confidence=0.9, presence=0.9).weight([row(confidence="", presence="")]) == 1

    def test_the_worst_of_several_phrases_counts(self) -> None:
        rows = [row(confidence="0.9", presence="1"), row(confidence="0.6", presence="1")]
        assert LabelRule().weight(rows) == 0.6

    def test_refuses_what_is_no_share(self) -> None:
        with pytest.raises(UsageError, match="0 to 1"):
            LabelRule(confidence=2)


class TestSet:
    def test_is_plain_images_masks_and_a_manifest(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        out = tmp_path / "out"
        request = PseudoLabelRequest(
            out=out, manifest=data / "manifest.csv", phrases=["tumor"], exports=["nnunet", "coco"]
        )
        out.mkdir()
        torn = out / ".0123456789abcdef.tmp"
        torn.touch()
        report = make_pseudo_labels(request)
        assert not torn.exists()
        assert (report.kept, report.empty, report.left_out) == (10, 0, 0)
        rows = table(out)
        assert list(rows[0]) == [
            "id", "image", "mask", "text", "group", "weight", "presence", "confidence", "mask_sha256", "split",
        ]  # fmt: skip
        assert {r["weight"] for r in rows} == {"0.8000"}
        mask = np.asarray(Image.open(out / rows[0]["mask"]))
        scan = np.asarray(Image.open(out / rows[0]["image"]))
        np.testing.assert_array_equal(scan, disc(0)[0])
        np.testing.assert_array_equal(mask, np.where(scan / 255 > (scan / 255).mean(), 255, 0))
        groups = {part: {r["group"] for r in rows if r["split"] == part} for part in ("train", "val")}
        assert groups["val"]
        assert not groups["train"] & groups["val"]
        assert set(report.exports) == {"nnunet", "coco"}
        found = read_pseudo_labels(out)
        assert not found.supervised
        assert found.teacher["models"]["encoder"]["sha256"] == "0" * 64

    def test_true_masks_are_never_opened(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        for path in (data / "masks").iterdir():
            path.write_bytes(b"not to be read")
        request = PseudoLabelRequest(out=tmp_path / "out", manifest=data / "manifest.csv", phrases=["tumor"])
        assert make_pseudo_labels(request).run.failed == 0

    def test_a_yardstick_that_is_told_masks_is_no_teacher(self, data: Path, tmp_path: Path) -> None:
        request = PseudoLabelRequest(
            out=tmp_path / "out", manifest=data / "manifest.csv", phrases=["tumor"], preset="sam-box"
        )
        with pytest.raises(UsageError, match="must not be"):
            make_pseudo_labels(request)

    def test_test_scans_are_left_alone(self, pipeline: FakePipeline, tmp_path: Path) -> None:
        rows = write_discs(tmp_path / "data", 6)
        parts = ["train", "train", "val", "val", "test", "test"]
        split = [replace(each, extra={"split": part}) for each, part in zip(rows, parts, strict=True)]
        write_manifest(split, tmp_path / "data" / "manifest.csv")
        request = PseudoLabelRequest(
            out=tmp_path / "out", manifest=tmp_path / "data" / "manifest.csv", phrases=["tumor"]
        )
        assert make_pseudo_labels(request).test == 2
        assert pipeline.seen == ["d0", "d1", "d2", "d3"]
        assert [r["split"] for r in table(tmp_path / "out")] == parts[:4]

    def test_several_targets_are_one_label_map(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["one", "two"])
        make_pseudo_labels(request)
        first = table(tmp_path / "out")[0]
        assert first["presence"] == "0.9000;0.9000"
        values = np.unique(np.asarray(Image.open(tmp_path / "out" / first["mask"])))
        assert set(values) <= {0, 1, 2}
        assert 1 in values

    def test_targets_that_overlap_are_whole_in_coco(
        self, data: Path, pipeline: FakePipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = PseudoLabelRequest(
            out=tmp_path / "out", inputs=[data / "images"], phrases=["lungs", "left lung"], exports=["coco", "nnunet"]
        )
        make_pseudo_labels(request)
        told = [each for each in caplog.messages if each.startswith("targets overlap in 10 of 10 scans")]
        assert len(told) == 1
        assert "make a set for each" in told[0]
        coco = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())
        for number, row in enumerate(table(tmp_path / "out"), start=1):
            teacher, found = tmp_path / "out" / "teacher" / row["id"], coco["annotations"]
            areas = {each["category_id"]: each["area"] for each in found if each["image_id"] == number}
            whole = [np.asarray(Image.open(f"{teacher}_mask_{each}.png")) > 0 for each in ("lungs", "left-lung")]
            assert areas == {1: whole[0].sum(), 2: whole[1].sum()}
            # The set has the run's own label map, which the notes of its results speak of.
            labels = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
            np.testing.assert_array_equal(labels, np.asarray(Image.open(f"{teacher}_labels.png")))
            assert (labels == 1).sum() < areas[1]

    def test_slices_are_whole_in_coco(self, pipeline: FakePipeline, tmp_path: Path) -> None:
        voxels = np.zeros((20, 16, 8), np.float32)
        voxels[5:12, 3:9, 2:5], voxels[5:12, 3:6, 2:5], voxels[0, 0, :7] = 8, 100, 1
        (tmp_path / "scans").mkdir()
        nib.Nifti1Image(voxels, np.diag([-1, -1, 1, 1])).to_filename(tmp_path / "scans" / "v.nii.gz")
        request = PseudoLabelRequest(
            out=tmp_path / "out", inputs=[tmp_path / "scans"], phrases=["lungs", "left lung"], exports=["coco"]
        )
        make_pseudo_labels(request)
        coco = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())
        whole = [each for each in coco["annotations"] if each["category_id"] == 1]
        assert [(each["area"], each["bbox"]) for each in whole] == [(42, [5, 3, 7, 6])] * 3

    def test_a_volume_becomes_slices_of_one_patient(self, pipeline: FakePipeline, tmp_path: Path) -> None:
        voxels = np.zeros((20, 20, 8), np.float32)
        voxels[5:12, 5:12, 2:5] = 100
        voxels[0, 0, :7] = 3
        (tmp_path / "scans").mkdir()
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "scans" / "v.nii.gz")
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[tmp_path / "scans"], phrases=["tumor"])
        report = make_pseudo_labels(request)
        rows = table(tmp_path / "out")
        assert {r["group"] for r in rows} == {"v"}
        assert {r["split"] for r in rows} == {"train"}
        assert report.kept - report.empty == 3
        assert 1 <= report.empty <= 3
        empty = [not np.asarray(Image.open(tmp_path / "out" / r["mask"])).any() for r in rows]
        # The volume's presence is that of its surest slice: an empty one must not be taught it.
        assert [r["presence"] == "" for r in rows] == empty

    def test_visits_of_a_patient_are_one_group(self, pipeline: FakePipeline, tmp_path: Path) -> None:
        inputs = []
        for visit, patient in enumerate(["Jane-77", "Jane-77", "Jim-78", "Jane-77"]):
            inputs.append(tmp_path / f"visit{visit}")
            write_series(inputs[-1], SeriesPlan(shape=(3, 8, 8), seed=visit, header={"PatientID": patient}))
        out = tmp_path / "out"
        make_pseudo_labels(PseudoLabelRequest(out=out, inputs=inputs, phrases=["tumor"]))
        rows = table(out)
        groups = {row["id"].rpartition("_slice")[0]: row["group"] for row in rows}
        assert groups == {"visit0": "visit0", "visit1": "visit0", "visit2": "visit2", "visit3": "visit0"}
        assert len({row["split"] for row in rows if row["group"] == "visit0"}) == 1
        assert {row["split"] for row in rows} == {"train", "val"}
        # A DICOM SEG of the teacher's run names the patient of its images, as it has to.
        files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".dcm"]
        assert not any(b"Jane-77" in path.read_bytes() for path in files)

    def test_a_corrupt_scan_costs_itself(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        (data / "images" / "d4.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
        report = make_pseudo_labels(
            PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        )
        assert (report.run.failed, report.kept) == (1, 9)


class TestRefusals:
    def test_several_targets_in_a_phrase(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["heart and lungs"])
        with pytest.raises(BadPhrase, match="names 2 targets"):
            make_pseudo_labels(request)
        assert not pipeline.seen

    @pytest.mark.parametrize("words", [("Testing",) * 4, ("test", "") * 2])
    def test_test_scans_by_any_word_and_by_their_patient(
        self, pipeline: FakePipeline, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        listed = write_discs(tmp_path / "data", 4)
        rows = [replace(row, extra={"split": word}) for row, word in zip(listed, words, strict=True)]
        manifest = write_manifest(rows, tmp_path / "data" / "manifest.csv")
        with pytest.raises(UsageError, match="all scans are of the split test"):
            make_pseudo_labels(PseudoLabelRequest(out=tmp_path / "out", manifest=manifest, phrases=["tumor"]))
        assert not pipeline.seen

    def test_nothing_to_learn_from_by_the_manifests_split(self, pipeline: FakePipeline, tmp_path: Path) -> None:
        write_discs(tmp_path / "data", 4, split="val")
        request = PseudoLabelRequest(
            out=tmp_path / "out", manifest=tmp_path / "data" / "manifest.csv", phrases=["tumor"]
        )
        with pytest.raises(NoLabels, match="none of the scans is of the split train"):
            make_pseudo_labels(request)

    def test_nothing_found_says_what_to_try(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["unseen organ"])
        with pytest.raises(NoLabels, match="try other words") as caught:
            make_pseudo_labels(request)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out" / "pseudo_labels.json").exists()

    def test_nothing_trusted_says_what_to_try(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(
            out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"], rule=LabelRule(confidence=0.95)
        )
        with pytest.raises(NoLabels, match="--min-confidence"):
            make_pseudo_labels(request)

    def test_someone_elses_set_is_not_overwritten(self, data: Path, pipeline: FakePipeline) -> None:
        before = (data / "manifest.csv").read_bytes()
        with pytest.raises(UsageError, match="did not write it"):
            make_pseudo_labels(PseudoLabelRequest(out=data, manifest=data / "manifest.csv", phrases=["tumor"]))
        assert (data / "manifest.csv").read_bytes() == before

    def test_its_own_images_are_not_labelled_next_time(self, data: Path, pipeline: FakePipeline) -> None:
        request = PseudoLabelRequest(out=data / "out", inputs=[data], phrases=["tumor"])
        with pytest.raises(UsageError, match="inside"):
            make_pseudo_labels(request)


class TestResume:
    def test_only_what_is_missing_is_done_again(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        make_pseudo_labels(request)
        before = (tmp_path / "out" / "manifest.csv").read_bytes()
        (tmp_path / "out" / "teacher" / "d3_mask.png").unlink()
        (tmp_path / "out" / "pseudo_labels.json").unlink()
        pipeline.seen.clear()
        make_pseudo_labels(replace(request, resume=True))
        assert pipeline.seen == ["d3"]
        assert (tmp_path / "out" / "manifest.csv").read_bytes() == before
        assert json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())["phrases"] == ["tumor"]

    def test_a_refusal_leaves_the_set_as_it_was(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        make_pseudo_labels(request)
        for other in (replace(request, phrases=["lesion"]), replace(request, seed=1)):
            with pytest.raises(UsageError, match="was made with other"):
                make_pseudo_labels(replace(other, resume=True))
        with pytest.raises(NoLabels, match="--min-confidence"):
            make_pseudo_labels(replace(request, rule=LabelRule(confidence=0.95), resume=True))
        assert len(read_pseudo_labels(tmp_path / "out").rows) == 10

    def test_a_kill_leaves_no_finished_set(
        self, data: Path, pipeline: FakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        make_pseudo_labels(request)

        def killed(*args: object, **more: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(FakePipeline, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            make_pseudo_labels(replace(request, phrases=["lesion"]))
        with pytest.raises(UsageError, match=r"there is no pseudo_labels\.json"):
            read_pseudo_labels(tmp_path / "out")

    def test_an_export_of_an_earlier_set_is_told(
        self, data: Path, pipeline: FakePipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = PseudoLabelRequest(
            out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"], exports=["coco"], resume=True
        )
        make_pseudo_labels(request)
        assert "earlier set" not in caplog.text
        make_pseudo_labels(replace(request, exports=["nnunet"]))
        assert "coco/ is of an earlier set, which may be another: --export coco writes it anew" in caplog.messages

    def test_probabilities_stay_as_long_as_the_teachers_masks(
        self, data: Path, pipeline: FakePipeline, tmp_path: Path
    ) -> None:
        files = sorted((data / "images").iterdir())
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=files, phrases=["tumor"])
        make_pseudo_labels(request)
        before = {path.name for path in (tmp_path / "out" / "probabilities").iterdir()}
        make_pseudo_labels(replace(request, inputs=files[:6], resume=True))
        make_pseudo_labels(replace(request, resume=True))
        assert len(pipeline.seen) == len(before) == 10
        assert {path.name for path in (tmp_path / "out" / "probabilities").iterdir()} == before

    def test_what_a_stricter_rule_drops_leaves_the_folder(
        self, data: Path, pipeline: FakePipeline, tmp_path: Path
    ) -> None:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        make_pseudo_labels(request)
        (data / "images" / "d9.png").unlink()
        make_pseudo_labels(request)
        names = {path.stem for path in (tmp_path / "out" / "masks").iterdir()}
        assert names == {f"d{k}" for k in range(9)}


class TestCorrected:
    """Masks that a person changed in the set."""

    @pytest.fixture
    def finished(self, data: Path, pipeline: FakePipeline, tmp_path: Path) -> PseudoLabelRequest:
        request = PseudoLabelRequest(out=tmp_path / "out", inputs=[data / "images"], phrases=["tumor"])
        make_pseudo_labels(request)
        Image.fromarray(corner()).save(tmp_path / "out" / "masks" / "d3.png")
        return request

    def test_stay_when_it_is_resumed(self, finished: PseudoLabelRequest, caplog: pytest.LogCaptureFixture) -> None:
        out = finished.out
        (out / "masks" / "d4.png").unlink()
        for _ in range(2):
            make_pseudo_labels(replace(finished, resume=True, exports=["coco"]))
            assert [row.id for row in read_pseudo_labels(out).rows if is_corrected(row)] == ["d3"]
            np.testing.assert_array_equal(np.asarray(Image.open(out / "masks" / "d3.png")), corner())
        assert "masks that were corrected by hand are kept as they are: 1" in caplog.messages
        coco = json.loads((out / "coco" / "annotations.json").read_text())
        assert [each["area"] for each in coco["annotations"] if each["image_id"] == 4] == [30]

    def test_are_not_written_over(self, finished: PseudoLabelRequest) -> None:
        with pytest.raises(UsageError, match=r"masks were corrected .*: 1, the first is d3\.png; --resume keeps them"):
            make_pseudo_labels(finished)
        assert len(read_pseudo_labels(finished.out).rows) == 10

    def test_are_not_removed_with_their_scans(self, finished: PseudoLabelRequest, data: Path) -> None:
        (data / "images" / "d3.png").unlink()
        with pytest.raises(UsageError, match="their scans are left out now"):
            make_pseudo_labels(replace(finished, resume=True))
        assert len(read_pseudo_labels(finished.out).rows) == 10

    def test_are_of_the_scan_that_was_seen(self, finished: PseudoLabelRequest, data: Path) -> None:
        Image.fromarray(255 - disc(3)[0]).save(data / "images" / "d3.png")
        with pytest.raises(UsageError, match=r"d3\.png: it was corrected, and its scan is another since"):
            make_pseudo_labels(replace(finished, resume=True))
        np.testing.assert_array_equal(np.asarray(Image.open(finished.out / "masks" / "d3.png")), corner())

    def test_go_before_those_of_copies(self, finished: PseudoLabelRequest, data: Path) -> None:
        (data / "images" / "a.png").write_bytes((data / "images" / "d3.png").read_bytes())
        make_pseudo_labels(replace(finished, resume=True))
        assert [row.id for row in read_pseudo_labels(finished.out).rows] == [f"d{k}" for k in range(10)]


def corner() -> np.ndarray:
    """A mask that no teacher draws: 5 x 6 pixels."""
    mask = np.zeros((36, 48), np.uint8)
    mask[:5, :6] = 255
    return mask


def test_a_manifest_row_is_what_it_was(data: Path, pipeline: FakePipeline, tmp_path: Path) -> None:
    rows = [
        ManifestRow(id="x", image=data / "images" / "d0.png", group="p", label="malignant"),
        ManifestRow(id="y", image=data / "images" / "d1.png", group="q", label="benign"),
    ]
    write_manifest(rows, data / "two.csv")
    make_pseudo_labels(PseudoLabelRequest(out=tmp_path / "out", manifest=data / "two.csv", phrases=["tumor"]))
    assert [(r["id"], r["group"], r["label"]) for r in table(tmp_path / "out")] == [
        ("x", "p", "malignant"),
        ("y", "q", "benign"),
    ]
