"""The page in a browser: a scan, a phrase, its mask, corrections, and what is taken away."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from dicom_series import SeriesPlan, write_series
from pages import ServerProcess, Visit
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.values.overlap import dice


@pytest.fixture
def visit(browser: Any, server: ServerProcess) -> Iterator[Visit]:
    opened = Visit(browser, server.url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def breast() -> Phantom:
    return generate("breast-ultrasound", 0, target=True)


@pytest.fixture(scope="module")
def breast_file(breast: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "breast.png"
    Pillow.fromarray(np.rint(breast.scan.pixels * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume (12, 96, 128) whose value says where a voxel lies: 100 x slice + column."""
    path = tmp_path_factory.mktemp("volumes") / "head.nii.gz"
    slices, _, columns = np.mgrid[:12, :96, :128]
    # From (slice, row, column) to the file's (column, row, slice): columns run to the patient's left, rows to the back.
    values = (100 * slices + columns).astype(np.int16).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 4.0, 1.0])), path)
    return path


def middle_of(phantom: Phantom) -> tuple[float, float]:
    """The middle of a phantom's target, as x and y."""
    rows, columns = np.nonzero(phantom.target)
    return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


class TestPhrase:
    def test_a_phrase_typed_by_keyboard_finds_the_target(
        self, visit: Visit, breast: Phantom, breast_file: Path
    ) -> None:
        visit.upload(breast_file)
        page = visit.page
        page.keyboard.press("/")
        page.keyboard.type("breast tum")
        page.keyboard.press("ArrowDown")
        assert page.get_attribute("#phrase", "aria-activedescendant") == "suggestion-0"
        page.keyboard.press("Enter")
        page.wait_for_selector("#targets .target")
        visit.settled()
        page.locator("#panes canvas").focus()

        assert dice(visit.mask(), breast.target) > 0.85
        (target,) = visit.scan["targets"]
        shown = page.inner_text("#targets .target")
        assert target["words"] in shown
        assert f"confidence {target['confidence']:.2f}" in shown

        # Why: the heat map is fetched when it is asked for, and drawn.
        cold = page.locator("#panes canvas").screenshot()
        with page.expect_response(lambda reply: "saliency" in reply.url) as waiting:
            page.keyboard.press("y")
        assert waiting.value.json()["saliency"]["height"] > 0
        page.wait_for_timeout(300)
        assert page.locator("#panes canvas").screenshot() != cold
        page.keyboard.press("y")

        # Its threshold asks no model: the mask goes at once.
        page.fill("#threshold", "1")
        page.locator("#targets .verdict", has_text="below your threshold").wait_for()
        assert not visit.mask().any()

    def test_an_absent_target_is_said_so(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.ask("left lung")
        assert "absent" in visit.page.inner_text("#targets .target")

    def test_html_in_a_phrase_is_text(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.ask("<img src=x onerror=alert(1)>tumor")
        assert visit.page.locator("#targets img").count() == 0
        assert "<img" in visit.page.inner_text("#targets .target")

    def test_a_phrase_of_ten_thousand_characters_is_one_line(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.fill("#phrase", "tumor " * 1700)
        visit.page.click("#ask-go")
        assert "expected at most 200" in visit.says()
        assert not visit.scan["targets"]


class TestCorrections:
    def test_a_box_then_a_click_raise_dice_and_undo_takes_them_back(
        self, visit: Visit, breast: Phantom, breast_file: Path
    ) -> None:
        visit.upload(breast_file)
        rows, columns = np.nonzero(breast.target)
        visit.drag((columns.min() - 2, rows.min() - 2), (columns.max() + 3, rows.max() + 3))
        boxed = visit.mask()
        assert dice(boxed, breast.target) > 0.85

        # A stroke of the eraser, as a mistake to be corrected.
        x, y = middle_of(breast)
        visit.page.keyboard.press("e")
        for _ in range(6):
            visit.page.keyboard.press("]")
        visit.drag((x - 40, y), (x + 40, y))
        erased = visit.mask()
        visit.page.keyboard.press("p")
        visit.click(x, y)
        clicked = visit.mask()
        assert dice(erased, breast.target) < dice(boxed, breast.target) - 0.1
        assert dice(clicked, breast.target) > dice(erased, breast.target) + 0.05

        for key, mask in (("Control+z", erased), ("Control+z", boxed), ("Control+Shift+z", erased)):
            visit.page.keyboard.press(key)
            visit.settled()
            assert np.array_equal(visit.mask(), mask)

    def test_right_click_takes_away_and_left_adds(self, visit: Visit, breast: Phantom, breast_file: Path) -> None:
        visit.upload(breast_file)
        x, y = middle_of(breast)
        visit.click(x, y)
        visit.click(x + 20, y, button="right")
        points = visit.get(f"/scans/{visit.scan['id']}/targets/1/planes/image/0?layers=prompts")["points"]
        assert [point[2] for point in points] == [1, 0]
        assert points[1][:2] == pytest.approx([x + 20, y], abs=1)

    def test_a_brush_paints_its_disc_and_the_eraser_takes_it(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        # A disc of radius 6 px has 113 px; its pixels are those whose centres lie in it.
        assert visit.mask().sum() == pytest.approx(np.pi * 36, rel=0.1)
        visit.page.keyboard.press("e")
        visit.page.keyboard.press("]")
        visit.click(30, 30)
        assert visit.scan["targets"][0]["pixels"] == 0

    def test_a_candidate_by_its_key(self, visit: Visit, breast: Phantom, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.click(*middle_of(breast))
        visit.page.wait_for_selector("#candidates:not([hidden])")
        offered = visit.get(f"/scans/{visit.scan['id']}/targets/1/candidates?axis=image&plane=0")["masks"]
        assert len(offered) == 3
        visit.page.keyboard.press("3")
        visit.settled()
        assert visit.get(f"/scans/{visit.scan['id']}/targets/1/planes/image/0")["mask"] == offered[2]

    def test_a_point_by_keyboard_alone(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.locator("#panes canvas").focus()
        for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowDown", "Enter"):
            visit.page.keyboard.press(key)
        visit.settled()
        (point,) = visit.get(f"/scans/{visit.scan['id']}/targets/1/planes/image/0?layers=prompts")["points"]
        # From pixel 128, in the middle of 256.
        assert point == [126.5, 138.5, 1]

    def test_a_locked_target_is_left_alone(self, visit: Visit, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        before = visit.mask()
        visit.page.click("[aria-label='Lock target 1']")
        visit.page.wait_for_selector("[aria-label='Unlock target 1']")
        visit.click(90, 90)
        assert "locked" in visit.page.inner_text("#note")
        assert np.array_equal(visit.mask(), before)


class TestViews:
    def test_planes_agree_at_the_crosshair(self, visit: Visit, head_file: Path) -> None:
        visit.upload(head_file)
        page = visit.page
        page.click("[data-layout=three]")
        page.wait_for_selector("#panes canvas >> nth=2")
        page.keyboard.press("q")
        visit.click(90.5, 40.5)
        visit.drawn()
        for pane in range(3):
            visit.drawn(pane)
        # Axial is read from above with the patient's right on the left: the file's columns are the screen's.
        values = []
        for k in range(3):
            page.locator("#panes canvas").nth(k).focus()
            page.keyboard.press("ArrowUp")
            page.keyboard.press("ArrowDown")
            values.append(float(page.inner_text("#spoken").rsplit("value ", 1)[1]))
        assert values == pytest.approx([100 * 6 + 90] * 3, abs=0.6)

    def test_slices_by_wheel_keys_and_slider(self, visit: Visit, head_file: Path) -> None:
        visit.upload(head_file)
        page, words = visit.page, lambda: visit.page.inner_text("#slice-words")
        assert words() == "7 / 12"
        page.mouse.move(*visit.at(60, 40))
        page.mouse.wheel(0, 100)
        page.locator("#slice-words", has_text="8 / 12").wait_for()
        page.keyboard.press("PageUp")
        page.keyboard.press("PageUp")
        assert words() == "6 / 12"
        page.fill("#slice", "11")
        assert words() == "12 / 12"
        page.reload()
        visit.ready()
        visit.drawn()
        assert words() == "12 / 12"

    def test_from_a_picture_to_a_volume_and_back(self, visit: Visit, breast_file: Path, head_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        visit.upload(head_file)
        visit.page.wait_for_selector("canvas[aria-label*='axial 7 / 12']")
        assert visit.page.locator("#targets .target").count() == 0
        visit.page.click("#drawer-toggle")
        visit.page.click(".scan-open:has-text('breast')")
        visit.page.wait_for_selector("canvas[aria-label*='256 by 256']")
        assert visit.page.locator("#slices").is_hidden()
        assert visit.page.locator("#targets .target").count() == 1
        visit.page.click("[aria-label^='Close breast']")
        visit.page.click("#sure [value=yes]")
        visit.page.wait_for_selector("#start:not([hidden])")
        assert [scan["name"] for scan in visit.get("/scans")] == ["head.nii.gz"]

    def test_a_window_by_drag_and_by_name(self, visit: Visit, head_file: Path) -> None:
        visit.upload(head_file)
        page = visit.page
        page.select_option("#window-name", "all values")
        assert float(page.input_value("#window-width")) == pytest.approx(1227, rel=1e-2)
        visit.drag((40, 40), (90, 40), button="right")
        assert page.input_value("#window-name") == "custom"
        assert float(page.input_value("#window-width")) > 1300
        assert float(page.input_value("#window-centre")) == pytest.approx(613.5, rel=1e-2)
        assert not visit.scan["targets"]

    def test_a_distance_in_mm(self, visit: Visit, head_file: Path) -> None:
        visit.upload(head_file)
        visit.page.keyboard.press("m")
        visit.drag((20, 40), (80, 40))
        assert float(visit.page.inner_text("#note").split()[1]) == pytest.approx(60, abs=0.5)
        assert visit.page.inner_text("#note").endswith("mm")

    @pytest.mark.fullsize
    def test_two_presets_side_by_side(self, visit: Visit) -> None:
        visit.try_phantom("fetal-ultrasound")
        page = visit.page
        page.click("[data-layout=compare]")
        page.select_option("#compare-right", "sam-unprompted")
        page.click("#comparing [type=submit]")
        page.wait_for_selector("#targets .target >> nth=1")
        visit.settled()
        assert [target["preset"] for target in visit.scan["targets"]] == ["demo", "sam-unprompted"]
        assert page.locator(".pane-preset").all_inner_texts() == ["demo", "sam-unprompted"]


class TestTakeAway:
    def test_each_download_of_a_picture_opens(self, visit: Visit, breast_file: Path, tmp_path: Path) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        mask = visit.mask()
        png = visit.download("png", tmp_path)
        assert np.array_equal(np.array(Pillow.open(png)) > 0, mask)
        overlay = np.array(Pillow.open(visit.download("overlay", tmp_path)))
        assert overlay.ndim == 3
        coco = json.loads(visit.download("coco", tmp_path).read_text())
        assert coco["annotations"][0]["area"] == pytest.approx(mask.sum(), rel=0.05)

    @pytest.mark.parametrize("name", ["张伟", "50% ö"])
    def test_a_download_has_its_scans_name(self, visit: Visit, breast_file: Path, tmp_path: Path, name: str) -> None:
        file = tmp_path / f"{name}.png"
        file.write_bytes(breast_file.read_bytes())
        visit.upload(file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        assert visit.download("png", tmp_path).name == f"{name}_mask.png"

    def test_a_volume_is_taken_away_on_its_own_grid(self, visit: Visit, head_file: Path, tmp_path: Path) -> None:
        visit.upload(head_file)
        visit.page.keyboard.press("d")
        visit.click(90.5, 40.5)
        stored, scan = nibabel.load(visit.download("nifti", tmp_path)), nibabel.load(head_file)
        assert np.array_equal(stored.affine, scan.affine)
        drawn = np.argwhere(np.asarray(stored.dataobj) > 0)
        assert drawn.mean(axis=0) == pytest.approx([90, 40, 6], abs=0.6)

    def test_each_download_of_a_zipped_series_opens(self, visit: Visit, tmp_path: Path) -> None:
        files = write_series(tmp_path / "series", SeriesPlan(shape=(5, 40, 48)))
        with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
            for file in files:
                archive.write(file, f"study/{file.name}")
        visit.upload(tmp_path / "series.zip")
        assert visit.scan["shape"] == [5, 40, 48]
        visit.page.keyboard.press("d")
        visit.click(24, 20)
        drawn = visit.scan["targets"][0]["voxels"]

        data, header = nrrd.read(str(visit.download("nrrd", tmp_path)))
        assert header["space"] == "left-posterior-superior"
        assert (data > 0).sum() == drawn
        seg = highdicom.seg.segread(str(visit.download("dicom-seg", tmp_path)))
        assert (seg.get_volume(combine_segments=True).array > 0).sum() == drawn
        contours = pydicom.dcmread(visit.download("rtstruct", tmp_path))
        assert contours.Modality == "RTSTRUCT"
        assert len(contours.ROIContourSequence[0].ContourSequence) == 1
        # A binary STL: 80 bytes, the number of triangles, 50 bytes each.
        stl = visit.download("stl", tmp_path).read_bytes()
        assert len(stl) == 84 + 50 * int.from_bytes(stl[80:84], "little")
        visit.page.click("[data-format=png]")
        visit.page.wait_for_selector("#alert:not([hidden])")
        assert "it is a volume" in visit.says()

    def test_the_command_is_shown(self, visit: Visit) -> None:
        visit.try_phantom("breast-ultrasound")
        visit.page.click("#copy-as")
        visit.page.wait_for_selector("#snippets pre")
        text = visit.page.locator("#snippets pre").all_inner_texts()
        assert "lexiseg segment" in text[0]
        assert "breast tumor" in text[0]
        assert "import lexiseg" in text[1]


class TestTroubles:
    def test_a_broken_file_is_one_line_and_nothing_is_lost(
        self, visit: Visit, breast_file: Path, tmp_path: Path
    ) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(30, 30)
        broken = tmp_path / "broken.nii.gz"
        broken.write_bytes(b"\x1f\x8b not a volume")
        visit.page.set_input_files("#files", str(broken))
        visit.page.wait_for_selector("#alert:not([hidden])")
        assert "broken" in visit.says()
        assert "\n" not in visit.says()
        assert visit.scan["targets"][0]["pixels"] > 0
        visit.page.keyboard.press("Escape")
        assert visit.says() == ""

    def test_every_edit_is_there_after_a_kill(self, visit: Visit, server: ServerProcess, breast_file: Path) -> None:
        visit.upload(breast_file)
        visit.page.keyboard.press("d")
        visit.click(20, 20)
        first = visit.mask()
        visit.click(60, 60)
        both = visit.mask()
        server.kill()
        visit.page.click("[aria-label='Hide target 1']")
        visit.page.wait_for_selector("#alert:not([hidden])")
        assert "does not answer" in visit.says()

        server.start()
        visit.page.wait_for_selector("#alert", state="hidden")
        visit.page.reload()
        visit.ready()
        visit.drawn()
        assert np.array_equal(visit.mask(), both)
        visit.page.keyboard.press("Control+z")
        visit.settled()
        assert np.array_equal(visit.mask(), first)
