from __future__ import annotations

import csv
import gzip
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

HELPERS = Path(__file__).parents[1] / "helpers"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def bomb(path: Path) -> None:
    """A PNG whose header claims 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = lambda kind, data: (  # noqa: E731
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))


def nan_volume(path: Path) -> None:
    nib.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)).to_filename(path)


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def zero_sized(path: Path) -> None:
    header = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + header)


BAD_FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("x.png", lambda path: None),
    "empty": ("x.png", lambda path: path.write_bytes(b"")),
    "truncated": ("x.png", truncated),
    "no scan under a scan's name": ("x.png", lambda path: path.write_bytes(b"PK\3\4" + b"not a scan" * 50)),
    "zero-sized": ("x.bmp", zero_sized),
    "NaN-filled": ("x.nii", nan_volume),
    "all-constant": ("x.png", lambda path: Image.new("L", (32, 32), 7).save(path)),
    "decompression bomb": ("x.png", bomb),
    "no volume under gzip": ("x.nii.gz", lambda path: path.write_bytes(gzip.compress(b"hello"))),
}  # fmt: skip


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD_FILES)
    def test_costs_one_row_with_one_line_and_the_others_are_done(
        self, cli: Any, scans: Path, tmp_path: Path, kind: str
    ) -> None:
        name, make = BAD_FILES[kind]
        make(tmp_path / name)
        out = tmp_path / "out"
        result = cli.segment(out, scans / "a.png", tmp_path / name, scans / "b.png")
        assert result.exit_code == 1
        assert [(row["id"], row["status"]) for row in rows(out)] == [
            ("a", "ok"),
            ("x", "failed"),
            ("b", "ok"),
        ]
        error = rows(out)[1]["error"]
        assert name in error
        assert "internal error" not in error
        assert [line for line in lines(result.stderr) if error[:60] in line], result.stderr
        assert "2 done, 0 absent, 1 failed" in result.stderr
        assert (out / "a_mask.png").exists()
        assert not (out / "x_mask.png").exists()

    def test_a_wrongly_named_scan_is_read_by_its_content(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        (tmp_path / "x.jpg").write_bytes((scans / "a.png").read_bytes())
        assert cli.segment(tmp_path / "out", tmp_path / "x.jpg").exit_code == 0


class TestBadUsage:
    def refused(self, result: Any, *words: str) -> None:
        assert result.exit_code == 2
        told = lines(result.stderr)
        assert len(told) == 1, told
        assert all(word in told[0] for word in words), told

    def test_a_missing_input(self, cli: Any, tmp_path: Path) -> None:
        self.refused(cli.segment(tmp_path / "out", tmp_path / "gone.png"), "gone.png", "no such file")
        assert not (tmp_path / "out").exists()

    def test_no_input(self, cli: Any, tmp_path: Path) -> None:
        self.refused(cli.segment(tmp_path / "out"), "no scan was given")

    def test_a_folder_without_scans(self, cli: Any, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        self.refused(cli.segment(tmp_path / "out", tmp_path / "empty"), "no scan in this folder")

    @pytest.mark.parametrize("phrase", ["", "   ", "..."])
    def test_an_empty_phrase(self, cli: Any, scans: Path, tmp_path: Path, phrase: str) -> None:
        self.refused(cli.segment(tmp_path / "out", scans, text=(phrase,)), "phrase")

    def test_no_phrase(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        self.refused(cli.segment(tmp_path / "out", scans, text=()), "no phrase")

    @pytest.mark.parametrize(
        ("option", "value", "told"),
        [
            ("--preset", "nonesuch", "nonesuch"),
            ("--preset", "gone.yaml", "gone.yaml"),
            ("--device", "abacus", "abacus"),
            ("--set", "saliency", "section.key=value"),
            ("--set", "nonesuch.key=1", "nonesuch"),
            ("--manifest", "gone.csv", "gone.csv"),
        ],
    )
    def test_an_unknown_name(self, cli: Any, scans: Path, tmp_path: Path, option: str, value: str, told: str) -> None:
        self.refused(cli.segment(tmp_path / "out", scans, option, value), told)

    @pytest.mark.parametrize("option", ["--encoder", "--segmenter"])
    def test_an_unknown_model(
        self, scans: Path, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch, option: str
    ) -> None:
        monkeypatch.undo()  # the real `load`
        other = "--segmenter" if option == "--encoder" else "--encoder"
        result = cli.segment(tmp_path / "out", scans, option, "no such model", other, "neither this one")
        self.refused(result, "expected bundled")
        assert not (tmp_path / "out" / "results.csv").exists()

    def test_a_manifest_without_a_column(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        (scans / "m.csv").write_text("id,file\na,a.png\n")
        self.refused(cli.segment(tmp_path / "out", "--manifest", scans / "m.csv"), "column image is missing")

    def test_out_is_a_file(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        result = cli.segment(tmp_path / "out", scans)
        assert result.exit_code == 2
        assert "it is a file; expected a folder" in result.stderr and len(lines(result.stderr)) == 1
        assert (tmp_path / "out").read_text() == "mine"

    def test_out_cannot_be_made(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        result = cli.segment(tmp_path / "file" / "out", scans)
        assert result.exit_code == 1
        assert "cannot be written" in lines(result.stderr)[0]

    def test_resuming_with_another_phrase(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        assert cli.segment(tmp_path / "out", scans).exit_code == 0
        self.refused(cli.segment(tmp_path / "out", scans, "--resume", text=("lung",)), "other phrases")


class TestManifest:
    def test_bad_rows_fail_and_good_ones_are_done(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        (scans / "m.csv").write_text("id,image\np1,a.png\np2,/etc/passwd\np3,../c.png\np4,gone.png\n")
        result = cli.segment(tmp_path / "out", "--manifest", scans / "m.csv")
        assert result.exit_code == 1
        assert [(row["id"], row["status"]) for row in rows(tmp_path / "out")] == [
            ("p1", "ok"), ("p2", "failed"), ("p3", "failed"), ("p4", "failed"),
        ]  # fmt: skip
        assert "absolute path" in rows(tmp_path / "out")[1]["error"]
        assert (tmp_path / "out" / "p1_mask.png").exists()


class TestOutputs:
    def test_a_volume_gives_nifti_on_its_own_grid(self, cli: Any, tmp_path: Path) -> None:
        affine = np.array([[-2.0, 0, 0, 5], [0, 0.5, 0.1, 7], [0, -0.1, 3.0, 9], [0, 0, 0, 1]])
        voxels = np.random.default_rng(0).integers(0, 999, (8, 9, 5)).astype(np.int16)
        nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "v.nii.gz")
        assert cli.segment(tmp_path / "out", tmp_path / "v.nii.gz").exit_code == 0
        mask = nib.load(tmp_path / "out" / "v_mask.nii.gz")
        np.testing.assert_array_equal(mask.affine, nib.load(tmp_path / "v.nii.gz").affine)
        assert mask.shape == voxels.shape

    def test_two_phrases_give_a_label_map(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        assert cli.segment(tmp_path / "out", scans / "a.png", text=("unseen lung", "tumor")).exit_code == 0
        labels = np.asarray(Image.open(tmp_path / "out" / "a_labels.png"))
        assert set(np.unique(labels)) == {0, 2}

    def test_two_runs_give_the_same_masks(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            assert cli.segment(tmp_path / name, scans).exit_code == 0
        one, two = (
            {mask.name: mask.read_bytes() for mask in (tmp_path / name).glob("*.png")} for name in ("one", "two")
        )
        assert sorted(one) == ["a_mask.png", "b_mask.png", "c_mask.png"]
        assert one == two

    def test_quiet_says_nothing(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")

    def test_the_threshold_and_settings_reach_the_preset(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        import json

        cli.segment(tmp_path / "out", scans, "--threshold", "0.25", "--set", "saliency.shifts=4")
        preset = json.loads((tmp_path / "out" / "run.json").read_text())["preset"]
        assert preset["presence"]["threshold"] == 0.25
        assert preset["saliency"]["shifts"] == 4

    @pytest.mark.parametrize("option", ["--threshold", "--encoder", "--segmenter"])
    def test_an_empty_option_is_not_left_out(self, cli: Any, scans: Path, tmp_path: Path, option: str) -> None:
        """As a shell gives it whose variable is not set."""
        result = cli.segment(tmp_path / "out", scans, option, "")
        assert (result.exit_code, f"{option} is empty" in result.stderr) == (2, True)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("threshold", ["auto", "auto:sensitivity=0.95", "high"])
    @pytest.mark.parametrize(
        ("preset", "told"),
        [
            (
                ["sam3"],
                "the preset 'sam3' takes 0 to 1 alone: it has no encoder that carries a record of scans that were kept "
                "back; give a number, or use the preset demo with its own encoder",
            ),
            # What a preset names and its pipeline never asks has nothing to say of it.
            (["sam3", "--encoder", "bundled"], "the preset 'sam3' takes 0 to 1 alone: it has no encoder"),
            (["sam-box"], "the preset 'sam-box' takes none, since it weighs no presence; leave the threshold out"),
            (["sam-unprompted"], "the preset 'sam-unprompted' takes none, since it weighs no presence"),
            (["salip"], "the preset 'salip' takes 0 to 1 alone: its encoder 'ViT-L-14:openai' carries no record"),
            (
                ["demo", "--encoder", "org/clip"],
                "the preset 'demo' takes 0 to 1 alone: its encoder 'org/clip' carries no record",
            ),
        ],
        ids=["sam3", "sam3-bundled", "sam-box", "sam-unprompted", "salip", "demo-other"],
    )
    def test_a_preset_that_knows_no_threshold_itself_says_what_it_takes(
        self, cli: Any, scans: Path, tmp_path: Path, threshold: str, preset: list[str], told: str
    ) -> None:
        result = cli.segment(tmp_path / "out", scans, "--preset", *preset, "--threshold", threshold)
        assert result.exit_code == 2
        (line,) = lines(result.stderr)
        assert line.startswith(f"threshold is {threshold!r}; the preset ") and told in line
        assert not (tmp_path / "out").exists()

    def test_of_the_bundled_encoder_a_share_must_be_named(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, "--threshold", "auto")
        assert result.exit_code == 2
        (line,) = lines(result.stderr)
        assert "threshold is 'auto'; expected 0 to 1, auto:sensitivity=X or auto:specificity=X" in line

    def test_presence_that_is_no_section_is_one_line(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        result = cli.segment(tmp_path / "out", scans, "--set", "presence=3")
        assert result.exit_code == 2
        assert lines(result.stderr) == ["presence is 3; expected settings, such as presence: {key: value}"]


class TestEnds:
    def test_ctrl_c_says_how_to_continue(
        self, cli: Any, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("lexiseg.pipelines.loading.load", stop)
        result = cli.segment(tmp_path / "out", scans)
        assert result.exit_code == 130
        assert "--resume continues" in result.stderr

    def test_a_fault_of_ours_is_one_line(
        self, cli: Any, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.pipelines.loading.load", lambda *_, **__: 1 / 0)
        result = cli.segment(tmp_path / "out", scans)
        assert result.exit_code == 1
        assert len(lines(result.stderr)) == 1
        assert "internal error: ZeroDivisionError" in result.stderr

    def test_a_killed_run_is_completed_by_resume(self, cli: Any, scans: Path, tmp_path: Path) -> None:
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        slow = (
            "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
            "import lexiseg.pipelines.loading\n"
            "from fake_pipeline import FakePipeline\n"
            "from lexiseg.cli.main import run\n"
            "lexiseg.pipelines.loading.load = lambda preset, **_: FakePipeline(preset, pause=0.5)\n"
            "run()\n"
        )
        command = ["segment", scans, "--text", "breast tumor", "--out", killed]
        process = subprocess.Popen([sys.executable, "-c", slow, HELPERS, *command], env=os.environ.copy())
        deadline = time.monotonic() + 120
        while not (killed / "a_mask.png").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "c_mask.png").exists()
        assert cli.segment(whole, scans).exit_code == 0
        assert cli.segment(killed, scans, "--resume").exit_code == 0
        same = [name for name in rows(whole)[0] if name != "seconds"]
        assert [[row[n] for n in same] for row in rows(killed)] == [[row[n] for n in same] for row in rows(whole)]
        assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}
        for mask in whole.glob("*.png"):
            assert mask.read_bytes() == (killed / mask.name).read_bytes()
