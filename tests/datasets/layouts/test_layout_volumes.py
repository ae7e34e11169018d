from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from trees import mask_file, picture, run_import, save, volume

from lexiseg.errors import BadDataset
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan

LABELS = np.zeros((3, 4, 5), np.uint8)
LABELS[0, 0], LABELS[1, 1], LABELS[2, 2, 2] = 1, 2, 3


class TestCc359:
    @pytest.fixture
    def cc359(self, tmp_path: Path) -> Path:
        root = tmp_path / "CC359" / "Reconstructed"
        for name in ("CC0001_philips_15_55_M", "CC0061_ge_3_40_F"):
            volume(root / "Original" / "Original" / f"{name}.nii.gz")
            volume(
                root / "Silver-standard-machine-learning" / "Silver-standard" / f"{name}_ss.nii.gz",
                np.uint8(LABELS > 0),
            )
        volume(root / "Silver-standard-STAPLE" / "CC0001_philips_15_55_M_staple.nii.gz", np.uint8(LABELS == 1))
        return tmp_path

    def test_rows(self, cc359: Path) -> None:
        rows, imported = run_import("cc359", cc359)
        assert {row.id: (row.group, row.extra["vendor"], row.extra["tesla"]) for row in rows.values()} == {
            "CC0001_philips_15_55_M": ("CC0001", "philips", "1.5"),
            "CC0061_ge_3_40_F": ("CC0061", "ge", "3"),
        }
        assert not imported.missing
        row = rows["CC0061_ge_3_40_F"]
        assert read_mask(row.mask, read_scan(row.image)).sum() == np.count_nonzero(LABELS)

    def test_another_kind_of_mask(self, cc359: Path) -> None:
        rows, imported = run_import("cc359", cc359, target="brain staple")
        assert imported.missing == ("CC0061_ge_3_40_F",)
        assert rows["CC0001_philips_15_55_M"].mask.name == "CC0001_philips_15_55_M_staple.nii.gz"

    def test_masks_that_are_not_there(self, cc359: Path) -> None:
        with pytest.raises(BadDataset, match="hippocampus_staple; found Silver-standard-machine-learning, "):
            run_import("cc359", cc359, target="hippocampus")


def nnunet_set(root: Path, description: dict, *, ending: str = ".nii.gz") -> Path:
    for case in ("liver_001", "liver_002"):
        for channel in ("0000", "0001"):
            volume(root / "imagesTr" / f"{case}_{channel}{ending}")
        volume(root / "labelsTr" / f"{case}{ending}", LABELS)
    (root / "dataset.json").write_text(json.dumps(description))
    return root


V2 = {"labels": {"background": 0, "organ": 1, "tumour": 2, "both": [1, 2]}, "file_ending": ".nii.gz"}
V1 = {"labels": {"0": "background", "1": "organ", "2": "tumour"}, "training": []}


class TestNnunet:
    def test_every_label_is_the_label_map_itself(self, tmp_path: Path) -> None:
        root = nnunet_set(tmp_path / "Dataset001_Liver", V2)
        rows, imported = run_import("nnunet", tmp_path)
        assert list(rows) == ["liver_001", "liver_002"]
        row = rows["liver_001"]
        assert row.image == root / "imagesTr" / "liver_001_0000.nii.gz"
        assert row.mask == root / "labelsTr" / "liver_001.nii.gz"
        assert "split" not in row.extra and not imported.missing

    @pytest.mark.parametrize(
        ("description", "target", "values"),
        [(V2, "tumour", [2]), (V2, "both", [1, 2]), (V1, "Tumour", [2]), (V1, "organ", [1])],
    )
    def test_one_label_on_the_same_voxels(
        self, tmp_path: Path, description: dict, target: str, values: list[int]
    ) -> None:
        nnunet_set(tmp_path, description)
        rows, _ = run_import("nnunet", tmp_path, target=target)
        row = rows["liver_001"]
        made, source = nib.load(row.mask), nib.load(tmp_path / "labelsTr" / "liver_001.nii.gz")
        assert np.array_equal(np.asarray(made.dataobj), np.isin(LABELS, values))
        assert np.array_equal(made.affine, source.affine)
        read_mask(row.mask, read_scan(row.image))

    def test_channels_and_test_cases(self, tmp_path: Path) -> None:
        nnunet_set(tmp_path, V2)
        volume(tmp_path / "imagesTs" / "liver_009_0001.nii.gz")
        volume(tmp_path / "labelsTs" / "liver_009.nii.gz", LABELS)
        rows, _ = run_import("nnunet", tmp_path, channel=1)
        assert rows["liver_001"].image.name == "liver_001_0001.nii.gz"
        assert {row.id: row.extra["split"] for row in rows.values()} == {
            "liver_001": "train",
            "liver_002": "train",
            "liver_009": "test",
        }
        with pytest.raises(BadDataset, match="no image with channel 0007"):
            run_import("nnunet", tmp_path, channel=7, overwrite=True)

    def test_cases_of_one_name_are_told_apart_by_their_own_endings(self, tmp_path: Path) -> None:
        for ending in (".nii.gz", ".nii"):
            volume(tmp_path / "imagesTr" / f"a_0000{ending}")
            volume(tmp_path / "labelsTr" / f"a{ending}", LABELS)
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"organ": 1}}))
        assert set(run_import("nnunet", tmp_path)[0]) == {"imagesTr_a_nii_gz", "imagesTr_a_nii"}

    def test_png(self, tmp_path: Path) -> None:
        picture(tmp_path / "imagesTr" / "road_1_0000.png")
        mask_file(tmp_path / "labelsTr" / "road_1.png")
        save(tmp_path / "labelsTr" / "road_1.png", np.full((16, 16), 2))
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"a": 1, "b": 2}, "file_ending": ".png"}))
        rows, _ = run_import("nnunet", tmp_path, target="b")
        assert read_mask(rows["road_1"].mask).all()

    @pytest.mark.parametrize("labels", [{"a": 1, "b": 2, "ignore": 3}, {"1": "a", "2": "b", "3": "Ignore"}])
    def test_what_is_to_be_ignored_is_no_target(
        self, tmp_path: Path, labels: dict, caplog: pytest.LogCaptureFixture
    ) -> None:
        picture(tmp_path / "imagesTr" / "road_1_0000.png")
        save(tmp_path / "labelsTr" / "road_1.png", np.repeat([0, 1, 2, 3], 64).reshape(16, 16))
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
        rows, _ = run_import("nnunet", tmp_path)
        assert read_mask(rows["road_1"].mask)[:, 0].tolist() == [False] * 4 + [True] * 8 + [False] * 4
        assert "pixels of the label ignore count as background" in caplog.text
        with pytest.raises(BadDataset, match=r"expected one of: foreground, a, b$"):
            run_import("nnunet", tmp_path, target="ignore", overwrite=True)

    @pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, "\xff"])
    def test_a_broken_description(self, tmp_path: Path, content: str) -> None:
        nnunet_set(tmp_path, V2)
        (tmp_path / "dataset.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(BadDataset, match=r"dataset\.json: it ") as error:
            run_import("nnunet", tmp_path)
        assert "\n" not in str(error.value)

    def test_strange_labels_are_passed_over(self, tmp_path: Path) -> None:
        nnunet_set(tmp_path, {"labels": {"a": None, "b": {"c": 1}, "d": [], "organ": 1, "e": 1e999}})
        with pytest.raises(BadDataset, match=r"one of: foreground, organ$"):
            run_import("nnunet", tmp_path, target="nonesuch")


class TestMsd:
    @pytest.fixture
    def msd(self, tmp_path: Path) -> Path:
        root = tmp_path / "Task09_Spleen"
        for name in ("spleen_2", "spleen_3"):
            volume(root / "imagesTr" / f"{name}.nii.gz")
            volume(root / "labelsTr" / f"{name}.nii.gz", LABELS)
        self.describe(root, ["spleen_2", "spleen_3"])
        return tmp_path

    @staticmethod
    def describe(root: Path, names: list[str], **more: object) -> None:
        training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
        description = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, **more}
        (root / "dataset.json").write_text(json.dumps({"training": training, "test": [], **description}))

    def test_rows(self, msd: Path) -> None:
        rows, imported = run_import("msd", msd)
        assert list(rows) == ["spleen_2", "spleen_3"]
        assert not imported.missing and not imported.problems
        rows, _ = run_import("msd", msd, target="spleen", overwrite=True)
        assert read_mask(rows["spleen_2"].mask).sum() == np.count_nonzero(LABELS == 1)

    def test_a_scan_that_is_listed_twice_is_one(self, msd: Path) -> None:
        self.describe(msd / "Task09_Spleen", ["spleen_2", "spleen_3", "spleen_2"])
        rows, imported = run_import("msd", msd)
        assert list(rows) == ["spleen_2", "spleen_3"]
        assert imported.problems == ("dataset.json: training 2: its image is listed before; left out",)

    def test_channels_on_the_fourth_axis(self, msd: Path) -> None:
        root = msd / "Task09_Spleen"
        both = np.stack([np.arange(60).reshape(3, 4, 5), -np.arange(60).reshape(3, 4, 5)], axis=-1)
        volume(root / "imagesTr" / "spleen_2.nii.gz", both.astype(np.int16))
        self.describe(root, ["spleen_2"], modality={"0": "T1", "1": "T2"})
        rows, _ = run_import("msd", msd, channel=1)
        made = nib.load(rows["spleen_2"].image)
        assert np.array_equal(made.get_fdata(), both[..., 1])
        assert np.array_equal(made.affine, nib.load(root / "labelsTr" / "spleen_2.nii.gz").affine)
        assert read_mask(rows["spleen_2"].mask, read_scan(rows["spleen_2"].image), label=1).any()

    def test_paths_that_lead_out_and_entries_that_are_none(self, msd: Path, tmp_path: Path) -> None:
        volume(tmp_path / "secret.nii.gz")
        root = msd / "Task09_Spleen"
        sound = {"image": "./imagesTr/spleen_2.nii.gz", "label": "../secret.nii.gz"}
        bad = [
            {"image": "../secret.nii.gz"},
            {"image": str(tmp_path / "secret.nii.gz")},
            "x",
            {"image": 5},
            {},
        ]
        (root / "dataset.json").write_text(json.dumps({"training": [*bad, sound], "labels": 7}))
        rows, imported = run_import("msd", msd)
        assert list(rows) == ["spleen_2"]
        assert imported.missing == ("spleen_2",)
        assert len(imported.problems) == 5

    @pytest.mark.parametrize("training", [None, [], {}, "x"])
    def test_no_training_list(self, tmp_path: Path, training: object) -> None:
        (tmp_path / "dataset.json").write_text(json.dumps({"training": training, "name": "x"}))
        with pytest.raises(BadDataset, match='looked for a list "training"; found training, name'):
            run_import("msd", tmp_path)
