"""A segmenter between two: ``python -m recipe.between START END --share 0.5 --out DIR``.

`recipe.train next_segmenter` goes on from an older segmenter, and gains on new kinds of scan what it loses a part of on
the old ones.  The mean of both networks' weights keeps most of both (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022), since one began as the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from lexiseg.models.segmenters.sam_folder import TowerSam
from recipe.export import export_segmenter
from recipe.train import CONFIG


def between(start: Any, end: Any, share: float) -> dict[str, torch.Tensor]:
    """The weights of two networks of one architecture, a `share` of the second's; whole numbers are the second's.

    Raises:
        ValueError: they are of different architectures.
    """
    first, second = start.state_dict(), end.state_dict()
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise ValueError("the segmenters are of different architectures; expected one that began as the other")
    return {
        name: torch.lerp(first[name].float(), value.float(), share) if value.is_floating_point() else value
        for name, value in second.items()
    }


def main(
    start: Annotated[Path, typer.Argument(help="folder of the segmenter that it began as")],
    end: Annotated[Path, typer.Argument(help="folder of what `recipe.train next_segmenter` made of it")],
    *,
    out: Annotated[Path, typer.Option(help="folder for the segmenter between them")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of the second one")] = 0.5,
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
) -> None:
    """Write the segmenter whose weights lie between those of two."""
    first, model = (TowerSam.from_pretrained(folder).float() for folder in (start, end))
    model.load_state_dict(between(first, model, share))
    export_segmenter(model, yaml.safe_load(config.read_text())["next_segmenter"], out)


if __name__ == "__main__":
    typer.run(main)
