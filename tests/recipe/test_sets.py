"""Every set that may train: what is present, absent and unknown in its images, and how they are read."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.data import Sample, phantom_samples
from recipe.sets import (
    KIND,
    all_samples,
    brightened,
    concepts,
    load_sets,
    masks_of,
    status,
    unknown_concepts,
)
from recipe.wordings import load_targets
from tests.recipe.test_recipe_data import write_set

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).parents[3] / "shared")) / "data"
KINDS, SOURCES = load_sets()
MAY_TRAIN = (
    "busi cxr hc18 cheng kvasirseg isic drishti drive fuseg ddti nuclei teeth wbc brain_t1 lung_ct covid_ct organs_ct "
    "organs_mr acdc jsrt knee_xr spine_mr left_atrium kidney_tumor_ct"
)


def write_rows(root: Path, name: str, rows: list[dict[str, str]], image: np.ndarray) -> None:
    """A set of one image and a row for each mask, each a box."""
    folder = root / name
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    Image.fromarray(image).save(folder / "images" / "a.png")
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["id", "image", "mask", "group", "label", "bbox", "text"], restval="")
        table.writeheader()
        for number, row in enumerate(rows):
            mask = np.zeros(image.shape[:2], np.uint8)
            for box in row["bbox"].split(";"):
                x0, y0, x1, y1 = map(int, box.split())
                mask[y0:y1, x0:x1] = 255
            Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
            given = {"id": f"a_{number}", "image": "images/a.png", "mask": f"masks/{number}.png", "group": "g"}
            table.writerow({**given, **row})


def read(root: Path, name: str) -> Sample:
    both = [
        *all_samples(root, 64, validation=False, names=[name]),
        *all_samples(root, 64, validation=True, names=[name]),
    ]
    (sample,) = both
    return sample


class TestData:
    def test_the_sets_are_those_that_may_train(self) -> None:
        assert sorted(SOURCES) == sorted(MAY_TRAIN.split())
        assert "lgg" not in SOURCES

    def test_every_target_with_wordings_is_a_concept(self) -> None:
        assert {t.lands_on or t.name for t in load_targets()} <= set(concepts())

    def test_every_concept_that_a_set_draws_has_wordings(self) -> None:
        named = {t.name for t in load_targets()}
        assert {c for s in SOURCES.values() for c in (*s.draws.values(), *s.partly.values())} <= named

    def test_every_kind_is_shown_by_a_set_and_can_be_said(self) -> None:
        assert {s.kind for s in SOURCES.values()} == set(KINDS)
        said = [phrase for kind in KINDS.values() for phrase in kind.says]
        assert len(set(said)) == len(said)
        assert {c for c in concepts() if c.startswith(KIND)} == {KIND + name for name in KINDS}

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("kinds: {}\nsets: {a: {kind: x, draws: {}}}", "kind is 'x'"),
            ("kinds: {x: {says: [], may: [b]}}\nsets: {a: {kind: x, draws: {l: c}}}", r"draws \['c'\]"),
        ],
    )
    def test_a_contradiction_is_refused(self, tmp_path: Path, text: str, told: str) -> None:
        (tmp_path / "sets.yaml").write_text(text)
        with pytest.raises(ValueError, match=told):
            load_sets(tmp_path / "sets.yaml")

    @pytest.mark.shared
    @pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real scans at {SHARED}: set LEXISEG_SHARED")
    @pytest.mark.parametrize("name", [n for n in SOURCES if n not in ("busi", "cxr", "hc18", "cheng")])
    def test_every_label_of_a_manifest_is_drawn(self, name: str) -> None:
        with (SHARED / name / "manifest.csv").open(newline="", encoding="utf-8") as stream:
            labels = {row["label"] for row in csv.DictReader(stream)}
        assert labels == {*SOURCES[name].draws, *SOURCES[name].partly}


class TestKnown:
    def sample(self, source: str, *masks: str) -> Sample:
        empty = np.zeros((8, 8), np.uint8)
        kind = SOURCES[source].kind
        return Sample(empty, (8, 8), dict.fromkeys(masks, empty + 1), frozenset(), kind, source, "")

    @pytest.mark.parametrize(
        ("source", "masks", "concept", "expected"),
        [
            ("organs_ct", ("liver",), "liver", True),
            ("organs_ct", ("liver",), "spleen", False),  # drawn wherever it is cut
            ("organs_ct", ("liver",), "vertebrae", None),  # in many slices, and nobody drew them
            ("organs_ct", ("liver",), "tumor", False),
            ("organs_ct", ("liver",), "polyp", False),  # another kind of scan
            ("cxr", ("lungs",), "heart", None),
            ("jsrt", ("lungs", "heart"), "clavicles", None),
            ("lung_ct", ("lungs",), "trachea", None),
            ("acdc", ("left ventricle",), "right ventricle", False),
            ("acdc", ("left ventricle",), "left atrium", None),
            ("drive", ("retinal vessels",), "optic disc", None),
            ("isic", ("skin lesion",), "breast tumor", False),
            ("isic", ("skin lesion",), "tumor", None),  # a lesion may well be called so
            ("spine_mr", ("vertebrae",), "brain tumor", False),
        ],
    )  # fmt: skip
    def test_present_absent_unknown(
        self, source: str, masks: tuple[str, ...], concept: str, expected: bool | None
    ) -> None:
        assert status(self.sample(source, *masks), concept) is expected

    def test_a_phantom_is_silent_about_other_kinds_alone(self) -> None:
        for sample in phantom_samples(4, 64, 0):
            assert status(sample, "polyp") is False
            assert unknown_concepts("phantom", sample.organ) == KINDS[sample.organ].may


class TestReading:
    def test_rows_of_one_image_are_one_sample(self, tmp_path: Path) -> None:
        rows = [
            {"label": "left_kidney", "bbox": "40 10 50 20"},
            {"label": "right_kidney", "bbox": "10 10 20 20"},
            {"label": "liver", "bbox": "0 30 10 40"},
        ]
        write_rows(tmp_path, "organs_ct", rows, np.full((64, 64), 90, np.uint8))
        sample = read(tmp_path, "organs_ct")
        assert set(sample.masks) == {"left kidney", "right kidney", "kidneys", "liver"}
        both = np.maximum(sample.masks["left kidney"], sample.masks["right kidney"])
        assert np.array_equal(sample.masks["kidneys"], both) and both.sum() == 200

    def test_one_kidney_in_view_is_what_is_to_be_seen_of_both(self, tmp_path: Path) -> None:
        write_rows(
            tmp_path, "organs_mr", [{"label": "left_kidney", "bbox": "40 10 50 20"}], np.full((64, 64), 9, np.uint8)
        )
        sample = read(tmp_path, "organs_mr")
        assert np.array_equal(sample.masks["kidneys"], sample.masks["left kidney"])
        assert status(sample, "right kidney") is False

    def test_two_boxes_of_lungs_are_two_sides(self, tmp_path: Path) -> None:
        write_rows(
            tmp_path, "lung_ct", [{"label": "lungs", "bbox": "5 5 20 60;40 5 55 60"}], np.full((64, 64), 9, np.uint8)
        )
        sample = read(tmp_path, "lung_ct")
        assert np.nonzero(sample.masks["right lung"])[1].max() < 32 < np.nonzero(sample.masks["left lung"])[1].min()

    def test_lungs_that_touch_have_no_sides(self, tmp_path: Path) -> None:
        write_rows(
            tmp_path, "lung_ct", [{"label": "lungs", "bbox": "5 5 35 60;30 5 55 60"}], np.full((64, 64), 9, np.uint8)
        )
        sample = read(tmp_path, "lung_ct")
        assert set(sample.masks) == {"lungs"} and status(sample, "left lung") is None

    def test_colour_stays_and_grey_of_three_channels_is_grey(self, tmp_path: Path) -> None:
        image = np.zeros((40, 64, 3), np.uint8)
        image[..., 0] = 200
        write_rows(tmp_path, "kvasirseg", [{"label": "polyp", "bbox": "5 5 20 30"}], image)
        assert read(tmp_path, "kvasirseg").image.shape == (64, 64, 3)
        write_rows(tmp_path, "knee_xr", [{"label": "femur", "bbox": "5 5 20 30"}], np.full((40, 64, 3), 90, np.uint8))
        assert read(tmp_path, "knee_xr").image.shape == (64, 64)

    def test_it_is_as_bright_as_in_use(self) -> None:
        image = np.zeros((20, 20), np.uint8)
        image[5:15, 5:15] = 100
        image[0, 0] = 110
        sample = Sample(image, (20, 20), {}, frozenset(), "chest", "cxr", "")
        assert brightened(sample).image[10, 10] in (254, 255)
        assert brightened(sample).image[0, 5] == 0

    def test_the_older_sets_are_read_as_before(self, tmp_path: Path) -> None:
        row = {"id": "busi_normal_1", "mask": "", "group": "b", "label": "normal", "bbox": "", "text": ""}
        write_set(tmp_path, "busi", [row])
        sample = read(tmp_path, "busi")
        assert status(sample, "breast tumor") is False and status(sample, "skin") is None

    def test_a_mask_without_pixels_is_none(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "m.png")
        row = {"label": "polyp", "mask": "m.png", "bbox": ""}
        assert masks_of(SOURCES["kvasirseg"], [row], tmp_path) == {}
