"""Write MobileSAM's published weights as the bundled folder: ``python -m recipe.mobile_sam mobile_sam.pt --out DIR``.

Nothing is trained.  Large arrays become int8 with a scale for each output channel, those of the
first layers and of the steps between the stages fp16; the others stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file
from torch import nn

from lexiseg.files import sha256_of
from lexiseg.models.segmenters.mobile_sam import PUBLISHED_SHA256, mobile_sam_config, rename_mobile_sam
from lexiseg.models.segmenters.sam_checkpoint import read_checkpoint
from lexiseg.models.segmenters.sam_folder import build_sam, default_processor
from lexiseg.models.weights.int8 import SCALE, pack
from lexiseg.models.weights.records import write_record

LICENCE = "Apache-2.0"
REVISION = "mobile_sam.pt"
_MANY = 4_000
"""Arrays of so many numbers are kept in 8 bits."""
_HALF = (".patch_embed.", ".stages.0.", ".downsample.")
"""Of these, in 16: a twentieth of the weights, which in 8 bits would make half of the embedding's error."""


def export_mobile_sam(model: Any, folder: Path) -> None:
    """A `TowerSam`'s folder: config.json, model.safetensors, processor_config.json, and its record.

    The folder keeps what lies there besides (licence and notice), which is recorded too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(packed(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    processor = {"image_processor": default_processor(model.config.vision_config.image_size).to_dict()}
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    write_record(folder, revision=REVISION, licence=LICENCE)


def packed(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state with large arrays in 8 bits; each array is stored once, under the name that SAM reads."""
    parameters = dict(model.named_parameters())
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name.startswith("prompt_encoder.shared_embedding."):
            continue
        weight = parameters.get(name)
        large = weight is not None and weight.ndim > 1 and weight.numel() >= _MANY
        if large and any(part in name for part in _HALF):
            state[name] = value.detach().cpu().half().contiguous()
        elif large:
            state[name], state[name + SCALE] = pack(value.cpu())
        else:
            state[name] = value.detach().cpu().contiguous().clone()
    return state


def main(
    checkpoint: Annotated[Path, typer.Argument(help="mobile_sam.pt as published.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """Read the published file, check that it is that one, and write the folder."""
    found = sha256_of(checkpoint)
    if found != PUBLISHED_SHA256:
        raise typer.BadParameter(f"{checkpoint} has sha256 {found}, expected {PUBLISHED_SHA256}")
    state = read_checkpoint(checkpoint)
    export_mobile_sam(build_sam(mobile_sam_config(state), rename_mobile_sam(state), source=checkpoint), out)


if __name__ == "__main__":
    typer.run(main)
