"""Which wordings a sentence encoder was taught, so that it can tell what a phrase names, and that it does not know it.

A folder whose text tower is a sentence encoder may carry `FILE`: an embedding of every wording that it was taught,
what each names, and where each concept lies among the images' embeddings.  Without that file nobody judges phrases.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import BrokenWeights
from lexiseg.models.weights.int8 import SCALE, pack, unpack
from lexiseg.values.calibration import AS_IT_IS, Calibration

FILE = "known_wordings.safetensors"
CALIBRATION = "calibration.yaml"
"""Beside it, of an encoder whose maps were held against true masks."""
NEIGHBOURS = 5
SOFTNESS = 0.1
"""tau of the neighbours' votes."""
SAME = 0.995
"""A cosine from which a phrase is the wording itself, in 8 bits, and no other may vote."""
_LEFT = frozenset({"left", "lt", "sinister", "sinistra", "sinistrum"})
_RIGHT = frozenset({"right", "rt", "dexter", "dextra", "dextrum"})


@dataclass(frozen=True, eq=False)
class KnownWordings:
    r"""Wordings as a sentence encoder hears them, and how near to one of them a phrase must be.

    With :math:`u` the unit embedding of a phrase, :math:`u_i` those of the wordings and :math:`c_i` what they name, the
    k nearest wordings vote,

    .. math:: v(c) = \sum_{i \in N_k(u),\, c_i = c} \exp\frac{u^\top u_i - \max_j u^\top u_j}{\tau},

    and the phrase names the c of most votes where :math:`\max_j u^\top u_j \ge t`, else nothing that is known.
    A phrase that is one of the wordings names what that names.
    Sentence encoders hardly tell left from right.  So the words do: both sides of a pair vote for the pair, and a
    phrase that says one side gets that side.

    Attributes:
        sentences: float32 (K, W), unit length.
        concepts: what each names; "" for what is known and drawn on no scan (another organ, another finding).
        least: t, -1 to 1.
        sides: one side's concept -> that of the pair, as "left lung" -> "lungs".
        places: concept, or "" -> float32 (E,), unit length: where it lies among embeddings of images.
        calibrations: concept -> what was measured of it.

    Raises:
        ValueError: there is none, or not one concept for each.

    Example:
        >>> known = KnownWordings(torch.eye(2), ("lungs", ""), least=0.5, sides={"left lung": "lungs"})
        >>> known.concept(torch.tensor([0.9, 0.1])), known.concept(torch.tensor([0.1, 0.9]))
        ('lungs', '')
        >>> known.concept(torch.tensor([0.9, 0.1]), "lung, left")
        'left lung'
        >>> known.concept(torch.tensor([-0.9, -0.1])) is None
        True
    """

    sentences: Tensor
    concepts: tuple[str, ...]
    least: float
    sides: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Tensor] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.concepts or self.sentences.ndim != 2 or len(self.sentences) != len(self.concepts):
            raise ValueError(f"{len(self.concepts)} concepts do not fit sentences {tuple(self.sentences.shape)}")

    def concept(self, sentence: Tensor, phrase: str = "") -> str | None:
        """What a phrase names, of its embedding (W,) and its words: one of the concepts, or None where no wording is
        near.
        """
        near = self.sentences @ functional.normalize(sentence.float().cpu(), dim=0)
        best = torch.topk(near, min(NEIGHBOURS, len(near)))
        nearest = float(best.values[0])
        if nearest < self.least:
            return None
        count = 1 if nearest >= SAME else len(best.values)
        votes: dict[str, float] = defaultdict(float)
        for value, number in zip(best.values[:count].tolist(), best.indices[:count].tolist(), strict=True):
            named = self.concepts[number]
            votes[self.sides.get(named, named)] += math.exp((value - nearest) / SOFTNESS)
        return self._of_the_side(max(votes, key=lambda each: votes[each]), phrase)

    def _of_the_side(self, named: str, phrase: str) -> str:
        """The concept of the side that a phrase says, if it says one."""
        words = {*re.findall(r"[^\W_]+", phrase.casefold())}
        left, right = bool(words & _LEFT), bool(words & _RIGHT)
        if left == right:
            return named
        said, other = ("left", "right") if left else ("right", "left")
        for side, pair in self.sides.items():
            if pair == named and side.startswith(f"{said} "):
                return side
        counterpart = f"{said} {named.removeprefix(other + ' ')}"
        return counterpart if named.startswith(f"{other} ") and counterpart in self.concepts else named


def read_known(folder: Path) -> KnownWordings | None:
    """The folder's wordings; None where it carries none.

    Raises:
        BrokenWeights: the file is truncated or is another.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
        unpack(tensors)
        names: list[str] = json.loads(about["concepts"])
        concepts = tuple(names[number] for number in tensors["concepts"].tolist())
        rows = functional.normalize(tensors["places"].float(), dim=1) if "places" in tensors else ()
        return KnownWordings(
            functional.normalize(tensors["sentences"].float(), dim=1),
            concepts,
            float(about["least"]),
            sides=json.loads(about["sides"]),
            places=dict(zip(json.loads(about["placed"]), rows, strict=True)),
            calibrations=_read_calibrations(folder / CALIBRATION),
        )
    except (SafetensorError, OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise BrokenWeights(
            f"{path} holds no known wordings ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "expected sentences, concepts and a threshold"
        ) from error


def _read_calibrations(path: Path) -> dict[str, Calibration]:
    """What a folder says was measured, by concept; nothing where it says nothing.

    Raises:
        BrokenWeights: the file is there but cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
        lines, sizes, map_only = listed["lines"], listed.get("smallest", {}), listed.get("map_only", [])
        found = {}
        for name in {*lines, *sizes, *map_only}:
            slope, offset = map(float, lines.get(name, AS_IT_IS[:2]))
            smallest = float(sizes.get(name, AS_IT_IS.smallest))
            found[name] = Calibration(slope, offset, smallest, name in map_only)
        if not all(c.slope > 0 and math.isfinite(c.slope + c.offset) and 0 < c.smallest <= 1 for c in found.values()):
            raise ValueError("a slope or a share that is not above 0, or no number")
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise BrokenWeights(
            f"{path} does not say how maps are calibrated ({why}); expected lines: slope and offset of each concept, "
            "and smallest: shares of a scan"
        ) from error
    return found


def sentences_of(text_tower: Any, tokens: Tensor) -> Tensor:
    """What a Hugging Face text tower makes of phrases before its projection: (N, W).

    Args:
        text_tower: of an open_clip model.
        tokens: int64 (N, L), with the tower's own padding.
    """
    seen = (tokens != text_tower.config.pad_token_id).long()
    return text_tower.pooler(text_tower.transformer(input_ids=tokens, attention_mask=seen), seen)  # type: ignore[no-any-return]


def pack_known(
    sentences: Tensor,
    concepts: Sequence[str],
    *,
    least: float,
    sides: Mapping[str, str] | None = None,
    places: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of `FILE`: embeddings (K, W) in 8 bits, and what each names; see `KnownWordings`."""
    names = sorted(set(concepts))
    whole, scale = pack(functional.normalize(sentences.float(), dim=1))
    tensors = {
        "sentences": whole.contiguous(),
        f"sentences{SCALE}": scale,
        "concepts": torch.tensor([names.index(concept) for concept in concepts], dtype=torch.int16),
    }
    if places:
        tensors["places"] = functional.normalize(torch.stack([*places.values()]).float(), dim=1)
    listed = {"concepts": names, "sides": dict(sides or {}), "placed": [*(places or {})]}
    return tensors, {"format": "pt", "least": repr(float(least)), **{k: json.dumps(v) for k, v in listed.items()}}
