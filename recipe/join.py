"""Put trained encoders into one: ``python -m recipe.join FIRST SECOND THIRD --out DIR``.

The image towers stay as they are, side by side (`lexiseg.models.fpn.EnsembleTower`).  Of the text towers
the first is kept: all learnt the same words before they saw an image, and a linear map of what the first
makes of a phrase says what another makes of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import open_clip
import torch
import typer
import yaml
from torch import Tensor
from torch.nn import functional

from lexiseg.models.loading import load_encoder
from recipe.encoder import open_clip_config
from recipe.export import export_encoder
from recipe.train import CONFIG
from recipe.words import draw_phrases

OTHERS = 1000
"""Phrases that the imitation of a text tower is measured on, less those it was fitted to."""


def projection_of(first: Any, second: Any, tokens: Tensor) -> Tensor:
    r"""The first text tower's projection to the second's embeddings, by least squares.

    With :math:`f` the first tower's features of a phrase and :math:`t_1 = f^\top P_1`, :math:`t_2` the
    embeddings, it is the matrix :math:`P` that brings :math:`f^\top P` nearest to
    :math:`t_2\, |t_1| / |t_2|`: of the first's length, so that both weigh the same for each phrase.

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
    first.text_projection.data = torch.eye(len(own)).to(own)
    features = _embed(first, tokens)
    first.text_projection.data = own
    return torch.as_tensor(torch.linalg.lstsq(features, wanted).solution)


def _embed(model: Any, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model.encode_text(part) for part in torch.split(tokens, 256)]).clone()


def join(encoders: Sequence[Any], joined: Any, tokens: Tensor, *, shares: Sequence[float]) -> None:
    """Fill `joined`, an open_clip CLIP with an ensemble of image towers, with others' weights.

    Args:
        encoders: open_clip CLIPs, each gives an image tower; the first's text tower reads all phrases.
        joined: built for them, its embedding as long as theirs together.
        tokens: int64 (N, L), of the phrases that the others' text towers are imitated on.
        shares: of each encoder in what they say together, in proportion: [1, 1, 2] gives the third a half.

    Raises:
        ValueError: an image tower is not the one that `joined` has in its place, or numbers of encoders,
            towers and shares differ.
    """
    first, towers = encoders[0], joined.visual.trunk.towers
    if not len(encoders) == len(towers) == len(shares):
        raise ValueError(
            f"got {len(encoders)} encoders and {len(shares)} shares, expected {len(towers)}, one per tower"
        )
    each = torch.tensor(shares, dtype=torch.float32) / sum(shares)
    scales = each * torch.stack([e.logit_scale for e in encoders]).exp()
    # w cos weighs all alike, but each had a scale of its own: their log-odds weigh in proportion.
    w = scales / scales.sum()
    projections = [first.text_projection, *(projection_of(first, e, tokens) for e in encoders[1:])]
    state = {k: v for k, v in first.state_dict().items() if not k.startswith(("visual.", "logit_"))}
    state["logit_scale"] = scales.sum().log()
    state["logit_bias"] = (each * torch.stack([e.logit_bias for e in encoders])).sum()
    state["visual.trunk.shares"] = w
    state["text_projection"] = torch.cat([n * p for n, p in zip(w.sqrt(), projections, strict=True)], 1)
    for place, (encoder, expected) in enumerate(zip(encoders, towers, strict=True)):
        tower = encoder.visual.trunk.state_dict()
        if _shapes(tower) != _shapes(expected.state_dict()):
            raise ValueError(f"encoder {place + 1} has another image tower than the joined one expects there")
        state |= {f"visual.trunk.towers.{place}.{k}": v for k, v in tower.items()}
    joined.load_state_dict(state)


def imitation(encoder: Any, joined: Any, place: int, tokens: Tensor) -> Tensor:
    """How near the joined encoder's part of each phrase is to what one of those in it makes of it.

    Args:
        encoder: as for `join`.
        joined: filled by `join`.
        place: the encoder's, from 0.
        tokens: int64 (N, L), of phrases that the imitation was not fitted to.

    Returns:
        Cosines, float32 (N,).
    """
    wanted = _embed(encoder, tokens)
    return functional.cosine_similarity(torch.split(_embed(joined, tokens), wanted.shape[1], 1)[place], wanted)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: array.shape for name, array in state.items()}


def main(
    encoders: Annotated[
        list[Path],
        typer.Argument(help="folders of encoders that learnt the same words; the first's text tower is kept"),
    ],
    *,
    out: Annotated[Path, typer.Option(help="folder for the joined encoder")],
    config: Annotated[Path, typer.Option(help="the recipe")] = CONFIG,
) -> None:
    """Put trained encoders side by side and export them as one."""
    recipe = yaml.safe_load(config.read_text())
    settings = {**recipe["encoder"], **recipe["joined"]}
    loaded = [cast(Any, load_encoder(str(f), device="cpu", precision="float32")) for f in encoders]
    models, tokenizer = [e.model for e in loaded], loaded[0].tokenizer
    chance = random.Random(recipe["seed"])
    phrases, drawn = (draw_phrases(count, chance)[0] for count in (settings["phrases"], OTHERS))
    others = tokenizer(sorted({*drawn} - {*phrases}))
    joined = open_clip.CLIP(**open_clip_config(settings)["model_cfg"])
    join(models, joined, tokenizer(phrases), shares=settings["shares"])
    export_encoder(joined, settings, out)
    for place, model in enumerate(models[1:], 1):
        cosines = imitation(model, joined, place, others)
        typer.echo(
            f"text of encoder {place + 1}: cosine {cosines.mean():.4f} to its own on {len(cosines)} "
            f"other phrases, lowest {cosines.min():.4f}"
        )


if __name__ == "__main__":
    typer.run(main)
