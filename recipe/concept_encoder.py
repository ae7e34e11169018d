"""The next encoder's image tower: it learns where concepts lie, without words.

Every concept has a place in the embedding space, learnt along with the tower.  Each position of a scan, and the
whole of it, answers every concept of every kind of scan at each step, so that what belongs to another kind is
denied as often as what is there is found.  Words come afterwards: `recipe.words_to_places` brings phrases to the
places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.models.encoders.open_clip_known import read_known
from lexiseg.models.fpn import STRIDE
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.records import bundled_folder
from lexiseg.saliency.kinds import read_gate
from recipe.augment import AugmentSettings, View, augment
from recipe.concepts import SYNONYMS
from recipe.data import Sample
from recipe.encoder import dense_features, losses, open_clip_config
from recipe.phases import Phases, Scheduled
from recipe.photographs import load_pretrained
from recipe.sampling import Sampler
from recipe.sets import KIND, concepts, load_sets, status
from recipe.supervision import Supervision, share_inside
from recipe.text import places

PARENTS = {
    "left kidney": "kidneys",
    "right kidney": "kidneys",
    "optic cup": "optic disc",
    "nucleus of the white blood cell": "nuclei",
    "myocardium": "left ventricle",
    "kidney tumor": "kidneys",
}
"""What lies nearer to another concept than to the rest, from the start."""


class ConceptEncoder(nn.Module):
    """An image tower and the places of concepts.

    Args:
        c: the recipe's section: as for `recipe.encoder.build`.
        names: of the concepts; the last place is that of what is nothing.
    """

    def __init__(self, c: Mapping[str, Any], names: Sequence[str]) -> None:
        super().__init__()
        small = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
        self.visual = cast(Any, open_clip.CLIP(**open_clip_config({**c, "text": small})["model_cfg"])).visual
        self.names = (*names, "")
        self.places = nn.Parameter(apart(len(self.names), c["embed_dim"]))
        self.logit_scale = nn.Parameter(torch.tensor(float(c["init_logit_scale"])))
        self.logit_bias = nn.Parameter(torch.tensor(float(c["init_logit_bias"])))

    @torch.no_grad()
    def place(self, names: Sequence[str], vectors: Tensor) -> None:
        """Put known concepts where they are, and all others at right angles to them, or near their parents.

        Args:
            names: concepts of this encoder.
            vectors: (N, E), their places.
        """
        rows = [self.names.index(name) for name in names]
        basis = torch.linalg.qr(vectors.T).Q  # (E, N)
        rest = self.places - (self.places @ basis) @ basis.T
        self.places.copy_(functional.normalize(rest, dim=1))
        self.places[rows] = functional.normalize(vectors, dim=1)
        for child, parent in PARENTS.items():
            if child in self.names and child not in names:
                own, other = self.names.index(child), self.names.index(parent)
                self.places[own] = functional.normalize(0.8 * self.places[own] + 0.6 * self.places[other], dim=0)

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (B, E, h, w), whole scans (B, E) and the places, moved by the noise (K, E); unit vectors."""
        dense, whole = dense_features(self, pixels)
        places = functional.normalize(functional.normalize(self.places.float(), dim=1) + noise, dim=1)
        return dense, whole, places


def apart(count: int, width: int, *, seed: int = 0) -> Tensor:
    """`count` unit vectors of `width` numbers, at right angles as long as there is room: (count, width)."""
    random = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    if count <= width:
        random = torch.linalg.qr(random.T).Q.T
    return functional.normalize(random, dim=1).contiguous()


def begin_from_bundled(model: ConceptEncoder, tower: int, encoder_name: str = "bundled") -> None:
    """Give the image tower what one of an encoder's towers has learnt, and old concepts their places.

    Args:
        model: changed in place; its tower is of the same architecture.
        tower: counted from 0.
        encoder_name: "bundled", or the folder of another with as many towers.
    """
    encoder = cast(Any, load_encoder(encoder_name, device="cpu", precision="float32"))
    trunk = encoder.model.visual.trunk
    model.visual.trunk.load_state_dict(trunk.towers[tower].state_dict())
    width = len(model.places[0])
    own = slice(tower * width, (tower + 1) * width)
    folder = bundled_folder("encoder") if encoder_name == "bundled" else Path(encoder_name)
    scale, known = encoder.logit_scale, known_places(folder)
    if known is None:
        found = places(encoder, [name for name in SYNONYMS if name in model.names], seed=0)
    else:
        found = {name: known[name] for name in model.names}
        # As it was trained: the ensemble's log-odds of what this tower alone answers.
        scale *= float(trunk.shares[tower].sqrt())
    model.place(list(found), torch.stack([vector[own] for vector in found.values()]))
    model.logit_scale.data.fill_(float(np.log(scale)))
    model.logit_bias.data.fill_(float(encoder.logit_bias))


def known_places(folder: Path) -> dict[str, Tensor] | None:
    """Where an encoder's folder says that concepts, kinds of scan and nothing lie, (E,) each; None where it does not.

    Raises:
        BrokenWeights: a file is damaged.
    """
    known, gate = read_known(folder), read_gate(folder)
    if known is None or gate is None:
        return None
    return {**known.places, **{KIND + kind: row for kind, row in zip(gate.names, gate.weights, strict=True)}}


def supervise(samples: Sequence[Sample], views: Sequence[View], names: Sequence[str], grid: int) -> Supervision:
    """What each image says of each concept; the last, "", is nowhere.

    A kind of scan has no outline: its positions teach nothing.  What is cut out of a scan need not look like its
    kind any more, but never looks like another.
    """
    kinds, _ = load_sets()
    b, q = len(samples), len(names)
    targets, weights, presence = torch.zeros(b, q, grid, grid), torch.ones(b, q), torch.zeros(b, q)
    close = torch.zeros(b, q, dtype=torch.bool)
    for i, (sample, view) in enumerate(zip(samples, views, strict=True)):
        for j, name in enumerate(names):
            if name.startswith(KIND):
                weights[i, j] = 0
                own = name == KIND + sample.organ
                presence[i, j] = -1.0 if own and view.partial else float(own)
            elif name in view.masks:
                targets[i, j] = share_inside(view.masks[name], grid)
                shown = view.visible[name]
                presence[i, j] = 1.0 if shown > 0.35 else (0.0 if shown < 0.05 else -1.0)
                close[i, j] = shown < 0.05
            elif name and status(sample, name) is None:
                weights[i, j], presence[i, j] = 0, -1
            else:
                close[i, j] = name in kinds[sample.organ].may
    return Supervision(targets, weights, presence, close, torch.zeros(q, dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step learns from.

    Attributes:
        pixels: float32 (B, 3, R, R), normalised.
        noise: (K, E), what the places are moved by: a phrase lands near its concept's place, not on it.
        known: what each image says of each concept.
    """

    pixels: Tensor
    noise: Tensor
    known: Supervision


class ConceptBatches(Scheduled):
    """What every step learns from, a function of (seed, step)."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int, stride: int = STRIDE) -> None:
        self.c, self.seed, self.stride = c, seed, stride
        self.names = (*concepts(), "")
        self.phases = Phases(c["phases"], c["warmup"])
        self.sampler = Sampler(samples, present_shares(c["shares"], samples))

    def batch(self, step: int) -> Batch:
        """Views, and where the phrases for the concepts are said to lie."""
        phase = self.phases.at(step)
        rng = np.random.default_rng([self.seed, 40, step])
        samples = self.sampler.batch(phase, rng)
        views = [augment(s, phase["resolution"], rng, self._changes(phase, s.source), self.c["mean"]) for s in samples]
        pixels = torch.stack([v.pixels.expand(3, -1, -1) for v in views])
        width = self.c["embed_dim"]
        noise = rng.standard_normal((len(self.names), width)).astype(np.float32) * self.c["noise"] / width**0.5
        return Batch(
            pixels=(pixels - self.c["mean"]) / self.c["std"],
            noise=torch.from_numpy(noise),
            known=supervise(samples, views, self.names, phase["resolution"] // self.stride),
        )

    def _changes(self, phase: Mapping[str, Any], source: str) -> AugmentSettings:
        own = self.c.get("augment_of", {}).get(source, {})
        return AugmentSettings(**{**phase.get("augment", {}), **own})


def present_shares(shares: Mapping[str, float], samples: Sequence[Sample]) -> dict[str, float]:
    """The shares of those sources that there are samples of.

    Raises:
        ValueError: samples of a source that has no share.
    """
    sources = {sample.source for sample in samples}
    if strange := sources - set(shares):
        raise ValueError(f"samples of {sorted(strange)} have no share of a batch; expected one of each source")
    return {name: share for name, share in shares.items() if name in sources}


class ConceptTask(ConceptBatches):
    """What `Loop` needs to train the image tower: a batch and its loss."""

    def __init__(self, c: Mapping[str, Any], samples: Sequence[Sample], seed: int) -> None:
        torch.manual_seed(seed)
        self.model = ConceptEncoder(c, concepts())
        if c.get("pretrained") and "from_bundled" not in c:
            load_pretrained(self.model.visual.trunk.backbone, **c["pretrained"])
        super().__init__(c, samples, seed, int(self.model.visual.trunk.feature_info[-1]["reduction"]))

    def begin(self) -> None:
        """A bundled tower's weights, where the recipe says which."""
        if "from_bundled" in self.c:
            begin_from_bundled(self.model, self.c["from_bundled"], self.c.get("older", "bundled"))

    def loss(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """The weighted terms of one batch."""
        pixels = batch.pixels.to(device).contiguous(memory_format=torch.channels_last)
        dense, whole, places = self.model(pixels, batch.noise.to(device))
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        with torch.autocast(device.type, enabled=False):  # as in `EncoderTask.loss`
            terms = losses(dense, whole, places, batch.known.to(device), scale=scale, bias=bias)
        return {k: v * self.c["loss"][k] for k, v in terms.items() if k in self.c["loss"]}
