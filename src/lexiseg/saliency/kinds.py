"""Which kind of scan is in view, and whether it can hold what a phrase names.

An encoder that was taught four kinds of scan finds a "brain tumor" in a knee.  What it makes of the whole scan tells
kinds apart all the same: a linear layer on that embedding gives each kind a share, and a target is absent where the
kinds that can hold it have next to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lexiseg.errors import BrokenWeights

WEIGHTS = "kinds.safetensors"
HOLDS = "kinds.yaml"
"""What an encoder's folder holds beside its own weights."""


class Gate(Protocol):
    """What a saliency method asks: how far a scan is of a kind that can hold what a phrase names."""

    @property
    def weights(self) -> Tensor:
        """(K, E), what embeddings of images are multiplied with."""

    def share(self, embeddings: Tensor, text: str) -> float:
        """0 to 1, of views (V, E) of one scan and a phrase; 1 where nothing speaks against it."""


KIND = "kind:"
"""How the names of the evidence begin that gives each kind's share."""


def kind_evidence(gate: Gate, embeddings: Tensor) -> dict[str, float]:
    """Each kind's share as evidence, of a gate that tells them."""
    return (
        {f"{KIND}{name}": share for name, share in gate.shares(embeddings).items()}
        if isinstance(gate, KindGate)
        else {}
    )


def surest_kind(evidence: Mapping[str, float]) -> float:
    """The share of the likeliest kind of scan in a scan's evidence; 1 where nobody tells kinds."""
    return max((share for name, share in evidence.items() if name.startswith(KIND)), default=1.0)


@dataclass(frozen=True, eq=False)
class KindGate:
    r"""A softmax over kinds of scan, and which of them can hold what.

    .. math:: q_k = \operatorname{softmax}_k(w_k^\top e + b_k), \qquad
        \text{share} = \sum_{k \text{ can hold it}} q_k

    Attributes:
        names: of K kinds of scan.
        weights: (K, E).
        biases: (K,).
        holds: what a phrase may name -> kinds that can hold it; what is not among them is held by all.
        concept: what a phrase names; None where it names nothing that is listed.
        encoder: sha256 of the weights that it was fitted to.
        least: a share from which nothing speaks against a kind: how sure it is beyond that says nothing of the target.

    Raises:
        ValueError: sizes do not fit, or `holds` speaks of another kind.
    """

    names: tuple[str, ...]
    weights: Tensor
    biases: Tensor
    holds: Mapping[str, frozenset[str]]
    concept: Callable[[str], str | None] = str
    encoder: str = ""
    least: float = 0.05

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.weights.shape[0] != count or self.biases.shape != (count,):
            found = f"weights {tuple(self.weights.shape)} and biases {tuple(self.biases.shape)}"
            raise ValueError(f"{found} are not of {count} kinds")
        if strange := {kind for kinds in self.holds.values() for kind in kinds} - {*self.names}:
            raise ValueError(f"{sorted(strange)} are no kinds of scan; expected some of {list(self.names)}")

    def shares(self, embeddings: Tensor) -> dict[str, float]:
        """Each kind's share, of views (V, E) of one scan; they add up to 1."""
        rows = embeddings.detach().float().cpu()
        found = torch.softmax(rows @ self.weights.T + self.biases, 1).mean(0)
        return dict(zip(self.names, found.tolist(), strict=True))

    def holders(self, text: str) -> frozenset[str] | None:
        """The kinds that can hold what a phrase names; None where all can."""
        named = self.concept(text)
        return self.holds.get(named) if named is not None else None

    def share(self, embeddings: Tensor, text: str) -> float:
        """See `Gate`."""
        kinds = self.holders(text)
        if kinds is None:
            return 1.0
        found = sum(share for kind, share in self.shares(embeddings).items() if kind in kinds)
        return 1.0 if found >= self.least else found


@lru_cache(maxsize=8)
def read_gate(folder: Path) -> KindGate | None:
    """What an encoder's folder says of kinds of scan: `WEIGHTS` and, as data to be read, `HOLDS`; None without them.

    What phrases name is left open (`KindGate.concept`).

    Raises:
        BrokenWeights: a file is missing, truncated or another.
    """
    weights, holds = folder / WEIGHTS, folder / HOLDS
    if not weights.is_file():
        return None
    try:
        with safe_open(weights, framework="pt") as stored:
            about = stored.metadata()
            found = stored.get_tensor("weights").float(), stored.get_tensor("biases").float()
        held = yaml.safe_load(holds.read_text(encoding="utf-8"))["holds"]
        return KindGate(
            names=tuple(about["kinds"].split(";")),
            weights=found[0],
            biases=found[1],
            holds={name: frozenset(kinds) for name, kinds in held.items()},
            encoder=about["encoder"],
        )
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise BrokenWeights(
            f"{weights} and {HOLDS} do not say which kinds of scan there are "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
