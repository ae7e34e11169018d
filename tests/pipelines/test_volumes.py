"""What a pipeline makes of a volume: slices together, steps between them, and what is written down on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from scans_of import dense_preset, preset_of, volume_of
from seeing_segmenter import SeeingSegmenter

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.pipelines.baselines import NoEncoder, Unprompted
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.results import Result
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume
from lexiseg.values.window import ValueRange

SIZE = 64
PRESET = dense_preset()


class Colours(NamedColours):
    """Counts the images of its calls, and is blind to what is dim (about 0.6)."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode_dense_and_image(self, pixels: Any) -> Any:
        self.sizes.append(len(pixels))
        dense, whole = super().encode_dense_and_image(pixels)
        dim = ((pixels.amax((1, 2, 3)) - 0.6).abs() < 0.1).float()
        return dense * (1 - 2 * dim)[:, None, None, None], whole * (1 - 2 * dim)[:, None]


def bright(*slices: int, depth: int = 7) -> np.ndarray:
    """A bright square in some of the slices, moving by a pixel a slice."""
    pixels = np.zeros((depth, SIZE, SIZE), np.float32)
    for k in slices:
        pixels[k, 16 : 48 - k, 16 + k : 40] = 0.8
    return pixels


def pipeline(encoder: Any = None, segmenter: Any = None, **volume: Any) -> MedclipSam:
    return MedclipSam(PRESET.override(volume=volume), encoder or Colours(), segmenter or SeeingSegmenter())


def drawn(result: Result) -> list[bool]:
    return [bool(mask.any()) for mask in result.targets[0].mask]


class TestBatches:
    @pytest.mark.parametrize("batch", [2, 3, 7, 20])
    def test_masks_and_numbers_are_those_of_one_by_one(self, batch: int) -> None:
        scan = volume_of(bright(1, 2, 3, 5), id="volume")
        alone, together = pipeline(batch=1)(scan, "bright"), pipeline(batch=batch)(scan, "bright")
        np.testing.assert_array_equal(alone["bright"].mask, together["bright"].mask)
        assert alone["bright"].presence == pytest.approx(together["bright"].presence, abs=1e-5)
        assert drawn(alone) == [False, True, True, True, False, True, False]

    def test_both_models_see_so_many_at_once(self) -> None:
        encoder, segmenter = Colours(), SeeingSegmenter()
        pipeline(encoder, segmenter, batch=3)(volume_of(bright(1, 2, 3, 5)), "bright")
        assert encoder.sizes == [3, 3, 1]
        assert segmenter.at_once == [2, 2]  # slices 1 and 2, then 3 and 5

    def test_four_at_a_time_on_a_cpu_unless_asked(self) -> None:
        encoder, segmenter = Colours(), SeeingSegmenter()
        pipeline(encoder, segmenter)(volume_of(bright(1, 2)), "bright")
        assert encoder.sizes == [4, 3] and segmenter.at_once == [2]

    def test_one_at_a_time_where_the_saliency_sees_one_view_after_the_other(self) -> None:
        slow = pipeline()
        object.__setattr__(slow._method, "sees_many", False)
        assert slow.planes_at_once == 1


class Notebook:
    """A journal in memory."""

    def __init__(self, kept: Mapping[int, tuple[bytes, ...]] | None = None) -> None:
        self.kept = dict(kept or {})

    def recall(self) -> Mapping[int, tuple[bytes, ...]]:
        return dict(self.kept)

    def keep(self, index: int, slices: tuple[bytes, ...]) -> None:
        self.kept[index] = slices


class TestJournal:
    def test_what_is_written_down_is_not_done_again(self) -> None:
        scan = volume_of(bright(1, 2, 3, 5))
        book, encoder = Notebook(), Colours()
        whole = pipeline(batch=2)(scan, ["bright", "dark"], journal=book)
        assert sorted(book.kept) == list(range(7))
        half = Notebook({k: v for k, v in book.kept.items() if k < 5})
        resumed = pipeline(encoder, batch=2)(scan, ["bright", "dark"], journal=half)
        # Slice 4 was written down without 5, with which it goes through the models.
        assert encoder.sizes == [2, 1]
        assert resumed.mask.labels.tobytes() == whole.mask.labels.tobytes()
        for first, second in zip(resumed.targets, whole.targets, strict=True):
            assert first.mask.tobytes() == second.mask.tobytes()
            assert (first.presence, first.confidence) == (second.presence, second.confidence)
        assert half.kept == book.kept

    def test_stages_are_not_written_down(self) -> None:
        book = Notebook()
        result = pipeline()(volume_of(bright(1, 2)), "bright", keep_stages=True, journal=book)
        assert book.kept == {} and len(result["bright"].saliency) == 7

    def test_masks_are_the_same_with_and_without_stages(self) -> None:
        pixels = bright(1, 2, 3, 5)
        pixels[2] *= 0.76
        scan = volume_of(pixels, spacing=(5.0, 1.0, 1.0))
        settings = {"gate": 0.9, "max_gap": 5, "min_slices": 2}
        light = pipeline(**settings)(scan, "bright")
        heavy = pipeline(**settings)(scan, "bright", keep_stages=True)
        np.testing.assert_array_equal(light["bright"].mask, heavy["bright"].mask)
        np.testing.assert_array_equal(light.mask.labels, heavy.mask.labels)


class TestSteps:
    def test_a_gap_is_closed_by_mm(self) -> None:
        pixels = bright(1, 2, 3, 4, 5)
        pixels[3] *= 0.76  # 0.61: the segmenter sees it, and text does not
        for gap, closed in ((5, True), (4.9, False)):
            found = drawn(pipeline(max_gap=gap)(volume_of(pixels, spacing=(5.0, 1.0, 1.0)), "bright"))
            assert found == [False, True, True, closed, True, True, False]

    def test_nothing_is_drawn_where_the_segmenter_sees_nothing(self) -> None:
        scan = volume_of(bright(1, 2, 4, 5), spacing=(5.0, 1.0, 1.0))
        assert not drawn(pipeline(max_gap=5)(scan, "bright"))[3]

    def test_steps_in_mm_are_left_out_with_a_note_where_slices_follow_in_time(self) -> None:
        values = bright(1, 2, 4, 5)
        geometry = Geometry(values.shape, np.diag([1.0, 1.0, 1.0, 1.0]), time=True)
        scan = Volume(values, geometry, window=ValueRange(0.0, 1.0, "as made"))
        result = pipeline(max_gap=100, smoothing=2, min_slices=2)(scan, "bright")
        assert result.planes["volume"] == "max_gap, smoothing left out, no distance is known"
        assert drawn(result) == [False, True, True, False, True, True, False]
        assert "volume" not in pipeline(min_slices=2)(scan, "bright").planes

    def test_smoothing_keeps_what_is_sure(self) -> None:
        scan = volume_of(bright(1, 2, 3), spacing=(0.5, 1.0, 1.0))
        rough, smooth = (pipeline(smoothing=s)(scan, "bright")["bright"].mask for s in (0, 2))
        assert drawn(pipeline(smoothing=2)(scan, "bright")) == [False, True, True, True, False, False, False]
        # Slices half a mm apart become what most of them have: outlines move by a row and a column a slice.
        assert 0 < np.count_nonzero(rough ^ smooth) < 0.1 * rough.sum()

    def test_an_image_has_no_neighbours(self) -> None:
        scan = volume_of(bright(0, depth=1))
        assert drawn(pipeline(min_slices=2, gate=1.0, keep="largest")(scan, "bright")) == [True]


class TestPropagation:
    def test_the_surest_slices_are_carried_and_the_others_emptied(self) -> None:
        """The far square is as sure as any, and is a beginning of its own; the segmenter finds what text missed."""
        pixels = bright(1, 2, 3)
        pixels[6, 16:40, 16:40] = 0.8
        missed = pixels.copy()
        missed[2] *= 0.76  # 0.61: the segmenter sees it, and text does not
        result = pipeline(propagate=True)(volume_of(missed, spacing=(5.0, 1.0, 1.0)), "bright")
        assert drawn(result) == [False, True, True, True, False, False, True]
        assert "propagation" in result.seconds

    def test_a_pipeline_that_is_never_sure_refuses(self) -> None:
        preset = preset_of("x", pipeline="sam-unprompted", volume={"propagate": True})
        with pytest.raises(UsageError, match="propagate is true, and the pipeline 'sam-unprompted'"):
            Unprompted(preset, NoEncoder(None, "float32"), SeeingSegmenter())  # type: ignore[arg-type]


class TestSides:
    def volume(self, *, thick: float = 3.0, slices: float = 2.0, count: int = 40) -> Volume:
        affine = np.eye(4)
        affine[:3, :3] = [[-thick, 0, 0], [0, -2.5, 0], [0, 0, slices]]
        pixels = np.zeros((34, 36, count), np.float32)
        pixels[10:20, 10:20, 20:] = 0.8
        return Volume(pixels, Geometry((34, 36, count), affine), id="v", window=ValueRange(0.0, 1.0, "as made"))

    def test_a_phrase_with_a_side_is_asked_in_planes_that_show_it(self) -> None:
        scan, asked = self.volume(), pipeline()
        assert asked(scan, "bright").planes["plane"] == "sagittal"
        found = asked(scan, ["bright", "bright left"])
        assert found.planes["plane"] == found.targets[0].plane == "axial"
        assert len(found.targets[1].prompts) == 34
        np.testing.assert_array_equal(found.targets[0].mask, scan.values > 0.5)
        assert asked.planes(scan, "bright left").record() == found.planes

    def test_of_the_others_those_with_the_squarer_pixels(self) -> None:
        # 4 mm by 2.5 mm in axial planes, 4 mm by 3 mm in coronal ones.
        assert pipeline()(self.volume(thick=4.0, slices=3.0), "bright left").planes["plane"] == "coronal"

    @pytest.mark.parametrize("changes", [{"thick": 6.0}, {"count": 31}])
    def test_none_that_are_stretched_or_thin(self, changes: dict[str, Any]) -> None:
        with pytest.raises(BadPhrase, match=r"v: 'bright left' names a side, .* thin or stretched; ask without"):
            pipeline()(self.volume(**changes), "bright left")
        assert pipeline(plane="coronal")(self.volume(**changes), "bright left").planes["plane"] == "coronal"

    def test_a_plane_that_was_asked_for_is_not_changed(self) -> None:
        with pytest.raises(BadPhrase, match=r"do not show; ask without the side, or with the plane \(--axis\) axial"):
            pipeline(plane="sagittal")(self.volume(), "bright left")
        assert pipeline(plane="sagittal")(self.volume(), "bright").planes["plane"] == "sagittal"

    def test_a_picture_that_is_sagittal(self) -> None:
        lateral = Geometry.of_picture((SIZE, SIZE), np.array([[0, -1.0, 0], [0, 0, -1]]))
        scan = Image(np.zeros((SIZE, SIZE), np.float32), id="x", geometry=lateral)
        with pytest.raises(BadPhrase, match=r"x: 'bright left' names a side, .* give the volume"):
            pipeline()(scan, "bright left")
        assert not pipeline()(scan, "bright").present

    def test_what_no_encoder_reads_is_asked_as_it_is(self) -> None:
        blind = Unprompted(preset_of("sam", pipeline="sam-unprompted"), NoEncoder(None, "float32"), SeeingSegmenter())  # type: ignore[arg-type]
        assert blind.planes(self.volume(), "bright left").record()["plane"] == "sagittal"
