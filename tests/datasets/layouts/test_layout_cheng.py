from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import block, inside, mask_file, picture, run_import

from lexiseg.datasets.importing import ImportRequest, import_dataset
from lexiseg.errors import BadDataset, UsageError
from lexiseg.io.read import read_scan

h5py = pytest.importorskip("h5py", reason="reading MATLAB 7.3 files needs h5py")

PIXELS = np.arange(6 * 9, dtype=np.int16).reshape(6, 9) * 7
TUMOR = np.zeros((6, 9), np.uint8)
TUMOR[1:3, 5:9] = 1


def slice_file(path: Path, *, label: int = 2, patient: str = "100360", **fields: np.ndarray) -> Path:
    """As MATLAB writes it: a user block of 512 bytes, matrices transposed, text as character codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "image": PIXELS.T,
        "tumorMask": TUMOR.T,
        "label": np.array([[float(label)]]),
        "PID": np.array([[ord(letter)] for letter in patient], np.uint16),
        "tumorBorder": np.zeros((1, 8)),
        **fields,
    }
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file[f"cjdata/{name}"] = value
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


@pytest.fixture
def cheng(tmp_path: Path) -> Path:
    slice_file(tmp_path / "brainTumorDataPublic_1-766" / "1.mat", label=1)
    slice_file(tmp_path / "brainTumorDataPublic_1-766" / "2.mat", label=2, patient="MR032321A")
    slice_file(tmp_path / "brainTumorDataPublic_767-1532" / "1000.mat", label=3)
    (tmp_path / "cvind.mat").write_bytes(b"MATLAB 7.3 the folds of a cross-validation")
    return tmp_path


class TestMatFiles:
    def test_rows(self, cheng: Path) -> None:
        rows, imported = run_import("cheng", cheng)
        assert [(row.id, row.label, row.group) for row in rows.values()] == [
            ("1", "meningioma", "100360"),
            ("2", "glioma", "MR032321A"),
            ("1000", "pituitary", "100360"),
        ]
        assert not imported.missing and not imported.problems

    def test_pixels_are_kept_and_upright(self, cheng: Path) -> None:
        rows, _ = run_import("cheng", cheng)
        assert np.array_equal(np.asarray(Image.open(rows["1"].image)), PIXELS)
        assert np.array_equal(inside(rows["1"]), TUMOR > 0)
        assert read_scan(rows["1"].image).shape == (6, 9)

    def test_negative_and_fractional_pixels(self, tmp_path: Path) -> None:
        slice_file(tmp_path / "1.mat", image=PIXELS.T - 100)
        slice_file(tmp_path / "2.mat", image=PIXELS.T / 1000.0)
        rows, _ = run_import("cheng", tmp_path)
        assert np.array_equal(np.asarray(Image.open(rows["1"].image)), PIXELS)
        stretched = np.asarray(Image.open(rows["2"].image)) / 65535 * PIXELS.max()
        assert np.allclose(stretched, PIXELS, atol=0.01)


class TestBadFiles:
    def test_each_costs_itself_and_one_line(self, cheng: Path) -> None:
        bad = cheng / "brainTumorDataPublic_767-1532"
        (bad / "2000.mat").write_bytes(b"no matlab at all")
        (bad / "2001.mat").write_bytes(b"")
        (bad / "2002.mat").write_bytes((bad / "1000.mat").read_bytes()[:900])
        slice_file(bad / "2003.mat", image=np.zeros((3, 3, 3)))
        slice_file(bad / "2004.mat", tumorMask=np.zeros((2, 2)))
        slice_file(bad / "2005.mat", image=np.full((9, 6), 7))
        slice_file(bad / "2006.mat", PID=np.zeros(5000, np.uint16))
        rows, imported = run_import("cheng", cheng)
        assert list(rows) == ["1", "2", "1000", "2004"]
        assert imported.missing == ("2004",)
        assert len(imported.problems) == 7
        assert all("\n" not in problem and "Traceback" not in problem for problem in imported.problems)

    def test_links_to_other_files_are_not_followed(self, cheng: Path, tmp_path_factory) -> None:
        secret = slice_file(tmp_path_factory.mktemp("elsewhere") / "secret.mat")
        linked = slice_file(cheng / "brainTumorDataPublic_1-766" / "3.mat")
        with h5py.File(linked, "r+") as file:
            del file["cjdata/image"]
            file["cjdata/image"] = h5py.ExternalLink(str(secret), "cjdata/image")
        rows, imported = run_import("cheng", cheng)
        assert "3" not in rows
        assert "no cjdata/image" in imported.problems[0]

    def test_without_h5py(self, cheng: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(UsageError, match=r"pip install 'lexiseg\[datasets\]'"):
            run_import("cheng", cheng)

    def test_no_numbered_file(self, tmp_path: Path) -> None:
        (tmp_path / "brainTumorDataPublic_1-766.zip").write_bytes(b"PK")
        with pytest.raises(BadDataset, match=r"found brainTumor.*\.zip; unpack the archives first"):
            import_dataset(ImportRequest(layout="cheng", source=tmp_path, out=tmp_path / "m.csv"))


class TestPng:
    def test_images_and_masks(self, tmp_path: Path) -> None:
        for number in (1, 2, 10):
            picture(tmp_path / "images" / f"{number}.png")
            mask_file(tmp_path / "masks" / f"{number}.png")
        rows, _ = run_import("cheng-png", tmp_path)
        assert list(rows) == ["1", "2", "10"]
        assert np.array_equal(inside(rows["10"]), block(4, 12, 4, 12))

    @pytest.mark.parametrize("names", [("1", "2", "3"), ("meningioma", "glioma", "pituitary_tumor")])
    def test_classes_with_masks_beside(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        for number, name in enumerate(names):
            picture(tmp_path / "dataset" / name / f"{number}.png")
            mask_file(tmp_path / "dataset" / name / f"{number}_mask.png")
        rows, imported = run_import("cheng-png", tmp_path)
        assert {row.id: row.label for row in rows.values()} == {
            "0": "meningioma",
            "1": "glioma",
            "2": "pituitary",
        }
        assert not imported.missing

    def test_classes_below_images(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "glioma" / "7.png")
        mask_file(tmp_path / "masks" / "glioma" / "7.png")
        rows, imported = run_import("cheng-png", tmp_path)
        assert rows["7"].label == "glioma" and not imported.missing
