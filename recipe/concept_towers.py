"""Image towers with places of concepts, alone or side by side.

`recipe.train next` leaves such a tower.  An older encoder's towers are brought to the same form: what its text tower
says of a concept's name is the concept's place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from lexiseg.models.loading import load_encoder
from recipe.concepts import SYNONYMS
from recipe.export import CONCEPTS
from recipe.text import places

OWN = "visual.trunk."
ELSEWHERE_TOO = frozenset({"lungs", "left lung", "right lung", "heart", "brain", "ribs", "tumor", "skin", "fat"})
"""What kinds of scan hold that the older towers never saw: they would deny lungs in a CT, so they are not asked."""


@dataclass(frozen=True, eq=False)
class Trained:
    """An image tower and the places of its concepts.

    Attributes:
        names: of the K concepts.
        state: ``places`` (K, E), ``logit_scale`` (a logarithm), ``logit_bias`` and the tower's weights under
            ``visual.trunk.``.
        config: the open_clip configuration of its image tower.
    """

    names: list[str]
    state: dict[str, Tensor]
    config: dict[str, Any]

    @property
    def scale(self) -> float:
        """What cosines are multiplied by."""
        return float(self.state["logit_scale"].float().exp())

    @property
    def bias(self) -> float:
        """What is added to them."""
        return float(self.state["logit_bias"])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tower's own."""
        return {k.removeprefix(OWN): v for k, v in self.state.items() if k.startswith(OWN)}


def read_concepts(folder: Path) -> Trained:
    """What `recipe.train next` exported."""
    about = json.loads((folder / "concepts.json").read_text())
    return Trained(about["names"], load_file(folder / CONCEPTS), about["open_clip"])


def older_tower(number: int, names: Sequence[str], encoder_name: str = "bundled") -> Trained:
    """One of an encoder's several towers, with the places of those concepts that it was taught.

    Args:
        number: counted from 0.
        names: concepts that are of interest.
        encoder_name: "bundled", or the folder of another with an ensemble of towers.

    Raises:
        ValueError: there is no such tower.
    """
    encoder = cast(Any, load_encoder(encoder_name, device="cpu", precision="float32"))
    towers, shares = encoder.model.visual.trunk.towers, encoder.model.visual.trunk.shares.float()
    if not 0 <= number < len(towers):
        raise ValueError(f"{encoder_name} has {len(towers)} towers, so no tower {number}; counted from 0")
    known = [name for name in SYNONYMS if name in names and name not in ELSEWHERE_TOO]
    found = places(encoder, known, seed=0)
    width = len(found[known[0]]) // len(towers)
    rows = torch.stack([found[name] for name in known])[:, number * width : (number + 1) * width].float()
    state = {f"{OWN}{k}": v for k, v in towers[number].state_dict().items()}
    state["places"] = functional.normalize(rows, dim=1)
    # The ensemble's log-odds are the mean of the towers': this one's part is s sqrt(w) |row| cos.
    length = rows.norm(dim=1).mean() * shares[number].sqrt()
    state["logit_scale"] = (encoder.logit_scale * length * len(towers)).log()
    state["logit_bias"] = torch.tensor(encoder.logit_bias)
    return Trained(known, state, {})


def side_by_side(towers: Sequence[Trained], architecture: str) -> Trained:
    r"""Towers that were trained apart as one, whose log-odds are the mean of theirs.

    A concept is answered by all towers, or, where the others do not know it, by the first T' alone.  With the towers'
    scales :math:`s_i`, the ensemble's own :math:`s` and lengths :math:`\sqrt{w_i}`
    (`lexiseg.models.fpn.EnsembleTower`), a concept's unit place consists of :math:`a_i p_i`, one after the other, so
    that tower i weighs :math:`s \sqrt{w_i} a_i`, which shall be :math:`s_i` over the number of towers that answer.
    For T' towers that know everything and others that know less, with :math:`S' = \sum_{i \le T'} s_i / T'`,
    :math:`c = T' / T`, and :math:`S = \sum_{i > T'} s_i / T`, both kinds of places are of unit length for

    .. math:: s^2 = S'^2 + \frac{S^2}{1 - c^2}, \qquad w_i = \frac{S' s_i}{T' s^2}\ (i \le T'), \qquad
        w_i = \frac{s_i / T}{S} \Bigl(1 - \frac{S'^2}{s^2}\Bigr)\ (i > T').

    Args:
        towers: at least one; the first knows all concepts.  Those that know fewer come last, and all know the same.
        architecture: the ensemble's name in `lexiseg.models.fpn`, with these towers in this order.

    Raises:
        ValueError: towers know neither all of the first's concepts nor the same part of them.
    """
    first = towers[0]
    if len(towers) == 1:
        return first
    full = [tower for tower in towers if set(tower.names) == set(first.names)]
    rest = towers[len(full) :]
    part = set(rest[0].names) if rest else set()
    if [*full, *rest] != [*towers] or any(set(each.names) != part for each in rest) or part - set(first.names):
        raise ValueError("the towers know different concepts; expected all of the first's, then a part of them")
    count, scales = len(towers), [tower.scale for tower in towers]
    own, other = sum(scales[: len(full)]) / len(full), sum(scales[len(full) :]) / count
    c = len(full) / count
    squared = own**2 + (other**2 / (1 - c**2) if rest else 0.0)
    w = [own * scales[i] / len(full) / squared for i in range(len(full))]
    w += [scales[i] / count / other * (1 - own**2 / squared) for i in range(len(full), count)]
    lengths = torch.tensor(w).sqrt()
    rows = []
    for name in first.names:
        asked = [tower for tower in towers if name in tower.names]
        parts = [
            tower.scale / len(asked) / (squared**0.5 * float(length)) * _place(tower, name)
            if name in tower.names
            else torch.zeros_like(tower.state["places"][0], dtype=torch.float32)
            for tower, length in zip(towers, lengths, strict=True)
        ]
        rows.append(torch.cat(parts))
    state = {
        "places": torch.stack(rows),
        "logit_scale": torch.tensor(squared).log() / 2,
        "logit_bias": torch.tensor([tower.bias for tower in towers]).mean(),
        f"{OWN}shares": torch.tensor(w),
    }
    for number, tower in enumerate(towers):
        state |= {f"{OWN}towers.{number}.{name}": value for name, value in tower.weights.items()}
    model = {**first.config["model_cfg"], "embed_dim": state["places"].shape[1]}
    model["vision_cfg"] = {**model["vision_cfg"], "timm_model_name": architecture}
    return Trained(first.names, state, {**first.config, "model_cfg": model})


def _place(tower: Trained, name: str) -> Tensor:
    return functional.normalize(tower.state["places"][tower.names.index(name)].float(), dim=0)
