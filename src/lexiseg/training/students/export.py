"""A student as one file for other programs: torch's own exported program, or ONNX by torch's exporter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable
from lexiseg.models.loading import load_encoder
from lexiseg.pipelines.preset import load_preset
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.training.students.config import read_config
from lexiseg.training.students.folder import read_student
from lexiseg.training.students.frame import normalise
from lexiseg.training.students.settings import UNET
from lexiseg.training.students.towers import PhraseTowers

SUFFIXES = (".pt2", ".onnx")


class UNetProgram(nn.Module):
    """A U-Net student's square to the probabilities of its classes, background first, the mean of its networks."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (1, C, S, S) in [0, 1] to probabilities (1, K + 1, S, S)."""
        image = normalise(pixels)
        return torch.stack([network(image).softmax(1) for network in self.networks]).mean(0)


class TowersProgram(nn.Module):
    """A tuned encoder's square to the probability of each target at each position; no segmenter draws it."""

    def __init__(self, towers: PhraseTowers, *, mean: float, deviation: float) -> None:
        super().__init__()
        self.towers, self.middle, self.deviation = towers, mean, deviation

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (1, 3, S, S) in [0, 1] to probabilities (1, K, S / 8, S / 8)."""
        maps, _ = self.towers((pixels - self.middle) / self.deviation)
        return self.towers.mean(maps).sigmoid()


def program_of(folder: Path) -> tuple[nn.Module, Tensor]:
    """A student as a module of one argument, and an example of that.

    Raises:
        UnknownModel, BrokenWeights: the folder is no student's, or damaged.
    """
    config = read_config(folder)
    if config.network == UNET:
        _, networks = read_student(folder)
        return UNetProgram(networks).eval(), torch.rand(1, config.channels, config.size, config.size)
    encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
    program = towers_program(encoder, config.names, ensemble=load_preset(folder)["phrases"].ensemble)
    return program, torch.rand(1, 3, config.size, config.size)


def towers_program(encoder: Any, names: Sequence[str], *, ensemble: bool) -> TowersProgram:
    """A tuned encoder with its targets' phrases as a module; `encoder` has float32 weights on the CPU."""
    phrases = embed_phrases(encoder, [phrase_set(name, ensemble=ensemble) for name in names])
    positive = torch.stack([each.positive for each in phrases])
    # With whole towers: lean copies hold weights as one kind of CPU packs them, which no file can.
    towers = PhraseTowers(encoder, positive, lines=[each.calibration[:2] for each in phrases], part="pyramids")
    return TowersProgram(towers, mean=float(encoder.mean.mean()), deviation=float(encoder.deviation.mean())).eval()


def export_student(folder: Path, out: Path) -> Path:
    """Write a student as one file.

    What goes in is the scan letterboxed into the student's square, in [0, 1]; what comes out says `UNetProgram` and
    `TowersProgram`.

    Args:
        folder: as `lexiseg train` wrote it.
        out: a file that ends in .pt2 (`torch.export`) or .onnx (`torch.onnx`, which needs onnx and onnxscript).

    Raises:
        UsageError: another ending, or what ONNX needs is not installed.
        UnknownModel, BrokenWeights: the folder is no student's, or damaged.
        UnwritableResult: the file system refused.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {printable(str(out))}: expected a file that ends in {' or '.join(SUFFIXES)}")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if out.suffix == ".onnx" and missing:
        raise UsageError(f"ONNX needs {' and '.join(missing)}: pip install onnx onnxscript, or write a .pt2 file")
    program, example = program_of(folder)
    with torch.no_grad():
        program(example)  # TinyViT keeps tables from its first forward: one that is traced would keep tracers
        exported = torch.export.export(program, (example,))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableResult(f"{out.parent}: it cannot be made ({error.strerror})") from error
    if out.suffix == ".pt2":
        return atomic_write(out, lambda file: torch.export.save(exported, file))
    written: Any = torch.onnx.export(exported, (example,), input_names=["pixels"], output_names=["probabilities"])
    return atomic_write(out, lambda file: file.write(written.model_proto.SerializeToString()))
