from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from PIL import Image as Pillow

from lexiseg.io.names import slugs
from lexiseg.io.read import read_scan
from lexiseg.proposals.files import read_proposals
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.runs.outputs import OutputOptions, write_outputs
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import box_of
from lexiseg.values.scans import Image, Scan


def write(scan: Scan, folder: Path, *phrases: str) -> set[str]:
    result = FakePipeline()(scan, phrases, keep_stages=True)
    write_outputs(result, scan, scan.planes(), folder, "x", options=OutputOptions(stages=True, overlay=True))
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def image() -> Scan:
    return Image(np.random.default_rng(0).random((20, 30), np.float32))


@pytest.fixture
def volume(tmp_path: Path) -> Scan:
    voxels = np.random.default_rng(0).integers(0, 999, (9, 8, 7)).astype(np.int16)
    affine = np.array([[0, 2.0, 0.1, 5], [-1.5, 0, 0, 7], [0, 0.1, 3.0, 9], [0, 0, 0, 1]])
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "v.nii.gz")
    return read_scan(tmp_path / "v.nii.gz")


class TestImages:
    def test_one_phrase(self, image: Scan, tmp_path: Path) -> None:
        names = write(image, tmp_path, "tumor")
        ends = ("mask.png", "saliency.png", "region.png", "prompts.json", "overlay.png")
        assert names == {f"x_{end}" for end in ends}
        saliency = np.asarray(Pillow.open(tmp_path / "x_saliency.png"))
        np.testing.assert_array_equal(saliency, np.rint(image.pixels * 255))
        region = np.asarray(Pillow.open(tmp_path / "x_region.png"))
        np.testing.assert_array_equal(region, np.where(image.pixels > image.pixels.mean(), 255, 0))
        prompts = json.loads((tmp_path / "x_prompts.json").read_text())
        assert prompts["boxes"] == [[0, 0, 30, 20]]
        assert Pillow.open(tmp_path / "x_overlay.png").size == (30, 20)

    def test_several_phrases_have_a_label_map_and_their_own_stages(self, image: Scan, tmp_path: Path) -> None:
        names = write(image, tmp_path, "Left lung", "right lung", "absent")
        assert {"x_labels.png", "x_left-lung_saliency.png", "x_right-lung_prompts.json"} <= names
        labels = np.asarray(Pillow.open(tmp_path / "x_labels.png"))
        assert 0 < labels.max() <= 3
        mask = np.asarray(Pillow.open(tmp_path / "x_mask.png"))
        np.testing.assert_array_equal(mask > 0, labels > 0)

    @pytest.mark.parametrize("right_down", [((1, 0, 0), (0, 0, -1)), ((0, 0, 1), (1, 0, 0))])
    def test_of_a_picture_stored_another_way_lie_on_its_stored_pixels(
        self, image: Image, tmp_path: Path, right_down: tuple[tuple[int, ...], ...]
    ) -> None:
        turned = replace(image, geometry=Geometry.of_picture(image.shape, np.array(right_down, float)))
        turned.pixels[:10, :10] += 1
        write(turned, tmp_path, "tumor")
        bright = turned.pixels > turned.pixels.mean()
        for kind in ("mask", "region"):
            np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / f"x_{kind}.png")) > 0, bright)
        prompts = json.loads((tmp_path / "x_prompts.json").read_text())
        assert prompts["boxes"] == [list(box_of(bright))]

    def test_proposals_of_a_picture_stored_another_way_too(self, image: Image, tmp_path: Path) -> None:
        mirrored = Geometry.of_picture(image.shape, np.array([[1.0, 0, 0], [0, 0, -1]]))
        turned = replace(image, geometry=mirrored)
        inside = np.zeros(image.shape, np.bool_)
        inside[2:5, 3:9] = True
        seen = Proposals(image.shape, (Proposal(inside, (3, 2, 9, 5), 0.9, 0.9, (4.5, 2.5), (0, 0, 20, 20)),))
        result = replace(FakePipeline()(turned, ["tumor"], keep_stages=True), proposals=(seen,))
        write_outputs(result, turned, turned.planes(), tmp_path, "x", options=OutputOptions(stages=True))
        (found,) = read_proposals(tmp_path / "x_proposals.json")
        np.testing.assert_array_equal(found.mask, inside[:, ::-1])
        assert (found.box, found.point, found.crop) == ((21, 2, 27, 5), (25.5, 2.5), (10, 0, 30, 20))


class TestVolumes:
    @pytest.mark.parametrize("kind", ["mask", "saliency", "region"])
    def test_lie_on_the_sources_grid_to_the_bit(self, volume: Scan, tmp_path: Path, kind: str) -> None:
        write(volume, tmp_path, "tumor")
        source, written = nib.load(tmp_path / "v.nii.gz"), nib.load(tmp_path / f"x_{kind}.nii.gz")
        assert written.shape == source.shape
        np.testing.assert_array_equal(written.affine, source.affine)

    def test_saliency_voxels_are_those_of_the_scan(self, volume: Scan, tmp_path: Path) -> None:
        write(volume, tmp_path, "tumor")
        written = np.asarray(nib.load(tmp_path / "x_saliency.nii.gz").dataobj)
        assert written.dtype == np.float32
        shown = np.stack([plane.pixels for plane in volume.planes()])
        np.testing.assert_array_equal(volume.planes().cut(written.T), shown)

    def test_prompts_name_their_slice(self, volume: Scan, tmp_path: Path) -> None:
        write(volume, tmp_path, "tumor")
        slices = json.loads((tmp_path / "x_prompts.json").read_text())["slices"]
        assert [each["slice"] for each in slices] == list(range(len(volume.planes())))

    def test_an_absent_targets_picture_shows_slices_all_the_same(self, volume: Scan, tmp_path: Path) -> None:
        write(volume, tmp_path, "unseen organ")
        height, width = volume.planes()[0].shape
        assert Pillow.open(tmp_path / "x_overlay.png").size == (3 * width, 2 * height)


def test_slugs_are_short_safe_and_all_different() -> None:
    found = slugs(["Left lung", "left/lung", "肺", "!!!", "x" * 99])
    assert found == ["left-lung", "left-lung-2", "肺", "phrase", "x" * 40]
