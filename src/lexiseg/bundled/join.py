"""Put two trained encoders into one: ``python -m lexiseg.bundled.join FIRST SECOND --out DIR``.

The image towers stay as they are, side by side (`lexiseg.models.pyramid.PairedTower`).  Of the text towers,
most of an encoder's bytes, the first is kept: both learnt the same words before they saw an image, and a
linear map of what the first makes of a phrase says what the second makes of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import open_clip
import torch
import typer
import yaml
from torch import Tensor
from torch.nn import functional

from lexiseg.bundled.recipe.encoder import open_clip_config
from lexiseg.bundled.recipe.export import export_encoder
from lexiseg.bundled.recipe.words import draw_phrases
from lexiseg.bundled.train import CONFIG
from lexiseg.models import load_encoder

OTHERS = 1000
"""Phrases that the second text tower's imitation is measured on, less those it was fitted to."""


def projection_of(first: Any, second: Any, tokens: Tensor) -> Tensor:
    r"""The first text tower's projection to the second's embeddings, by least squares.

    With :math:`f` the first tower's features of a phrase and :math:`t_1 = f^\top P_1`, :math:`t_2` the
    embeddings, it is the matrix :math:`P` that brings :math:`f^\top P` nearest to
    :math:`t_2\, |t_1| / |t_2|`: of the first's length, so that both halves weigh the same for each phrase.

    Args:
        first: an open_clip CLIP.
        second: another that reads the same tokens.
        tokens: int64 (N, L), of the phrases that it is fitted to.

    Returns:
        float32 (width of the first text tower, embedding of the second).
    """
    own = first.text_projection.data
    one, two = (_embed(model, tokens) for model in (first, second))
    wanted = functional.normalize(two, dim=1) * one.norm(dim=1, keepdim=True)
    first.text_projection.data = torch.eye(len(own))
    features = _embed(first, tokens)
    first.text_projection.data = own
    return torch.as_tensor(torch.linalg.lstsq(features, wanted).solution)


def _embed(model: Any, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model.encode_text(part) for part in torch.split(tokens, 256)]).clone()


def join(first: Any, second: Any, joined: Any, tokens: Tensor, *, share: float) -> None:
    """Fill `joined`, an open_clip CLIP with a paired image tower, with two others' weights.

    Args:
        first: gives the text tower and the first image tower.
        second: gives the second image tower; its phrases are read by the first's text tower.
        joined: built for both, its embedding as long as both together.
        tokens: int64 (N, L), of the phrases that the second's text tower is imitated on.
        share: of the first in what both say together, 0 to 1.

    Raises:
        ValueError: an image tower is not the one that `joined` has in its place.
    """
    one, two = (model.logit_scale.exp() for model in (first, second))
    scale = share * one + (1 - share) * two
    # w cos weighs both alike, but each had a scale of its own: their log-odds weigh in proportion.
    w = share * one / scale
    state = {k: v for k, v in first.state_dict().items() if not k.startswith(("visual.", "logit_"))}
    state["logit_scale"] = scale.log()
    state["logit_bias"] = share * first.logit_bias + (1 - share) * second.logit_bias
    state["visual.trunk.share"] = w
    state["text_projection"] = torch.cat(
        [w.sqrt() * first.text_projection, (1 - w).sqrt() * projection_of(first, second, tokens)], 1
    )
    for name, model in (("first", first), ("second", second)):
        tower = model.visual.trunk.state_dict()
        if _shapes(tower) != _shapes(joined.visual.trunk.get_submodule(name).state_dict()):
            raise ValueError(f"the {name} encoder has another image tower than the joined one expects there")
        state |= {f"visual.trunk.{name}.{k}": v for k, v in tower.items()}
    joined.load_state_dict(state)


def imitation(second: Any, joined: Any, tokens: Tensor) -> Tensor:
    """How near the joined encoder's second half of each phrase is to what the second encoder makes of it.

    Args:
        second: as for `join`.
        joined: filled by `join`.
        tokens: int64 (N, L), of phrases that it was not fitted to.

    Returns:
        Cosines, float32 (N,).
    """
    wanted = _embed(second, tokens)
    return functional.cosine_similarity(_embed(joined, tokens)[:, -wanted.shape[1] :], wanted)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: array.shape for name, array in state.items()}


def main(
    first: Annotated[Path, typer.Argument(help="folder of the encoder whose text tower is kept")],
    second: Annotated[Path, typer.Argument(help="folder of another, trained with the same words")],
    *,
    out: Annotated[Path, typer.Option(help="folder for the joined encoder")],
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
) -> None:
    """Put two trained encoders side by side and export them as one."""
    recipe = yaml.safe_load(config.read_text())
    settings = {**recipe["encoder"], **recipe["joined"]}
    one, two = (cast(Any, load_encoder(str(f), device="cpu", precision="float32")) for f in (first, second))
    chance = random.Random(recipe["seed"])
    phrases, drawn = (draw_phrases(count, chance)[0] for count in (settings["phrases"], OTHERS))
    others = sorted({*drawn} - {*phrases})
    joined = open_clip.CLIP(**open_clip_config(settings)["model_cfg"])
    join(one.model, two.model, joined, one.tokenizer(phrases), share=settings["share"])
    export_encoder(joined, settings, out)
    cosines = imitation(two.model, joined, one.tokenizer(others))
    typer.echo(
        f"text of the second half: cosine {cosines.mean():.4f} to the second encoder's on {len(cosines)} "
        f"other phrases, lowest {cosines.min():.4f}"
    )


if __name__ == "__main__":
    typer.run(main)
