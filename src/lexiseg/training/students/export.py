"""A student as one file for other programs: torch's own exported program, or ONNX by torch's exporter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable
from lexiseg.models.fpn import STRIDE
from lexiseg.models.loading import load_encoder
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.training.students.config import Mirror, StudentConfig, read_config
from lexiseg.training.students.folder import read_student
from lexiseg.training.students.frame import normalise
from lexiseg.training.students.settings import UNET
from lexiseg.training.students.towers import PhraseTowers
from lexiseg.training.students.towers_data import Look, look_of

SUFFIXES = (".pt2", ".onnx")
DESCRIPTION = "lexiseg.json"
"""The extra file of a .pt2 file, see `description_of`."""


class UNetProgram(nn.Module):
    """A U-Net student's square to the probabilities of its classes, background first.

    The mean of its networks, and of the square and its mirror image where `predict` looks at both.
    """

    def __init__(self, networks: list[nn.Module], *, mirror: Mirror = "no") -> None:
        super().__init__()
        self.networks, self.mirror = nn.ModuleList(networks), mirror

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (1, C, S, S) in [0, 1], below 0 outside the scan, to probabilities (1, K + 1, S, S)."""
        image = normalise(pixels.clamp_min(0))
        networks = list(self.networks)
        if self.mirror == "no":
            return _mean(networks, image)
        turned = _mean(networks[1::2] if self.mirror == "turns" else networks, image.flip(-1)).flip(-1)
        plain = _mean(networks[::2] if self.mirror == "turns" else networks, image)
        return (plain + turned) / 2


def _mean(networks: Sequence[nn.Module], image: Tensor) -> Tensor:
    return torch.stack([network(image).softmax(1) for network in networks]).mean(0)


class TowersProgram(nn.Module):
    """A tuned encoder's square to the probability of each target at each position; no segmenter draws it.

    Grey levels are changed as the student sees them, by `look` and `percentile`, and `look.fill` surrounds the scan.
    """

    def __init__(self, towers: PhraseTowers, look: Look) -> None:
        super().__init__()
        self.towers, self.look = towers, look

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (1, 3, S, S) in [0, 1], below 0 outside the scan, to probabilities (1, K, S / 8, S / 8)."""
        inside = (pixels >= 0).all(1, keepdim=True)
        seen = pixels.clamp(0, 1)
        levels = self.look.levels
        if levels.invert:
            seen = 1 - seen
        if levels.gamma != 1:
            seen = seen**levels.gamma
        seen = _clip_bright(seen, inside.expand_as(seen), self.look.percentile)
        maps, _ = self.towers((torch.where(inside, seen, self.look.fill) - self.look.fill) / self.look.deviation)
        return self.towers.mean(maps).sigmoid()


def _clip_bright(pixels: Tensor, inside: Tensor, percentile: float) -> Tensor:
    """See `clip_bright`, of what lies inside; counted without a loop, as an exported program has to."""
    if percentile == 100:
        return pixels
    darkest = torch.where(inside, pixels, 1.0).min()
    shown = inside & (pixels > darkest + 0.02)
    ordered = torch.where(shown, pixels, -1.0).flatten().sort().values
    count = shown.sum()
    rank = (ordered.numel() - count) + percentile / 100 * (count - 1).clamp_min(0)
    low = rank.floor()
    ends = torch.stack([low, low + 1]).long().clamp(0, ordered.numel() - 1)
    one, other = ordered.index_select(0, ends).unbind()
    bright = torch.where(count > 0, one + (rank - low) * (other - one), 1.0)
    return (pixels / bright).clamp_max(1)


def program_of(folder: Path) -> tuple[nn.Module, Tensor]:
    """A student as a module of one argument, and an example of that.

    Raises:
        UsageError: the student sees sharpened scans.
        UnknownModel, BrokenWeights: the folder is no student's, or damaged.
    """
    config = read_config(folder)
    if config.network == UNET:
        _, networks = read_student(folder)
        return UNetProgram(networks, mirror=config.mirror()).eval(), torch.rand(
            1, config.channels, config.size, config.size
        )
    preset = load_preset(folder)
    if preset.reads("look") and preset["look"].sharpen:
        raise UsageError(
            f"{printable(str(folder))}: it sees sharpened scans (look.sharpen is {preset['look'].sharpen:g}), which no "
            "exported program makes; use `lexiseg predict`, or train on scans that were sharpened before, --tune fixed"
        )
    encoder: Any = load_encoder(str(folder), device="cpu", precision="float32")
    program = towers_program(encoder, config.names, preset)
    return program, torch.rand(1, 3, config.size, config.size)


def towers_program(encoder: Any, names: Sequence[str], preset: Preset) -> TowersProgram:
    """A tuned encoder with its targets' phrases as a module; `encoder` has float32 weights on the CPU."""
    phrases = embed_phrases(encoder, [phrase_set(name, ensemble=preset["phrases"].ensemble) for name in names])
    positive = torch.stack([each.positive for each in phrases])
    # With whole towers: lean copies hold weights as one kind of CPU packs them, which no file can.
    towers = PhraseTowers(encoder, positive, lines=[each.calibration[:2] for each in phrases], part="pyramids")
    return TowersProgram(towers, look_of(encoder, preset)).eval()


def description_of(config: StudentConfig) -> dict[str, Any]:
    """What another program has to know of a student's file, as plain values; it lies in the file too."""
    whole = "a scan" if config.extent == config.size else f"windows of a scan of {config.extent} pixels,"
    known = {
        "targets": list(config.names),
        "network": config.network,
        "size": config.size,
        "channels": config.channels,
        "input": f"{whole} letterboxed into {config.size} x {config.size}, 0 to 1, and -1 outside it",
        "lexiseg": config.lexiseg,
    }
    if config.network == UNET:
        output = "probabilities of background and targets, of each pixel"
        return {**known, "output": output, "extent": config.extent, "mirror": config.mirror()}
    return {**known, "output": f"probabilities of targets, of each {STRIDE} x {STRIDE} pixels"}


def export_student(folder: Path, out: Path) -> Path:
    """Write a student as one file.

    What goes in is the scan letterboxed into the student's square, in [0, 1], and -1 outside it; what comes out says
    `UNetProgram` and `TowersProgram`. `description_of` lies in the file: as `DESCRIPTION` beside a .pt2 file's program,
    as the property "lexiseg" of an ONNX model.

    Args:
        folder: as `lexiseg train` wrote it.
        out: a file that ends in .pt2 (`torch.export`) or .onnx (`torch.onnx`, which needs onnx and onnxscript).

    Raises:
        UsageError: another ending, what ONNX needs is not installed, or the student sees sharpened scans.
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
    told = json.dumps(description_of(read_config(folder)), indent=2, ensure_ascii=False)
    if out.suffix == ".pt2":
        return atomic_write(out, lambda file: torch.export.save(exported, file, extra_files={DESCRIPTION: told}))
    written: Any = torch.onnx.export(exported, (example,), input_names=["pixels"], output_names=["probabilities"])
    model = written.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "lexiseg", told
    return atomic_write(out, lambda file: file.write(model.SerializeToString()))
