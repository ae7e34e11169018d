"""What a student begins from: a network that draws scans already, instead of random weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from lexiseg.errors import UsageError
from lexiseg.io.names import printable
from lexiseg.models.weights.records import weights_info
from lexiseg.training.students.config import WEIGHTS
from lexiseg.training.students.folder import read_student
from lexiseg.training.students.settings import BUNDLED, NOTHING

logger = logging.getLogger(__name__)

_AGAINST = 10.0
"""Scans' worth of disagreement that weigh as much as the start."""


@dataclass(frozen=True, eq=False)
class Start:
    """Weights to begin from.

    Attributes:
        name: as they were asked for.
        sha256: of the file.
        licence: of the weights, which binds whoever begins from them; empty where none is stated.
        tensors: by name.
    """

    name: str
    sha256: str
    licence: str
    tensors: Mapping[str, Tensor]

    @property
    def record(self) -> dict[str, str]:
        """Plain values, for the student's config."""
        return {"name": self.name, "sha256": self.sha256, "licence": self.licence}


def start_folder(name: str) -> Path:
    """Where the weights of a name lie, whether they exist or not."""
    return Path(str(resources.files("lexiseg.bundled"))) / "unet" if name == BUNDLED else Path(name)


def read_start(name: str) -> Start | None:
    """The weights that a name stands for.

    Args:
        name: "bundled" (the U-Net that ships), "none", or a student's folder, of which the first network is
            taken.

    Returns:
        None for "none".

    Raises:
        UnknownModel: the folder is no student's.
        BrokenWeights: it is one, but damaged.
    """
    if name == NOTHING:
        return None
    folder = start_folder(name)
    _, networks = read_student(folder)
    info = weights_info(name, folder / WEIGHTS)
    return Start(name, info.sha256, info.licence, networks[0].state_dict())


@torch.no_grad()
def begin(network: nn.Module, start: Start) -> dict[str, Tensor]:
    """Put a start's weights into a network, where they fit.

    The first convolution of a grey network serves each of three colours with a third of its weights. What
    has another shape (the last layers, where there are more targets) keeps its random weights.

    Returns:
        The weights that were put in.

    Raises:
        UsageError: the network has other widths or residual units.
    """
    own = network.state_dict()
    fitting = {}
    for name, given in start.tensors.items():
        mine = own.get(name)
        if mine is None:
            continue
        weights = given
        if given.ndim == 4 and given.shape[1] == 1 and mine.shape[1] == 3:
            weights = given.expand(-1, 3, -1, -1) / 3
        if weights.shape == mine.shape:
            fitting[name] = weights
    # Another number of targets changes the last level alone; another architecture, most of it.
    if set(start.tensors) != set(own) or len(fitting) < 0.8 * len(own):
        raise UsageError(
            f"--start {printable(start.name)}: its network has other widths or residual units than this one; "
            "leave those as they are, or begin from --start none"
        )
    network.load_state_dict({**own, **fitting})
    logger.info("begins from %s: %d of %d tensors", printable(start.name), len(fitting), len(own))
    return {name: value.clone() for name, value in fitting.items()}


def share_of_start(overlap: float, scans: int) -> float:
    r"""How much of the start a student keeps, when it is not told: less, the more there is against it.

    .. math:: \alpha = c / (c + n (1 - D)), \qquad c = 10

    with D the mean Dice overlap of what the start draws in the n training scans with their labels. n (1 - D)
    is the evidence against the start, in scans: many scans outweigh it, as do labels of something that it
    does not know, and where it draws what the labels say it stays. It has the form of a shrinkage towards a
    prior of precision c (B. Efron, C. Morris, Stein's estimation rule and its competitors, JASA 1973).

    Args:
        overlap: D, 0 to 1; a scan where both draw nothing counts as 1.
        scans: n.
    """
    return _AGAINST / (_AGAINST + scans * (1 - overlap))


@torch.no_grad()
def drawn_back(network: nn.Module, begun: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """A network's weights, part of the way back to where it began: share theta_0 + (1 - share) theta.

    What a few scans with wrong labels teach beyond what they have in common is mostly their mistakes; between
    the two it is often better than at either end. Source: M. Wortsman et al., Robust fine-tuning of zero-shot
    models, CVPR 2022, equation 1.

    Args:
        network: as it is now.
        begun: weights that it began with, of all or some of its tensors.
        share: 0 leaves it as it is, 1 is the start.

    Returns:
        A copy of all its weights, on the CPU.
    """
    found = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    for name, value in begun.items():
        if value.is_floating_point():
            found[name].lerp_(value, share)
    return found
