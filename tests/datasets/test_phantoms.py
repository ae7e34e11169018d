"""Phantoms of every modality: what all of them promise."""

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import MODALITIES, generate, options
from lexiseg.errors import UsageError

SEEDS = range(8)
BIG_SEED = 2**40


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[Phantom]]:
    return {name: [generate(name, seed, size=(96, 112)) for seed in SEEDS] for name in MODALITIES}


@pytest.mark.parametrize("modality", MODALITIES)
class TestEveryModality:
    def test_same_arguments_same_bytes(self, modality: str) -> None:
        first, second = (generate(modality, 7, size=80) for _ in range(2))
        assert first.scan.pixels.tobytes() == second.scan.pixels.tobytes()
        assert (first.caption, first.attributes) == (second.caption, second.attributes)
        assert first.structures.keys() == second.structures.keys()
        for name, mask in first.structures.items():
            np.testing.assert_array_equal(mask, second.structures[name])

    def test_other_seeds_are_other_scans(self, modality: str, phantoms: dict[str, list[Phantom]]) -> None:
        assert len({p.scan.pixels.tobytes() for p in phantoms[modality]}) == len(SEEDS)

    def test_pixels_are_float32_with_contrast_and_photographs_alone_have_colours(
        self, modality: str, phantoms: dict[str, list[Phantom]]
    ) -> None:
        for phantom in phantoms[modality]:
            pixels = phantom.scan.pixels
            assert pixels.dtype == np.float32
            assert pixels.shape == ((96, 112, 3) if modality == "fundus-photograph" else (96, 112))
            assert np.isfinite(pixels).all()
            assert pixels.min() >= 0
            assert pixels.max() <= 1
            assert pixels.std() > 0.05

    def test_masks_are_bool_on_the_scans_grid_and_not_empty(
        self, modality: str, phantoms: dict[str, list[Phantom]]
    ) -> None:
        for phantom in phantoms[modality]:
            for name, mask in phantom.structures.items():
                assert mask.dtype == np.bool_, name
                assert mask.shape == phantom.scan.shape, name
                assert mask.any(), name

    @pytest.mark.parametrize("size", [(97, 143), (143, 97), (32, 32), (33, 200)])
    def test_odd_sizes(self, modality: str, size: tuple[int, int]) -> None:
        for seed in range(4):
            phantom = generate(modality, seed, size=size, target=True)
            assert phantom.scan.shape == size
            assert all(mask.shape == size for mask in phantom.structures.values())

    def test_anatomy_does_not_depend_on_the_number_of_pixels(self, modality: str) -> None:
        small, large = (generate(modality, 3, size=n, target=True) for n in (64, 192))
        assert small.attributes["finding"] == large.attributes["finding"]
        name = small.phrase
        assert small.mask(name).mean() == pytest.approx(large.mask(name).mean(), abs=0.02)

    def test_id_names_modality_and_seed(self, modality: str) -> None:
        assert generate(modality, 42, size=64).scan.id == f"{modality}-00042"
        assert generate(modality, BIG_SEED, size=64).scan.id == f"{modality}-{BIG_SEED}"

    def test_present_target_is_drawn(self, modality: str) -> None:
        for seed in range(10):
            phantom = generate(modality, seed, size=64, target=True)
            assert phantom.attributes["finding"] != "none"
            assert phantom.attributes["finding"] in phantom.structures
            assert phantom.target.any()

    def test_absent_finding_is_not_drawn_and_said_to_be_absent(self, modality: str) -> None:
        finding = {"chest-xray": "lung nodule"}.get(modality, generate(modality, 0, size=64).phrase)
        for seed in range(10):
            phantom = generate(modality, seed, size=64, target=False)
            assert phantom.attributes["finding"] == "none"
            assert finding in phantom.absent_phrases
            assert finding not in phantom.structures
            assert not phantom.mask(finding).any()

    def test_chance_gives_both(self, modality: str) -> None:
        findings = {generate(modality, seed, size=32).attributes["finding"] == "none" for seed in range(40)}
        assert findings == {True, False}

    def test_absent_phrases_are_absent(self, modality: str, phantoms: dict[str, list[Phantom]]) -> None:
        for phantom in phantoms[modality]:
            assert not set(phantom.absent_phrases) & set(phantom.structures)
            assert len(set(phantom.absent_phrases)) == len(phantom.absent_phrases)

    def test_other_modalities_targets_are_absent(self, modality: str, phantoms: dict[str, list[Phantom]]) -> None:
        foreign = {phantoms[other][0].phrase for other in MODALITIES if other != modality}
        assert all(foreign <= set(phantom.absent_phrases) for phantom in phantoms[modality])

    def test_caption_names_finding_and_its_measured_size_and_place(
        self, modality: str, phantoms: dict[str, list[Phantom]]
    ) -> None:
        for phantom in phantoms[modality]:
            caption, words = phantom.caption.lower(), phantom.attributes
            assert caption.endswith(".")
            assert "  " not in caption
            if words["finding"] != "none":
                assert words["finding"].removeprefix("lung ") in caption
                assert f" {words['size']}" in caption

    def test_every_option_is_obeyed(self, modality: str) -> None:
        for name, values in options(modality).items():
            for value in values:
                phantom = generate(modality, 5, size=96, target=True, **{name: value})
                # A kind is told by the finding, a size measured, and a placenta may lie behind the head.
                told = {"kind": "finding"}.get(name, name)
                if told not in ("finding_size", "placenta"):
                    assert phantom.attributes[told] == value

    def test_forcing_one_attribute_leaves_the_others(self, modality: str) -> None:
        name, values = next(reversed(options(modality).items()))
        for value in values:
            forced = generate(modality, 9, size=48, target=True, **{name: value})
            free = generate(modality, 9, size=48, target=True)
            assert forced.attributes["finding"] == free.attributes["finding"]


class TestVariety:
    def test_over_a_thousand_captions(self) -> None:
        captions = {generate(name, seed, size=32).caption for name in MODALITIES for seed in range(290)}
        assert len(captions) > 1000

    def test_modalities_differ_for_the_same_seed(self) -> None:
        assert len({generate(name, 1, size=64).scan.pixels.tobytes() for name in MODALITIES}) == len(MODALITIES)


class TestBadUse:
    def test_unknown_modality(self) -> None:
        with pytest.raises(UsageError, match=r"'ct'.*breast-ultrasound"):
            generate("ct", 0)
        with pytest.raises(UsageError, match="'ct'"):
            options("ct")

    def test_unknown_attribute(self) -> None:
        with pytest.raises(UsageError, match=r"no attribute 'colour'.*kind"):
            generate("brain-mri", 0, colour="red")

    def test_unknown_value(self) -> None:
        with pytest.raises(UsageError, match=r"plane='oblique'.*axial"):
            generate("brain-mri", 0, plane="oblique")

    @pytest.mark.parametrize("size", [0, 31, (31, 64), (64, -1)])
    def test_too_small(self, size: int | tuple[int, int]) -> None:
        with pytest.raises(UsageError, match="too small"):
            generate("chest-xray", 0, size=size)

    def test_negative_seed(self) -> None:
        with pytest.raises(UsageError, match="seed -1"):
            generate("chest-xray", -1)

    def test_mask_of_a_phrase_that_nothing_is_known_about(self) -> None:
        with pytest.raises(KeyError, match="nothing is known about 'kidney'"):
            generate("chest-xray", 0, size=64).mask("kidney")
