"""A finished run is shown on the files that it read, wherever they lie now, and on no others."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from PIL import Image as Pillow
from study_files import write_series

from lexiseg.io.sources import SourceOptions, read_source
from lexiseg.runs.batch import run_batch
from lexiseg.runs.finished import finished_items
from lexiseg.runs.items import RunItem, gather_items

VALUES = np.random.default_rng(0).integers(0, 900, (4, 12, 10)).astype(np.int16)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])
OTHER = "not the file that the run read"


def drawn(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:8, 4:8] = grey
    Pillow.fromarray(pixels).save(path)
    return path


def run(*inputs: str | Path, out: Path, **reading: object) -> None:
    asked = SourceOptions(**reading)  # type: ignore[arg-type]
    items = gather_items(inputs, phrases=["tumor"], reading=asked)
    run_batch(FakePipeline(), items, out, phrases=["tumor"], reading=asked.record())


def found(out: Path, base: Path | None = None) -> dict[str, RunItem]:
    return {item.id: item for item in finished_items(out, base or Path())}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of two patients' scans of one name, made in the folder `here`."""
    drawn(tmp_path / "here" / "scans" / "p1" / "scan.png", 90)
    drawn(tmp_path / "here" / "scans" / "p2" / "scan.png", 200)
    monkeypatch.chdir(tmp_path / "here")
    run("scans", out=tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "out"


class TestFiles:
    def test_where_the_run_was_started(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(out.parent / "here")
        items = found(out)
        assert not any(item.error for item in items.values())
        assert items["p2_scan"].path == Path("scans/p2/scan.png")

    def test_nowhere(self, out: Path) -> None:
        assert all("the scan is not there" in item.error for item in found(out).values())

    @pytest.mark.parametrize("base", ["here", "here/scans"])
    def test_from_any_folder_on_their_way(self, out: Path, base: str) -> None:
        items = found(out, out.parent / base)
        assert items["p1_scan"].path == out.parent / "here" / "scans" / "p1" / "scan.png"
        assert items["p2_scan"].path == out.parent / "here" / "scans" / "p2" / "scan.png"

    def test_a_name_alone_is_not_enough(self, out: Path) -> None:
        items = found(out, out.parent / "here" / "scans" / "p1")
        assert not items["p1_scan"].error and OTHER in items["p2_scan"].error

    def test_another_file_at_the_same_place(self, out: Path) -> None:
        shutil.copytree(out.parent / "here" / "scans", "scans")
        drawn(Path("scans/p2/scan.png"), 100)
        items = found(out)
        assert not items["p1_scan"].error and OTHER in items["p2_scan"].error
        # The right one counts wherever it is found.
        assert not found(out, out.parent / "here")["p2_scan"].error

    def test_a_run_that_did_not_write_down_what_it_read(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (out / "files.csv").unlink()
        assert "not there" in found(out, out.parent / "here" / "scans" / "p1")["p2_scan"].error
        monkeypatch.chdir(out.parent / "here")
        assert not any(item.error for item in found(out).values())


class TestStudies:
    def test_series_of_one_folder(self, tmp_path: Path) -> None:
        for number in (2, 3):
            write_series(tmp_path / "made", VALUES + number, AFFINE, elements={"SeriesNumber": number})
            for file in (tmp_path / "made").iterdir():
                (tmp_path / "study").mkdir(exist_ok=True)
                file.rename(tmp_path / "study" / f"{number}-{file.name}")
        run(tmp_path / "study", out=tmp_path / "out", all_series=True)
        items = found(tmp_path / "out")
        assert len(items) == 2 and not any(item.error for item in items.values())
        for item in items.values():
            (number,) = {file.name[0] for file in item.source.files}
            np.testing.assert_array_equal(read_source(item.source).values, VALUES + int(number))  # type: ignore[union-attr]

    def test_a_stack_of_pictures(self, tmp_path: Path) -> None:
        for k in range(3):
            drawn(tmp_path / "stack" / f"{k}.png", 90 + k)
        run(tmp_path / "stack", out=tmp_path / "out", stack=True, spacing=(5.0, 1.0, 1.0))
        assert read_source(found(tmp_path / "out")["stack"].source).shape == (3, 16, 16)

    def test_one_of_several_volumes(self, tmp_path: Path) -> None:
        four = np.stack([VALUES.T, VALUES.T + 5], axis=-1)
        nib.save(nib.Nifti1Image(four, AFFINE), tmp_path / "four.nii.gz")
        run(tmp_path / "four.nii.gz", out=tmp_path / "out", volume=2)
        scan = read_source(found(tmp_path / "out")["four"].source)
        np.testing.assert_array_equal(scan.values, VALUES + 5)  # type: ignore[union-attr]

    def test_scans_of_a_zip(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "scans.zip", "w") as file:
            for name, grey in (("a", 90), ("b", 200)):
                file.write(drawn(tmp_path / "made.png", grey), f"{name}.png")
        run(tmp_path / "scans.zip", out=tmp_path / "out")
        items = found(tmp_path / "out")
        assert len(items) == 2 and not any(item.error for item in items.values())
        greys = [float(read_source(item.source).pixels.max()) for item in items.values()]  # type: ignore[union-attr]
        assert greys == pytest.approx([90 / 255, 200 / 255])
