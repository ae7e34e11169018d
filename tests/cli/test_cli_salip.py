"""What SaLIP and its yardsticks add to the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image


def refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2
    told = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(told) == 1, told
    assert all(word in told[0] for word in words), told


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


class TestTune:
    def test_fixed_unless_asked(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        assert cli.segment(tmp_path / "out", scans, "--preset", "demo-salip").exit_code == 0
        assert record(tmp_path / "out")["tuning"] == "fixed"

    def test_a_preset_with_nothing_to_tune(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, "--preset", "sam-unprompted", "--tune", "label-free")
        refused(result, "'sam-unprompted'", "tuned without labels")
        assert not (tmp_path / "out").exists()

    def test_no_such_tuning(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        assert cli.segment(tmp_path / "out", scans, "--tune", "dice").exit_code == 2


class TestYardsticks:
    def test_true_boxes_need_a_manifest_with_masks(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        refused(cli.segment(tmp_path / "out", scans, "--preset", "sam-box"), "manifest with a mask column")
        (scans / "m.csv").write_text("id,image\na,a.png\n")
        result = cli.segment(tmp_path / "out", "--manifest", scans / "m.csv", "--preset", "sam-box")
        refused(result, "manifest with a mask column")

    @pytest.mark.parametrize("preset", ["sam-box", "sam-unprompted"])
    def test_they_run_with_the_bundled_segmenter(
        self, cli: Any, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
    ) -> None:
        monkeypatch.undo()  # the real `load`
        mask = np.zeros((24, 32), np.uint8)
        mask[4:20, 6:26] = 255
        (scans / "masks").mkdir()
        Image.fromarray(mask).save(scans / "masks" / "a.png")
        (scans / "m.csv").write_text("id,image,mask\na,a.png,masks/a.png\nb,b.png,\n")
        out = tmp_path / "out"
        settings = ["--set", "proposals.points_per_side=2"] if preset == "sam-unprompted" else []
        result = cli.segment(out, "--manifest", scans / "m.csv", "--preset", preset, "--device", "cpu", *settings)
        rows = (out / "results.csv").read_text().splitlines()
        assert (out / "a_mask.png").exists()
        assert record(out)["models"]["encoder"] == {"name": "none"}
        if preset == "sam-box":  # b has no true mask: its row says so, and the others are done
            assert result.exit_code == 1
            assert "true,1.0000,,6 4 26 20," in rows[1]
            assert "names no true mask" in rows[2]
        else:
            assert result.exit_code == 0


class TestOddScans:
    def test_each_gets_a_mask_on_its_own_grid_or_a_line(
        self, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()  # the real `load`
        folder, out = tmp_path / "odd", tmp_path / "out"
        folder.mkdir()
        ramp = np.linspace(0, 65535, 40 * 52).reshape(40, 52)
        rgba = np.random.default_rng(0).integers(0, 255, (36, 48, 4)).astype(np.uint8)
        for name, pixels in {
            "pixel": np.full((1, 1), 7, np.uint8),
            "constant": np.full((30, 44), 90, np.uint8),
            "deep": ramp.astype(np.uint16),
            "rgba": rgba,
        }.items():
            Image.fromarray(pixels).save(folder / f"{name}.png")
        few = ["--set", "proposals.points_per_side=3", "--set", "retrieval.top=50"]
        result = cli.segment(out, folder, "--preset", "demo-salip", "--device", "cpu", *few)
        assert result.exit_code == 1
        told = [line for line in result.stderr.splitlines() if "all pixels are equal" in line]
        assert len(told) == 2  # a constant scan, and one of a single pixel, hold nothing to segment
        sizes = {path.name: Image.open(path).size for path in out.glob("*_mask.png")}
        assert sizes == {"deep_mask.png": (52, 40), "rgba_mask.png": (48, 36)}
        rows = (out / "results.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["constant", "deep", "pixel", "rgba"]


class TestAxis:
    def test_volumes_are_cut_where_asked_and_masks_lie_on_the_source(self, cli: Any, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(0, 999, (8, 9, 5)).astype(np.int16)
        nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(tmp_path / "v.nii.gz")
        counts = {}
        for axis, arguments in {"auto": [], "coronal": ["--axis", "coronal"]}.items():
            out = tmp_path / axis
            assert cli.segment(out, tmp_path / "v.nii.gz", *arguments).exit_code == 0
            assert nib.load(out / "v_mask.nii.gz").shape == voxels.shape
            boxes = (out / "results.csv").read_text().splitlines()[1].split(",")[7]
            counts[axis] = len(boxes.split(";"))
        assert counts == {"auto": 5, "coronal": 9}
        assert record(tmp_path / "coronal")["preset"]["volume"]["plane"] == "coronal"

    def test_propagation_and_the_steps_between_slices_are_settings(self, cli: Any, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(0, 999, (8, 9, 5)).astype(np.int16)
        nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(tmp_path / "v.nii.gz")
        asked = ["--propagate", "--set", "volume.gate=0.5", "--set", "propagation.min_iou=0.6"]
        assert cli.segment(tmp_path / "out", tmp_path / "v.nii.gz", *asked).exit_code == 0
        preset = record(tmp_path / "out")["preset"]
        assert preset["volume"]["propagate"] and preset["volume"]["gate"] == 0.5
        assert preset["propagation"]["min_iou"] == 0.6
        plain = cli.segment(tmp_path / "plain", tmp_path / "v.nii.gz")
        assert plain.exit_code == 0 and not record(tmp_path / "plain")["preset"]["volume"].get("propagate")

    def test_no_such_axis(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        assert cli.segment(tmp_path / "out", scans, "--axis", "oblique").exit_code == 2
