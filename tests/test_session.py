"""A scan that a person segments by words, clicks, boxes and paint, with every step undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from scans_of import dense_preset, volume_of

from lexiseg.api import TextSegmenter
from lexiseg.errors import BadPhrase, UsageError
from lexiseg.models.protocols import EncodedImage
from lexiseg.pipelines.cache import EncodingCache
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.serve.describe import target_record
from lexiseg.session import Session, corrections
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume

SIZE = 64
RED = (16, 16, 32, 48)
PRESET = dense_preset()


@dataclass(frozen=True, eq=False)
class Encoded(EncodedImage):
    features: torch.Tensor


def scan(box: tuple[int, int, int, int] = RED) -> Image:
    x0, y0, x1, y1 = box
    pixels = np.zeros((SIZE, SIZE, 3), np.float32)
    pixels[y0:y1, x0:x1] = (1, 0, 0)
    return Image(pixels, id="colours")


def boxed(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def segmenter() -> FakeSegmenter:
    return FakeSegmenter()


@pytest.fixture
def session(segmenter: FakeSegmenter) -> Session:
    return Session(MedclipSam(PRESET, NamedColours(), segmenter), scan())


class TestWords:
    def test_a_phrase_draws_its_target(self, session: Session) -> None:
        assert session.ask("  red  mass ").present
        assert session.targets == ("red mass",)
        np.testing.assert_array_equal(session.mask("red mass"), boxed(*RED))

    def test_another_pipeline_is_asked_by_itself_or_by_what_load_returns(self, session: Session) -> None:
        other = MedclipSam(dense_preset("other"), NamedColours(), FakeSegmenter())
        for given in (other, TextSegmenter(other)):
            session.ask("red", pipeline=given)
            assert session.targets == ("red (other)",)
            assert session.evidence("red (other)", 0, pipeline=given) is not None
            assert session.place(session.find("red", pipeline=given), pipeline=given) == 1
        with pytest.raises(UsageError, match="pipeline is a str; expected what"):
            session.ask("red", pipeline="other")  # type: ignore[arg-type]
        assert Session(TextSegmenter(other), scan()).ask("red").present

    def test_the_threshold_moves_without_asking_a_model(self, session: Session, segmenter: FakeSegmenter) -> None:
        found = session.ask("red")
        calls = len(segmenter.asked)
        session.threshold = min(1.0, found.presence + 1e-6)
        assert not session.mask("red").any() and not session.present("red")
        session.threshold = found.presence
        assert session.mask("red").any()
        assert len(segmenter.asked) == calls

    def test_a_picture_stored_mirrored_is_worked_on_upright_and_masked_as_stored(
        self, segmenter: FakeSegmenter
    ) -> None:
        mirrored = Geometry.of_picture((SIZE, SIZE), np.array([[1.0, 0, 0], [0, 0, -1]]))
        session = Session(MedclipSam(PRESET, NamedColours(), segmenter), replace(scan(), geometry=mirrored))
        session.ask("red")
        np.testing.assert_array_equal(session.mask("red"), boxed(*RED))
        np.testing.assert_array_equal(session.plane_mask("red", 0), boxed(*RED)[:, ::-1])
        assert session.prompts("red", 0).boxes.tolist() == [[32, 16, 48, 48]]
        session.click("red", 0, SIZE - 50.5, 50.5)
        np.testing.assert_array_equal(session.mask("red"), boxed(*RED) | boxed(49, 49, 52, 52))
        assert session.views.planes().letters == {"left": "R", "right": "L", "top": "S", "bottom": "I"}

    def test_boxes_of_planes_that_show_a_side_are_not_those_of_the_planes_of_acquisition(self) -> None:
        affine = np.diag([-3.0, -2, 2, 1])
        pixels = np.zeros((34, 36, 40, 3), np.uint8)
        pixels[10:20, 10:20, 20:, 0] = 255
        volume = Volume(pixels, Geometry((34, 36, 40), affine), id="v")
        session = Session(MedclipSam(PRESET, NamedColours(), FakeSegmenter()), volume)
        session.ask("left red")
        assert session.views.acquired == "sagittal"
        assert session.mask("left red")[12:18, 12:18, 30].all()
        assert all(session.prompts("left red", index).empty for index in range(40))

    def test_a_phrase_that_is_none(self, session: Session) -> None:
        with pytest.raises(BadPhrase):
            session.ask("  ")


class TestCorrections:
    def test_a_click_adds_what_lies_there(self, session: Session) -> None:
        session.ask("red")
        session.click("red", 0, 50.5, 50.5)
        np.testing.assert_array_equal(session.mask("red"), boxed(*RED) | boxed(49, 49, 52, 52))

    def test_the_scan_is_encoded_once_for_words_and_clicks(self, session: Session, segmenter: FakeSegmenter) -> None:
        session.ask("red")
        for x in (40.5, 50.5, 60.5):
            session.click("red", 0, x, 10.5)
        assert len(segmenter.encoded) == 1

    def test_a_target_drawn_from_nothing(self, session: Session) -> None:
        session.add("cyst")
        assert not session.mask("cyst").any()
        np.testing.assert_array_equal(session.box("cyst", 0, (2, 3, 10, 12)), boxed(2, 3, 10, 12))
        with pytest.raises(UsageError, match="a target 'cyst' already"):
            session.add("cyst")

    def test_candidates_can_be_chosen(self, session: Session) -> None:
        session.add("cyst")
        session.click("cyst", 0, 20.5, 20.5)
        offered = session.candidates("cyst", 0)
        assert offered.shape == (3, SIZE, SIZE)
        np.testing.assert_array_equal(session.mask("cyst"), offered[0])
        np.testing.assert_array_equal(session.choose("cyst", 0, 1), offered[1])
        np.testing.assert_array_equal(session.mask("cyst"), offered[1])

    def test_paint_and_erase_ask_no_model(self, session: Session, segmenter: FakeSegmenter) -> None:
        session.ask("red")
        calls = len(segmenter.asked)
        session.paint("red", 0, boxed(0, 0, 4, 4))
        session.paint("red", 0, boxed(*RED), erase=True)
        np.testing.assert_array_equal(session.mask("red"), boxed(0, 0, 4, 4))
        assert len(segmenter.asked) == calls

    @pytest.mark.parametrize(
        ("action", "words"),
        [
            (lambda s: s.click("heart", 0, 1, 1), "no target 'heart'; expected one of red"),
            (lambda s: s.click("red", 1, 1, 1), "no plane 1; expected 0 to 0"),
            (lambda s: s.click("red", 0, 64, 1), "lies outside the plane of 64 x 64"),
            (lambda s: s.box("red", 0, (5, 5, 5, 9)), "does not lie in the plane"),
            (lambda s: s.paint("red", 0, np.zeros((3, 3), np.bool_)), "shape (3, 3), expected the plane's (64, 64)"),
            (lambda s: s.choose("red", 0, 0), "no candidate 0; expected one of 0"),
        ],
    )
    def test_what_cannot_be(self, session: Session, action, words: str) -> None:  # type: ignore[no-untyped-def]
        session.ask("red")
        before = session.mask("red")
        with pytest.raises(UsageError) as caught:
            action(session)
        assert words in str(caught.value)
        np.testing.assert_array_equal(session.mask("red"), before)


class TestUndo:
    def test_every_step_comes_back_and_goes_again(self, session: Session) -> None:
        assert not session.undo() and not session.redo()
        session.ask("red")
        masks = [session.mask("red")]
        for step in (
            lambda: session.click("red", 0, 50.5, 50.5),
            lambda: session.box("red", 0, (2, 2, 6, 6)),
            lambda: session.paint("red", 0, boxed(0, 60, 4, 64)),
        ):
            step()
            masks.append(session.mask("red"))
        for mask in masks[-2::-1]:
            assert session.undo()
            np.testing.assert_array_equal(session.mask("red"), mask)
        for mask in masks[1:]:
            assert session.redo()
            np.testing.assert_array_equal(session.mask("red"), mask)

    def test_a_new_step_forgets_what_was_undone(self, session: Session) -> None:
        session.ask("red")
        session.click("red", 0, 50.5, 50.5)
        session.undo()
        session.paint("red", 0, boxed(0, 0, 2, 2))
        assert not session.redo()

    def test_a_target_that_was_removed_comes_back(self, session: Session) -> None:
        session.ask("red")
        session.remove("red")
        assert session.targets == ()
        session.undo()
        assert session.targets == ("red",)

    def test_a_locked_target_is_left_as_it_is(self, session: Session) -> None:
        session.add("cyst")
        session.paint("cyst", 0, boxed(0, 0, 4, 4))
        session.paint("cyst", 0, boxed(8, 8, 9, 9))
        session.undo()
        session.change("cyst", locked=True)
        for turn in (session.undo, session.redo):
            with pytest.raises(UsageError, match="the target 'cyst' is locked; unlock it to change it"):
                turn()
        np.testing.assert_array_equal(session.mask("cyst"), boxed(0, 0, 4, 4))
        session.change("cyst", locked=False)
        assert session.redo() and session.undo() and session.undo() and session.undo()
        assert session.targets == ()

    def test_what_comes_back_has_a_name_of_its_own(self, tmp_path: Path) -> None:
        steps: list[Any] = []
        pipeline = MedclipSam(PRESET, NamedColours(), FakeSegmenter())
        session = Session(pipeline, scan(), record=steps.append)
        session.add("a")
        session.add("b")
        session.remove("a")
        session.change("b", rename="a")
        assert session.undo() and session.targets == ("a (2)", "a")
        assert len(set(session.save(tmp_path))) == 2
        # Taken back once more "b" goes, and comes back beside another of its name.
        assert session.undo() and session.targets == ("a (2)",)
        session.change("a (2)", rename="a")
        assert session.redo() and session.targets == ("a", "a (2)")
        again = Session(pipeline, scan())
        again.replay(steps)
        assert again.targets == session.targets

    def test_a_journal_of_before_is_read_though_its_undo_would_be_refused(self) -> None:
        steps: list[Any] = []
        pipeline = MedclipSam(PRESET, NamedColours(), FakeSegmenter())
        session = Session(pipeline, scan(), record=steps.append)
        session.add("cyst")
        session.paint("cyst", 0, boxed(0, 0, 4, 4))
        session.change("cyst", locked=True)
        again = Session(pipeline, scan())
        again.replay([*steps, {"op": "undo"}])
        assert not again.mask("cyst").any()


class TestCarried:
    """A mask carried along a volume whose planes all look alike."""

    @pytest.fixture
    def volume(self) -> Session:
        session = Session(
            MedclipSam(PRESET, NamedColours(), FakeSegmenter()), volume_of(np.zeros((9, SIZE, SIZE), np.float32))
        )
        session.add("vessel")
        session.box("vessel", 4, (4, 4, 12, 12))
        return session

    def test_planes_that_a_person_drew_in_stay(self, volume: Session) -> None:
        volume.paint("vessel", 6, boxed(30, 30, 40, 40))
        # Cleared by hand: that there is nothing is a correction too.
        volume.clear("vessel", 2)
        assert volume.propagate("vessel", 4) == [3, 5]
        np.testing.assert_array_equal(volume.plane_mask("vessel", 6), boxed(30, 30, 40, 40))
        assert volume.filled("vessel") == [3, 4, 5, 6]
        # What was carried is no drawing: it is carried anew.
        assert volume.propagate("vessel", 4) == [3, 5]
        volume.undo()
        volume.undo()
        volume.undo()
        assert 2 in volume.propagate("vessel", 4)

    def test_planes_that_were_edited_meanwhile_stay_and_are_told(self, volume: Session) -> None:
        since, masks = volume.mask("vessel"), volume.carry("vessel", 4)
        assert {3, 5, 6, 7} <= set(masks)
        volume.paint("vessel", 6, boxed(30, 30, 40, 40))
        volume.paint("vessel", 20, np.pad(np.ones((1, 1), np.bool_), ((7, 1), (20, 43))), axis="coronal")
        changed = set(volume.filled("vessel")) - {4, 6}
        taken, kept = volume.settle("vessel", 4, masks, since=since)
        assert set(kept) == {6} | changed and set(taken) == set(masks) - set(kept)
        np.testing.assert_array_equal(volume.plane_mask("vessel", 6), boxed(30, 30, 40, 40))
        assert changed and all(volume.plane_mask("vessel", index).sum() == 1 for index in changed)


class TestVolumes:
    def test_an_edit_of_a_plane_leaves_the_others(self) -> None:
        pixels = np.zeros((3, SIZE, SIZE), np.float32)
        volume = volume_of(pixels)
        session = Session(MedclipSam(PRESET, NamedColours(), FakeSegmenter()), volume)
        session.add("vessel")
        session.box("vessel", 1, (4, 4, 9, 9))
        mask = session.mask("vessel")
        assert mask.shape == volume.shape
        assert [bool(each.any()) for each in session.planes.cut(mask)] == [False, True, False]


class TestSave:
    def test_each_target_has_its_file(self, session: Session, tmp_path: Path) -> None:
        session.ask("red")
        session.add("Cyst / left")
        paths = session.save(tmp_path)
        assert [path.name for path in paths] == ["colours_red_mask.png", "colours_cyst-left_mask.png"]
        np.testing.assert_array_equal(np.asarray(Pillow.open(paths[0])) > 0, session.mask("red"))
        assert (tmp_path / "colours_red_probability.png").is_file()


class TestCache:
    def test_the_least_recently_used_goes_first_and_bytes_are_bounded(self) -> None:
        cache = EncodingCache(limit=2 * 4)  # an encoding of the fake one takes four bytes
        images = {name: Encoded((2, 2), torch.zeros(1)) for name in range(3)}
        for name, image in images.items():
            cache.put(((2, 2), bytes([name])), image)
            cache.get(((2, 2), bytes([0])))
        assert cache.nbytes == 8 and len(cache) == 2
        assert cache.get(((2, 2), b"\x00")) is images[0]
        assert cache.get(((2, 2), b"\x01")) is None

    def test_sessions_of_one_pipeline_in_threads_do_not_meet(self) -> None:
        pipeline = MedclipSam(PRESET, NamedColours(), FakeSegmenter())
        cache = EncodingCache()
        boxes = [(8 * k, 8 * k, 8 * k + 16, 8 * k + 16) for k in range(4)]
        found: dict[int, np.ndarray] = {}

        def work(k: int) -> None:
            session = Session(pipeline, scan(boxes[k]), encodings=cache)
            for _ in range(5):
                session.ask("red")
                session.click("red", 0, 60.5, 60.5 - 8 * k)
            found[k] = session.mask("red")

        threads = [Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for k, box in enumerate(boxes):
            alone = Session(pipeline, scan(box))
            alone.ask("red")
            alone.click("red", 0, 60.5, 60.5 - 8 * k)
            np.testing.assert_array_equal(found[k], alone.mask("red"))


def test_each_pipeline_answers_for_itself(segmenter: FakeSegmenter) -> None:
    """Also one that is made for a single question: an object of before may have had its address."""
    session = Session(MedclipSam(PRESET, NamedColours(), segmenter), scan())
    for number in range(20):
        preset = PRESET.override(mask={"min_area": 0.9 if number % 2 else 0.0})
        session.ask("red", pipeline=MedclipSam(preset, NamedColours(), segmenter))
        assert bool(session.count("red")) is (number % 2 == 0), number


def test_a_mask_is_carried_by_the_presets_settings_and_the_phrases(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[dict[str, Any]]()
    monkeypatch.setattr(corrections, "propagate", lambda *_, **more: given.append(more) or {})
    preset = PRESET.override(propagation={"max_growth": 3.5}, mask={"min_area": 0.05})
    pipeline = MedclipSam(preset, NamedColours(), FakeSegmenter())
    rings = replace(preset["mask"], fill_holes=False)
    monkeypatch.setattr(pipeline, "mask_for", lambda text: rings if text == "bright" else preset["mask"])
    voxels = np.zeros((3, SIZE, SIZE), np.float32)
    voxels[:, 16:48, 16:32] = 1
    session = Session(pipeline, volume_of(voxels, spacing=(3.0, 1.0, 1.0)))
    session.ask("bright")
    by_hand = session.add("by hand")
    session.paint(by_hand, 1, boxed(20, 20, 30, 30))
    for target in ("bright", by_hand):
        session.carry(target, 1)
    assert [each["settings"].max_growth for each in given] == [3.5, 3.5]
    assert [each["mask_settings"] for each in given] == [rings, preset["mask"]]


def test_the_volume_of_a_sheared_stack(segmenter: FakeSegmenter) -> None:
    """As the page tells it: slices 5 mm apart along their normal, each shifted beside the last."""
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 5 * np.tan(np.radians(20)), 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    values = np.zeros((3, SIZE, SIZE), np.float32)
    values[:, 16:48, 16:32] = 1
    session = Session(MedclipSam(PRESET, NamedColours(), segmenter), Volume(values, Geometry(values.shape, affine)))
    session.ask("bright")
    (target,) = session.all_targets()
    count = session.count("bright")
    assert count and target_record(session, target)["volume_mm3"] == pytest.approx(5 * count)
