"""The recipe's samples: patients stay together, what is unknown stays unknown."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.concepts import ELSEWHERE, EVERYDAY, HOME, NORMAL, SYNONYMS
from recipe.data import (
    TRAINING_SETS,
    Sample,
    blocks,
    fold_of,
    folds_of,
    letterbox,
    patient_block,
    phantom_samples,
    real_samples,
    split_rows,
)


def write_set(root: Path, name: str, rows: list[dict[str, str]], shape: tuple[int, int] = (40, 60)) -> None:
    """A tiny set in the layout that the recipe reads."""
    folder = root / name
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    columns = ["id", "image", "mask", "group", "label", "bbox", "text"]
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, columns, restval="")
        table.writeheader()
        for given in rows:
            row = {**given, "image": f"images/{given['id']}.png"}
            Image.fromarray(np.full(shape, 90, np.uint8)).save(folder / row["image"])
            if row.get("mask") == "yes":
                mask = np.zeros(shape, np.uint8)
                for box in row["bbox"].split(";"):
                    x0, y0, x1, y1 = map(int, box.split())
                    mask[y0:y1, x0:x1] = 255
                row["mask"] = f"masks/{row['id']}.png"
                Image.fromarray(mask).save(folder / row["mask"])
            table.writerow(row)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def row(name: str, group: str, label: str, bbox: str, *, mask: str = "yes") -> dict[str, str]:
        return {"id": name, "mask": mask, "group": group, "label": label, "bbox": bbox, "text": name}

    breast = [
        row("busi_benign_001", "a", "benign", "10 10 30 20"),
        row("busi_normal_001", "b", "normal", "", mask=""),
    ]
    brain = [
        row("cheng_glioma_0001", "e", "glioma", "10 10 30 30", mask=""),
        row("br35h_no_tumor_1", "f", "no_tumor", "", mask=""),
    ]
    write_set(tmp_path, "busi", breast)
    write_set(tmp_path, "cxr", [row("cxr_1", "c", "normal", "5 5 20 35;40 5 55 35")])
    write_set(tmp_path, "hc18", [row("hc18_1", "d", "fetal_head", "5 5 55 35")])
    write_set(tmp_path, "cheng", brain)
    return tmp_path


def samples(root: Path) -> dict[str, Sample]:
    both = [*real_samples(root, 64, validation=False), *real_samples(root, 64, validation=True)]
    return {f"{s.source}-{s.group}": s for s in both}


class TestSplit:
    def test_lgg_is_never_a_training_set(self) -> None:
        assert "lgg" not in TRAINING_SETS

    def test_parts_are_disjoint_and_complete(self, root: Path) -> None:
        for name in TRAINING_SETS:
            train = {r["id"] for r in split_rows(root / name, validation=False)}
            held = {r["id"] for r in split_rows(root / name, validation=True)}
            assert not train & held
            with (root / name / "manifest.csv").open() as stream:
                assert len(train | held) == sum(1 for _ in stream) - 1

    def test_several_folds_are_held_out_together(self, root: Path) -> None:
        for name in TRAINING_SETS:
            each = [r["id"] for k in (1, 3) for r in split_rows(root / name, validation=True, fold=k)]
            both = [r["id"] for r in split_rows(root / name, validation=True, fold=[1, 3])]
            assert sorted(both) == sorted(each)

    def test_read_once_they_are_split_alike(self, root: Path) -> None:
        found, folds = list(real_samples(root, 64, validation=False, fold=())), folds_of(root)
        assert len(found) == len(folds) == 6 and len(set(folds)) > 1
        for k in range(5):
            expected = [s.caption for s in real_samples(root, 64, validation=False, fold=k)]
            assert [s.caption for s, own in zip(found, folds, strict=True) if own != k] == expected

    def test_every_fold_gets_about_a_fifth(self) -> None:
        counts = np.bincount([fold_of(f"patient-{i}") for i in range(5000)], minlength=5)
        assert counts.min() > 900

    def test_a_group_stays_in_one_block_even_across_neighbourhoods(self) -> None:
        rows = [
            {"id": "cheng_glioma_0039", "group": "g1", "label": "glioma"},
            {"id": "cheng_glioma_0041", "group": "g1", "label": "glioma"},
            {"id": "cheng_glioma_0042", "group": "g2", "label": "glioma"},
        ]
        found = blocks(rows)
        assert found[0] == found[1] == "cheng-glioma-0"
        assert found[2] == "cheng-glioma-1"

    def test_other_sets_are_split_by_their_group(self) -> None:
        assert patient_block({"id": "hc18_001_HC", "group": "hc18_001", "label": "fetal_head"}) == "hc18_001"


class TestRealSamples:
    def test_a_normal_breast_has_no_tumor(self, root: Path) -> None:
        sample = samples(root)["busi-b"]
        assert sample.status("breast tumor") is False
        assert sample.status("lungs") is False

    def test_a_benign_tumor_is_not_malignant(self, root: Path) -> None:
        sample = samples(root)["busi-a"]
        assert sample.status("benign breast tumor") is True
        assert sample.status("malignant breast tumor") is False

    def test_nobody_drew_the_heart(self, root: Path) -> None:
        assert samples(root)["cxr-c"].status("heart") is None

    def test_left_lung_is_the_patients_left(self, root: Path) -> None:
        sample = samples(root)["cxr-c"]
        columns = np.nonzero(sample.masks["left lung"])[1]
        assert columns.min() > 32
        assert np.array_equal(sample.masks["left lung"] | sample.masks["right lung"], sample.masks["lungs"])

    def test_a_box_is_an_ellipse_with_unknown_corners(self, root: Path) -> None:
        sample = samples(root)["cheng-e"]
        mask = sample.masks["brain tumor"]
        assert not sample.exact
        assert set(np.unique(mask)) == {0, 1, 2}
        rows, columns = np.nonzero(mask)
        assert mask[rows.min(), columns.min()] == 2

    def test_a_contradictory_group_keeps_its_mask_but_no_class(self, tmp_path: Path) -> None:
        row = {
            "id": "busi_benign_042",
            "mask": "yes",
            "group": "busi_g039",
            "label": "benign",
            "bbox": "10 10 30 20",
        }
        write_set(tmp_path, "busi", [row])
        for name in ("cxr", "hc18", "cheng"):
            write_set(tmp_path, name, [])
        (sample,) = samples(tmp_path).values()
        assert sample.status("breast tumor") is True
        assert sample.status("malignant breast tumor") is None


class TestLetterbox:
    @pytest.mark.parametrize("shape", [(40, 60), (60, 40), (64, 64), (7, 300)])
    def test_the_whole_scan_is_kept_in_the_middle(self, shape: tuple[int, int]) -> None:
        square, (h, w) = letterbox(np.full(shape, 255, np.uint8), 64)
        assert square.shape == (64, 64)
        assert max(h, w) == 64
        assert int((square == 255).sum()) == h * w


class TestPhantomSamples:
    def test_every_modality_and_its_concepts(self) -> None:
        found = list(phantom_samples(12, 64, seed=3))
        assert {s.organ for s in found} == {"breast", "brain", "chest", "fetal"}
        for sample in found:
            assert all(HOME[c] in ("", sample.organ) for c in sample.masks)
            assert not set(sample.masks) & sample.absent


class TestConcepts:
    def test_no_word_is_both_something_and_nothing(self) -> None:
        spoken = {phrase.casefold() for ways in SYNONYMS.values() for phrase in ways}
        assert not spoken & {p.casefold() for p in (*ELSEWHERE, *NORMAL, *EVERYDAY)}

    def test_every_concept_has_a_home(self) -> None:
        assert set(SYNONYMS) == set(HOME)
