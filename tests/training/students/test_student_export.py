"""A student as one file: what other programs compute is what it computes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discs import disc

from lexiseg.errors import UsageError
from lexiseg.training.students.export import TowersProgram, export_student, program_of
from lexiseg.training.students.frame import Frame
from lexiseg.training.students.student import load_student


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
        # Each network sees the scan as it is; predict() on the scan's own grid differs by interpolation alone.
        taken = frame.take(found[0])
        expected = student.predict(pixels, flips=False).probabilities
        np.testing.assert_allclose(np.asarray(taken / taken.sum(0)), expected, atol=1e-5)

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


class TestTowers:
    def test_a_module_of_the_towers_can_be_exported(self) -> None:
        class Towers(torch.nn.Module):
            """In the shape of `PhraseTowers`: two towers that say what they see."""

            def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return torch.stack([images[:, :1], 3 * images[:, :1]]), images.mean((2, 3))[None]

            def mean(self, answers: torch.Tensor) -> torch.Tensor:
                return answers.mean(0)

        program: Any = TowersProgram(Towers(), mean=0.25, deviation=0.5)  # type: ignore[arg-type]
        pixels = torch.rand(1, 3, 8, 8)
        exported = torch.export.export(program.eval(), (pixels,)).module()
        torch.testing.assert_close(exported(pixels), (2 * (pixels[:, :1] - 0.25) / 0.5).sigmoid())
