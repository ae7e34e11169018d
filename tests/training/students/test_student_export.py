"""A student as one file: what other programs compute is what it computes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discs import disc

from lexiseg.errors import UsageError
from lexiseg.pipelines.look import LookSettings
from lexiseg.pipelines.preset import load_preset
from lexiseg.saliency.base import clip_bright
from lexiseg.saliency.framing import frame_scan
from lexiseg.training.students import export
from lexiseg.training.students.config import read_config
from lexiseg.training.students.export import DESCRIPTION, TowersProgram, UNetProgram, export_student, program_of
from lexiseg.training.students.frame import Frame
from lexiseg.training.students.student import Student, load_student
from lexiseg.training.students.towers_data import Look


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_student(trained, tmp_path_factory.mktemp("exported") / "student.pt2")


class TestUNet:
    def test_the_file_answers_as_the_student(self, trained: Path, exported: Path) -> None:
        program = torch.export.load(exported).module()
        grey, _ = disc(50)
        pixels = grey.astype(np.float32) / 255
        frame = Frame(*pixels.shape, 32)
        with torch.inference_mode():
            found = program(frame.put(pixels, channels=1)[None])
        student = load_student(trained, device="cpu", precision="float32")
        # predict() on the scan's own grid differs by interpolation alone.
        taken = frame.take(found[0])
        expected = student.predict(pixels).probabilities
        np.testing.assert_allclose(np.asarray(taken / taken.sum(0)), expected, atol=1e-5)
        assert np.abs(expected - student.predict(pixels, flips=False).probabilities).max() > 0.01

    @pytest.mark.parametrize(("members", "mirror"), [(1, "both"), (3, "turns"), (2, "no")])
    def test_it_is_mirrored_as_predict_does(self, trained: Path, members: int, mirror: Any) -> None:
        student = load_student(trained, device="cpu", precision="float32")
        networks = [torch.nn.Conv2d(1, 2, 3, padding=1) for _ in range(members)]
        config = replace(student.config, members=members, flips=mirror != "no")
        own = Student(config, list(networks), student.weights, device=torch.device("cpu"), dtype=torch.float32)
        pixels = np.random.default_rng(0).random((32, 32), np.float32)
        with torch.inference_mode():
            found = UNetProgram(list(networks), mirror=mirror)(torch.from_numpy(pixels)[None, None])
            np.testing.assert_allclose(found[0], own.predict(pixels).probabilities, atol=1e-6)

    def test_the_file_says_what_it_takes_and_gives(self, exported: Path) -> None:
        extra = {DESCRIPTION: ""}
        torch.export.load(exported, extra_files=extra)
        known = json.loads(extra[DESCRIPTION])
        assert (known["targets"], known["size"], known["mirror"]) == (["disc"], 32, "both")
        assert known["input"] == "a scan letterboxed into 32 x 32, 0 to 1, and -1 outside it"

    def test_an_ending_that_is_none(self, trained: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"expected a file that ends in \.pt2 or \.onnx"):
            export_student(trained, tmp_path / "student.bin")

    @pytest.mark.skipif(find_spec("onnx") is not None and find_spec("onnxscript") is not None, reason="both are here")
    def test_onnx_says_what_it_needs(self, trained: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="pip install onnx onnxscript"):
            export_student(trained, tmp_path / "student.onnx")

    def test_onnx_computes_the_same(self, trained: Path, tmp_path: Path) -> None:
        for name in ("onnx", "onnxscript"):
            pytest.importorskip(name, reason="ONNX is not installed")
        onnx: Any = pytest.importorskip("onnx.reference", reason="ONNX is not installed")
        program, example = program_of(trained)
        path = export_student(trained, tmp_path / "student.onnx")
        found = onnx.ReferenceEvaluator(str(path)).run(None, {"pixels": example.numpy()})[0]
        with torch.inference_mode():
            np.testing.assert_allclose(found, program(example).numpy(), atol=1e-4)
        known = {each.key: json.loads(each.value) for each in pytest.importorskip("onnx").load(path).metadata_props}
        assert known["lexiseg"]["targets"] == ["disc"]


LOOK = Look(size=8, grid=1, fill=0.25, deviation=0.5, percentile=100)


class Towers(torch.nn.Module):
    """In the shape of `PhraseTowers`: two towers that say what they see."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([images[:, :1], 3 * images[:, :1]]), images.mean((2, 3))[None]

    def mean(self, answers: torch.Tensor) -> torch.Tensor:
        return answers.mean(0)


class TestTowers:
    def test_a_module_of_the_towers_can_be_exported(self) -> None:
        program: Any = TowersProgram(Towers(), LOOK)  # type: ignore[arg-type]
        pixels = torch.rand(1, 3, 8, 8)
        exported = torch.export.export(program.eval(), (pixels,)).module()
        torch.testing.assert_close(exported(pixels), (2 * (pixels[:, :1] - 0.25) / 0.5).sigmoid())

    @pytest.mark.parametrize(("invert", "gamma", "percentile"), [(True, 1.0, 100), (False, 2.0, 99), (True, 0.5, 90)])
    def test_a_scan_is_seen_as_the_student_sees_it(self, invert: bool, gamma: float, percentile: float) -> None:
        levels = LookSettings(invert=invert, gamma=gamma)
        own = replace(LOOK, size=64, levels=levels, percentile=percentile)
        scan = np.random.default_rng(0).random((48, 64), np.float32) ** 2
        frame = frame_scan(scan.shape, size=64, fill=(own.fill,) * 3)[0]
        expected = frame.apply(clip_bright(levels.apply(scan), percentile))
        outside = frame_scan(scan.shape, size=64, fill=(-1.0,) * 3)[0]
        program: Any = TowersProgram(Towers(), own)  # type: ignore[arg-type]
        given = outside.apply(scan)
        for found in (program(given), torch.export.export(program.eval(), (given,)).module()(given)):
            # A percentile of three equal channels lies a little elsewhere than that of one.
            torch.testing.assert_close(found, (2 * (expected[:, :1] - 0.25) / 0.5).sigmoid(), atol=1e-3, rtol=0)

    def test_a_black_scan_has_nothing_to_clip(self) -> None:
        program: Any = TowersProgram(Towers(), replace(LOOK, percentile=99))  # type: ignore[arg-type]
        found = program(torch.zeros(1, 3, 8, 8))
        torch.testing.assert_close(found, torch.full((1, 1, 8, 8), -1.0).sigmoid())

    def test_sharpened_scans_are_refused(self, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sharp = load_preset("demo", look={"sharpen": 4.0})
        monkeypatch.setattr(export, "load_preset", lambda folder: sharp)
        monkeypatch.setattr(export, "read_config", lambda folder: replace(read_config(trained), network="towers"))
        with pytest.raises(UsageError, match=r"it sees sharpened scans \(look\.sharpen is 4\)"):
            program_of(trained)
