"""Phantoms of each modality: what is where, how bright, and whether the words are true."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from lexiseg.datasets.phantoms import brain, breast, chest, fetal
from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.datasets.phantoms.words import place_of, size_of, where
from lexiseg.values.arrays import BoolArray

SIZES = ("small", "medium", "large")


def some(
    modality: str,
    *,
    target: bool = True,
    count: int = 10,
    size: tuple[int, int] = (81, 117),
    **attributes: str,
) -> Iterable[Phantom]:
    return (generate(modality, seed, size=size, target=target, **attributes) for seed in range(count))


def contrast(phantom: Phantom, mask: BoolArray, around: BoolArray) -> float:
    """Mean brightness inside a mask, its border left out, minus that around it."""
    core = binary_erosion(mask)
    pixels = phantom.scan.pixels
    return float(pixels[core if core.any() else mask].mean() - pixels[around].mean())


def beside(mask: BoolArray, pixels: int = 8) -> BoolArray:
    """What surrounds a mask at its own height, a little off its border; a shadow lies below, not beside."""
    ring = binary_dilation(mask, iterations=pixels) & ~binary_dilation(mask, iterations=2)
    return ring & mask.any(axis=1)[:, None]


class TestBreast:
    def test_tumors_are_darker_than_what_is_beside_them(self) -> None:
        for phantom in some("breast-ultrasound", count=40):
            mask = phantom.structures["breast tumor"]
            assert contrast(phantom, mask, beside(mask)) < -0.02, phantom.scan.id

    @pytest.mark.parametrize(
        ("kind", "names"),
        [
            ("benign tumor", {"breast tumor", "benign tumor"}),
            ("cyst", {"breast tumor", "benign tumor", "cyst"}),
            ("malignant tumor", {"breast tumor", "malignant tumor"}),
        ],
    )
    def test_a_mass_goes_by_its_names_and_no_other(self, kind: str, names: set[str]) -> None:
        phantom = generate("breast-ultrasound", 1, size=96, target=True, kind=kind)
        masks = [phantom.structures[name] for name in sorted(names)]
        assert all((mask == masks[0]).all() for mask in masks)
        others = {"breast tumor", "benign tumor", "malignant tumor", "cyst"} - names
        assert others <= set(phantom.absent_phrases)

    def test_layers_do_not_overlap_and_lie_in_order(self) -> None:
        for phantom in some("breast-ultrasound", target=False):
            masks = list(phantom.structures.values())
            assert np.sum(masks, axis=0).max() == 1
            middles = [mask.nonzero()[0].mean() for mask in masks]
            assert middles == sorted(middles)

    @pytest.mark.parametrize(("kind", "sign"), [("cyst", 1), ("malignant tumor", -1)])
    def test_cysts_enhance_and_malignant_tumors_shade(self, kind: str, sign: int) -> None:
        gains = []
        for phantom in some("breast-ultrasound", count=40, kind=kind):
            y, x = phantom.structures["breast tumor"].nonzero()
            below = phantom.scan.pixels[int(y.max()) + 2 : int(y.max()) + 10]
            middle = below[:, int(x.mean()) - 2 : int(x.mean()) + 3]
            if len(below) > 3 and middle.size:
                gains.append(float(middle.mean() - below.mean()))
        assert len(gains) > 20
        assert sign * np.mean(gains) > 0.04

    def test_words_are_measured(self) -> None:
        for phantom in some("breast-ultrasound"):
            mask, words = phantom.structures["breast tumor"], phantom.attributes
            assert words["size"] == size_of(mask, small=breast.SMALL, large=breast.LARGE)
            assert words["place"] == place_of(mask)
            assert f"{words['finding']} {where(words['place'])}" in phantom.caption
            height, width = (np.ptp(index) + 1 for index in mask.nonzero())
            assert (words["shape"] == "taller than wide") == (height > 1.05 * width)

    @pytest.mark.parametrize("size", SIZES)
    def test_size_asked_for_is_mostly_drawn(self, size: str) -> None:
        drawn = [p.attributes["size"] for p in some("breast-ultrasound", count=16, finding_size=size)]
        assert drawn.count(size) >= 12


class TestBrain:
    def test_structures_lie_in_one_another(self) -> None:
        for phantom in some("brain-mri", count=24):
            parts = phantom.structures
            head = parts["head"]
            assert not (parts["brain"] & ~head).any()
            assert not (parts["brain"] & parts["skull"]).any()
            assert not (parts["brain tumor"] & ~head).any()
            if phantom.attributes["finding"] != "pituitary tumor":  # which grows under the brain
                assert not (parts["brain tumor"] & ~parts["brain"]).any()
            for name in ("ventricles", "edema"):
                assert not (parts.get(name, ~head & head) & parts["brain tumor"]).any()

    def test_background_is_dark_and_head_is_not(self) -> None:
        for phantom in some("brain-mri", target=False):
            head = phantom.structures["head"]
            assert phantom.scan.pixels[~binary_dilation(head, iterations=2)].mean() < 0.06
            assert phantom.scan.pixels[head].mean() > 0.1

    @pytest.mark.parametrize("kind", ["glioma", "meningioma"])
    @pytest.mark.parametrize("modality_contrast", ["FLAIR", "T2"])
    def test_tumors_are_bright_in_flair_and_t2(self, kind: str, modality_contrast: str) -> None:
        for phantom in some("brain-mri", contrast=modality_contrast, kind=kind):
            parts = phantom.structures
            mask = parts["brain tumor"]
            fluid = parts.get("ventricles", np.zeros_like(mask))
            tissue = parts["brain"] & ~mask & ~fluid
            assert np.median(phantom.scan.pixels[mask]) > np.median(phantom.scan.pixels[tissue]) + 0.05

    def test_rings_are_brighter_than_their_middle(self) -> None:
        seen = 0
        for phantom in some("brain-mri", contrast="contrast-enhanced T1", kind="glioma", finding_size="large"):
            if phantom.attributes["signal"] != "ring-enhancing":
                continue
            mask = phantom.structures["glioma"]
            core = binary_erosion(mask, iterations=8)
            rim = binary_erosion(mask, iterations=1) & ~binary_erosion(mask, iterations=4)
            if core.any():
                seen += 1
                assert phantom.scan.pixels[rim].mean() > phantom.scan.pixels[core].mean() + 0.05
        assert seen >= 3

    def test_gliomas_keep_off_the_surface_and_meningiomas_seek_it(self) -> None:
        def depth(kind: str) -> float:
            found = []
            for phantom in some("brain-mri", count=16, kind=kind, finding_size="small", plane="axial"):
                brain_ = phantom.structures["brain"]
                shell = brain_ & ~binary_erosion(brain_, iterations=3)
                found.append(bool((phantom.structures[kind] & shell).any()))
            return float(np.mean(found))

        assert depth("meningioma") > 0.8
        assert depth("glioma") < 0.4

    def test_words_are_measured(self) -> None:
        for phantom in some("brain-mri"):
            mask, words = phantom.structures["brain tumor"], phantom.attributes
            assert words["size"] == size_of(mask, small=brain.SMALL, large=brain.LARGE)
            place = place_of(mask, within=phantom.structures["head"], columns=brain.COLUMNS)
            assert words["place"] == place
            assert where(place) in phantom.caption
            assert (words["edema"] == "edema") == ("edema" in phantom.structures)

    def test_other_kinds_of_tumor_are_absent(self) -> None:
        phantom = generate("brain-mri", 3, size=96, target=True, kind="meningioma")
        assert {"glioma", "pituitary tumor", "lungs", "fetal head"} <= set(phantom.absent_phrases)
        assert not {"brain", "meningioma", "skull"} & set(phantom.absent_phrases)


class TestChest:
    def test_lungs_are_left_and_right_and_nothing_else(self) -> None:
        for phantom in some("chest-xray"):
            left, right = phantom.structures["left lung"], phantom.structures["right lung"]
            np.testing.assert_array_equal(left | right, phantom.structures["lungs"])
            assert not (left & right).any()

    def test_left_is_the_patients(self) -> None:
        for phantom in some("chest-xray"):
            middle = {name: phantom.structures[name].nonzero()[1].mean() for name in phantom.structures}
            assert middle["right lung"] < middle["heart"] < middle["left lung"]

    def test_lungs_exclude_heart_and_mediastinum(self) -> None:
        for phantom in some("chest-xray"):
            lungs = phantom.structures["lungs"]
            assert not (lungs & (phantom.structures["heart"] | phantom.structures["mediastinum"])).any()

    def test_lungs_cover_what_they_do_in_patients(self) -> None:
        shares = [p.structures["lungs"].mean() for p in some("chest-xray", count=60, size=(64, 64))]
        assert 0.15 < np.mean(shares) < 0.33
        assert min(shares) > 0.08

    def test_lungs_are_darker_than_heart(self) -> None:
        for phantom in some("chest-xray"):
            pixels = phantom.scan.pixels
            lungs, heart = phantom.structures["lungs"], phantom.structures["heart"]
            assert pixels[lungs].mean() < pixels[heart].mean() - 0.15

    def test_findings_lie_in_one_lung_and_are_brighter_than_it(self) -> None:
        for phantom in some("chest-xray", finding_size="medium", size=(160, 160)):
            mask = phantom.structures[phantom.attributes["finding"]]
            lung = phantom.structures[f"{phantom.attributes['side']} lung"]
            assert not (mask & ~lung).any()
        gains = [
            contrast(p, mask, beside(mask) & p.structures["lungs"])
            for p in some("chest-xray", count=20, kind="lung nodule", finding_size="medium", size=(160, 160))
            for mask in [p.structures["lung nodule"]]
        ]
        assert np.mean(gains) > 0.05

    def test_a_nodule_is_an_opacity_but_not_the_other_way_round(self) -> None:
        nodule = generate("chest-xray", 2, size=96, target=True, kind="lung nodule")
        assert "lung opacity" in nodule.structures
        opacity = generate("chest-xray", 2, size=96, target=True, kind="lung opacity")
        assert "lung nodule" in opacity.absent_phrases

    def test_without_a_finding_the_lungs_remain(self) -> None:
        phantom = generate("chest-xray", 4, size=96, target=False)
        assert phantom.target.any()
        assert {"lung nodule", "lung opacity"} <= set(phantom.absent_phrases)

    def test_words_are_measured(self) -> None:
        for phantom in some("chest-xray"):
            words = phantom.attributes
            mask = phantom.structures[words["finding"]]
            assert words["size"] == size_of(mask, small=chest.FINDING_SMALL, large=chest.FINDING_LARGE)
            assert words["place"] == place_of(mask)
            assert words["lungs"] == size_of(phantom.structures["lungs"], small=chest.SMALL, large=chest.LARGE)
            assert f"in the {words['side']} lung" in phantom.caption
            assert f"{words['lungs']} lung fields" in phantom.caption


class TestFetal:
    def test_parts_lie_in_the_head_and_other_things_outside(self) -> None:
        for phantom in some("fetal-ultrasound", count=24):
            head = phantom.structures["fetal head"]
            for name, mask in phantom.structures.items():
                if name in ("placenta", "amniotic fluid"):
                    assert not (mask & head).any(), name
                else:
                    assert not (mask & ~head).any(), name

    def test_the_skull_is_brighter_than_what_it_holds(self) -> None:
        for phantom in some("fetal-ultrasound", midline="continuous"):
            parts = phantom.structures
            inside = parts["fetal head"] & ~parts["skull"]
            seen = phantom.scan.pixels > 0
            assert phantom.scan.pixels[parts["skull"] & seen].mean() > phantom.scan.pixels[inside & seen].mean()

    def test_heads_are_nearly_ellipses(self) -> None:
        for phantom in some("fetal-ultrasound", finding_size="small"):
            mask = phantom.structures["fetal head"]
            if mask[[0, -1]].any() or mask[:, [0, -1]].any():
                continue
            y, x = mask.nonzero()
            axes = np.sqrt(np.linalg.eigvalsh(np.cov(np.stack([y, x])))) * 2
            assert mask.sum() == pytest.approx(np.pi * axes.prod(), rel=0.03)

    def test_outside_the_fan_is_black(self) -> None:
        corners = [p.scan.pixels[0, 0] + p.scan.pixels[0, -1] for p in some("fetal-ultrasound", count=24)]
        assert np.mean(np.equal(corners, 0)) > 0.5

    def test_without_a_head_there_is_no_part_of_one(self) -> None:
        for phantom in some("fetal-ultrasound", target=False):
            assert set(phantom.structures) <= {"placenta", "amniotic fluid"}

    def test_words_are_measured(self) -> None:
        for phantom in some("fetal-ultrasound"):
            mask, words = phantom.structures["fetal head"], phantom.attributes
            assert words["size"] == size_of(mask, small=fetal.SMALL, large=fetal.LARGE)
            assert words["place"] == place_of(mask)
            assert f"{words['size']} fetal head {where(words['place'])}" in phantom.caption
            assert (words["cavum"] == "seen") == ("cavum septi pellucidi" in phantom.structures)
            assert (words["placenta"] != "none") == ("placenta" in phantom.structures)
