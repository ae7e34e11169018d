"""The front door: any scan in, a mask with its verdict out; what is wrong with a call is told at once."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from threading import Thread
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from scans_of import dense_preset

import lexiseg
from lexiseg import api
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.pipelines import loading
from lexiseg.pipelines.medclip_sam import MedclipSam

PRESET = dense_preset()
BOX = (16, 16, 32, 48)


@pytest.fixture
def segment() -> api.TextSegmenter:
    return api.TextSegmenter(MedclipSam(PRESET, NamedColours(), FakeSegmenter()))


def red() -> np.ndarray:
    x0, y0, x1, y1 = BOX
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[y0:y1, x0:x1] = (255, 0, 0)
    return pixels


class TestScans:
    def test_every_kind_of_image_gives_the_same_mask(self, segment: api.TextSegmenter, tmp_path: Path) -> None:
        Pillow.fromarray(red()).save(tmp_path / "red.png")
        given: list[Any] = [
            red(),
            red().astype(np.float32) / 255,
            Pillow.fromarray(red()),
            tmp_path / "red.png",
            str(tmp_path / "red.png"),
            lexiseg.read_scan(tmp_path / "red.png"),
        ]
        masks = [segment(each, "red")["red"].mask for each in given]
        assert masks[0].sum() == (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])
        for mask in masks[1:]:
            np.testing.assert_array_equal(mask, masks[0])

    def test_the_planes_that_are_shown_are_those_that_were_asked(self, segment: api.TextSegmenter) -> None:
        values = np.zeros((34, 40, 36), np.float32)
        values[10:20, 10:20, 20:] = 1
        found = segment(values, "left red", affine=np.diag([-3.0, -2, 2, 1]))
        assert found.shown is not None
        assert found.shown.record() == found.planes
        assert found.planes["plane"] == "axial"

    def test_arrays_and_nibabel_of_a_volume(self, segment: api.TextSegmenter) -> None:
        voxels = np.zeros((3, 64, 64), np.int16)
        voxels[1, 16:48, 16:32] = 900
        result = segment(voxels, "bright", spacing=(3.0, 1.0, 1.0))
        assert result["bright"].mask.shape == (3, 64, 64)
        assert result.scan is not None and result.scan.spacing == (3.0, 1.0, 1.0)
        image = nib.Nifti1Image(voxels.T, np.diag([-1.0, -1.0, 3.0, 1.0]))
        np.testing.assert_array_equal(segment(image, "bright")["bright"].mask, result["bright"].mask)

    @pytest.mark.parametrize(
        ("scan", "options", "words"),
        [
            (object(), {}, "a scan is object; expected a path, an array"),
            (np.zeros((4, 4, 4, 4)), {}, "shape (4, 4, 4, 4); expected (H, W), (H, W, 3) or a volume"),
            (np.zeros((0, 4)), {}, "shape (0, 4); expected real numbers, at least one"),
            (np.zeros((4, 4), complex), {}, "an array is complex128"),
            (np.full((4, 4), 700.0), {}, "floats go from 700 to 700; expected [0, 1]"),
            (np.full((4, 4), np.nan), {}, "expected [0, 1]"),
            (np.zeros((4, 4)), {"spacing": (1, 0)}, "spacing is (1, 0); expected 2 lengths in mm above 0"),
            (np.zeros((4, 4)), {"affine": np.eye(4)}, "an affine is given with an image"),
            (np.zeros((4, 4, 4)), {"affine": np.zeros((4, 4))}, "singular; expected a regular (4, 4)"),
            (np.zeros((4, 4, 4)), {"affine": np.eye(4), "spacing": (1, 1, 1)}, "both spacing and affine"),
            (np.zeros((9, 8, 4), np.uint8), {}, "colours with alpha, or a volume of four columns"),
            (red()[..., :1], {}, "(64, 64, 1): a grey picture with an axis too many, or a volume of one row or column"),
            (red()[..., :1], {"spacing": (1, 1)}, "expected the picture alone (numpy.squeeze(array)), or a volume's"),
            (red()[:, None, :, 0], {}, "(64, 1, 64): a grey picture with an axis too many"),
            ("scan.png", {"spacing": (1, 1)}, "given with a file, which has its own"),
        ],
    )
    def test_what_is_no_scan_is_a_usage_error(
        self, segment: api.TextSegmenter, scan: Any, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            segment(scan, "red", **options)
        assert words in str(caught.value) and len(str(caught.value).splitlines()) == 1

    def test_a_volume_of_one_column_says_that_it_is_one(self, segment: api.TextSegmenter) -> None:
        column = np.random.default_rng(0).random((40, 36, 1))
        for options in ({"spacing": (1, 1, 1)}, {"affine": np.eye(4)}):
            assert segment(column, "red", **options)["red"].mask.shape == (40, 36, 1)

    def test_one_colour_is_refused_as_in_a_file(self, segment: api.TextSegmenter) -> None:
        flat = np.full((8, 8), 7, np.uint8)
        for given in (flat, flat / 255, np.stack([flat] * 3, -1), Pillow.fromarray(flat)):
            with pytest.raises(UnreadableScan, match="all pixels are equal; there is nothing to segment in it"):
                segment(given, "red")
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            segment.session(flat)

    def test_an_array_without_an_affine_says_that_nobody_knows_how_it_lies(self, segment: api.TextSegmenter) -> None:
        voxels = np.random.default_rng(0).random((5, 40, 36))
        for options in ({}, {"spacing": (1, 1, 1)}):
            scan = segment(voxels, "red", **options).scan
            assert scan is not None
            assert scan.notes["affine"].startswith("orientation is not known: no affine was given; left and right")
        scan = segment(voxels, "red", affine=np.eye(4)).scan
        assert scan is not None
        assert "affine" not in scan.notes

    def test_a_frame_of_several_is_said_to_be_one(self, segment: api.TextSegmenter, tmp_path: Path) -> None:
        first, second = Pillow.fromarray(red()), Pillow.fromarray(255 - red())
        first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
        with Pillow.open(tmp_path / "two.gif") as film:
            scan = segment(film, "red").scan
        assert scan is not None and scan.notes["frames"] == "frame 1 of 2; the others are passed over"

    def test_a_true_mask_is_for_yardsticks(self, segment: api.TextSegmenter) -> None:
        with pytest.raises(UsageError, match="truth is given to the preset 'test'; expected it with yardsticks alone"):
            segment(red(), "red", truth=np.ones((64, 64), bool))

    def test_a_window_of_other_units_is_refused(self, segment: api.TextSegmenter) -> None:
        voxels = np.random.default_rng(0).integers(0, 500, (2, 64, 64)).astype(np.int16)
        with pytest.raises(UnreadableScan, match="the lung window is of Hounsfield units"):
            segment(voxels, "bright", window="lung")
        with pytest.raises(UsageError, match="window is 'lungs'; expected auto"):
            segment(voxels, "bright", window="lungs")
        assert segment(voxels - 1000, "bright", window="lung").planes["window"].startswith("lung window")


class TestResult:
    def test_is_saved_as_a_run_saves_it(self, segment: api.TextSegmenter, tmp_path: Path) -> None:
        result = segment(red(), ["red", "green"], keep_stages=True)
        assert result.save(tmp_path / "out", overlay=True, stages=True) == tmp_path / "out"
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"scan_mask.png", "scan_labels.png", "scan_overlay.png", "scan_red_saliency.png"} <= names

    def test_one_format_is_a_text(self, segment: api.TextSegmenter, tmp_path: Path) -> None:
        segment(red(), "red").save(tmp_path, formats="png")
        assert (tmp_path / "scan_mask.png").is_file()

    def test_stages_that_were_not_kept_are_not_written(self, segment: api.TextSegmenter, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="stages were not kept"):
            segment(red(), "red").save(tmp_path, stages=True)
        assert list(tmp_path.iterdir()) == []

    def test_shows_itself(self, segment: api.TextSegmenter) -> None:
        result = segment(red(), "red")
        assert result.overlay().shape == (64, 64, 3)
        assert "red: present" in repr(result)
        page = result._repr_html_()
        assert "data:image/png;base64," in page and "<td>red</td><td>present</td>" in page
        assert "<script" not in segment(red(), "red <script>")._repr_html_()

    def test_has_its_probability(self, segment: api.TextSegmenter) -> None:
        found = segment(red(), "red")["red"]
        assert found.probability is not None
        np.testing.assert_array_equal(found.probability > 0.5, found.mask)


class TestSettings:
    def test_a_threshold_of_one_call_is_that_calls_alone(self, segment: api.TextSegmenter) -> None:
        assert not segment(red(), "red", threshold=1.0)["red"].present
        assert segment(red(), "red")["red"].present

    def test_threads_share_what_is_loaded(self, segment: api.TextSegmenter) -> None:
        words = ["red", "green", "blue", "bright"]
        expected = {word: segment(red(), word)["red" if word == "red" else word].mask for word in words}
        found: dict[str, np.ndarray] = {}

        def work(word: str) -> None:
            for _ in range(10):
                found[word] = segment(red(), word)[word].mask

        threads = [Thread(target=work, args=(word,)) for word in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for word in words:
            np.testing.assert_array_equal(found[word], expected[word])

    def test_the_one_call_loads_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []

        def load(preset: Any, **_: Any) -> MedclipSam:
            calls.append(preset)
            return MedclipSam(PRESET, NamedColours(), FakeSegmenter())

        monkeypatch.setattr(loading, "load", load)
        api._loaded.cache_clear()
        try:
            assert lexiseg.segment(red(), "red")["red"].present
            assert lexiseg.segment(red(), "green").targets[0].phrase == "green"
        finally:
            api._loaded.cache_clear()
        assert calls == ["demo"]

    @pytest.mark.parametrize(("options", "words"), [({"threshold": 1.5}, "1.5"), ({"preset": "demos"}, "demos")])
    def test_a_wrong_call_loads_nothing(
        self, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
    ) -> None:
        monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
        with pytest.raises(UsageError, match=words):
            lexiseg.segment(red(), "red", **options)


def test_the_public_names_are_listed_before_anything_is_imported() -> None:
    code = "import lexiseg, sys; print(*dir(lexiseg)); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(lexiseg.__all__)


class TestOtherSettings:
    def test_a_preset_that_is_edited_is_read_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def made(preset: Any, **_: Any) -> api.TextSegmenter:
            return api.TextSegmenter(MedclipSam(api.load_preset(preset), NamedColours(), FakeSegmenter()))

        monkeypatch.setattr(api, "load", made)
        path = tmp_path / "mine.yaml"
        answers = []
        for threshold in (0.0, 1.0):
            fields = {**PRESET.as_dict(), "presence": {"threshold": threshold}}
            path.write_text(json.dumps(fields))
            answers.append(api.segment(red(), "red", preset=str(path))["red"].present)
        assert answers == [True, False]

    def test_they_are_kept_for_the_next_scan(self, segment: api.TextSegmenter) -> None:
        one, other = (segment._changed(0.5, None, None) for _ in range(2))
        assert one is other and one is not segment.pipeline
        for step in range(20):
            segment._changed(step / 20, None, None)
        assert len(segment._others) == 8

    def test_a_segmenter_that_nobody_has_is_gone_at_once(self) -> None:
        """Its models may be gigabytes; a cycle of references would keep them until the next collection."""
        segment = api.TextSegmenter(MedclipSam(PRESET, NamedColours(), FakeSegmenter()))
        segment(red(), "red", threshold=0.5)
        left = weakref.ref(segment.pipeline)
        gc.disable()
        try:
            del segment
            assert left() is None
        finally:
            gc.enable()

    def test_a_session_takes_what_a_call_takes(self, segment: api.TextSegmenter) -> None:
        session = segment.session(
            np.arange(1024.0).reshape(4, 16, 16), plane="sagittal", affine=np.diag([1.0, 1, 2, 1])
        )
        assert len(session.planes) == 16


def test_a_format_of_a_whole_run_is_refused(segment: api.TextSegmenter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="coco is written of a whole run"):
        segment(red(), "red").save(tmp_path, formats=["coco"])


@pytest.mark.parametrize("colours", [3, 4])
def test_colours_that_come_first_are_no_volume(segment: api.TextSegmenter, colours: int) -> None:
    array = np.arange(256.0 * colours, dtype=np.float32).reshape(colours, 16, 16)
    with pytest.raises(UsageError, match="moveaxis"):
        segment(array, "red")
    assert segment(array, "red", spacing=(1.0, 1.0, 1.0))["red"].mask.shape == array.shape
