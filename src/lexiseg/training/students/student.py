"""A trained student: pixels to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lexiseg.models.loading import autocast, resolve_device, resolve_precision
from lexiseg.models.weights.records import WeightsInfo, weights_info
from lexiseg.training.students.config import WEIGHTS, StudentConfig
from lexiseg.training.students.folder import read_student
from lexiseg.training.students.frame import Frame, normalise
from lexiseg.training.students.network import slide
from lexiseg.training.students.robust import entropy
from lexiseg.training.students.train import require_training
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a student makes of an image.

    Attributes:
        probabilities: float32 (K + 1, H, W), background first; they add up to 1.
        uncertainty: float32 (H, W), 0 to 1: the entropy of the members' mean, see `entropy`.
    """

    probabilities: FloatArray
    uncertainty: FloatArray


class Student:
    """An ensemble of networks with its description.

    Attributes:
        config: the description.
        device: where it runs.
        precision: of its products, "float32" or "bfloat16".
        weights: provenance.
    """

    def __init__(
        self,
        config: StudentConfig,
        networks: list[nn.Module],
        weights: WeightsInfo,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.weights, self.device = config, weights, device
        self._dtype = dtype
        self._networks = [network.to(device) for network in networks]

    @property
    def precision(self) -> str:
        """The number format of its products."""
        return str(self._dtype).removeprefix("torch.")

    @torch.inference_mode()
    def predict(self, pixels: FloatArray, *, flips: bool | None = None) -> Prediction:
        """The mean of all networks, and of the image and its mirror image where that is asked.

        Args:
            pixels: float32 (H, W) or (H, W, 3) in [0, 1].
            flips: show every network the mirrored image too, which takes twice as long; None: see
                `StudentConfig.mirror`.
        """
        height, width = pixels.shape[:2]
        frame = Frame(height, width, self.config.extent)
        image = normalise(frame.put(pixels, channels=self.config.channels)[None]).to(self.device)
        mirror = self.config.mirror(flips)
        sides: list[Tensor] = []
        for mirrored in (False,) if mirror == "no" else (False, True):
            networks = self._networks[mirrored::2] if mirror == "turns" else self._networks
            found = self._mean(networks, image.flip(-1) if mirrored else image)
            sides.append(found.flip(-1) if mirrored else found)
        mean = frame.take(torch.stack(sides).mean(0)).float().cpu()
        # Interpolation rounds: they have to add up to 1 again.
        mean = mean / mean.sum(0, keepdim=True)
        return Prediction(np.asarray(mean), np.asarray(entropy(mean).clamp(0, 1), np.float32))

    def _mean(self, networks: Sequence[nn.Module], image: Tensor) -> Tensor:
        """Mean probabilities (K + 1, S, S) of an image (1, C, S, S)."""
        found = []
        for network in networks:
            with autocast(self.device, self._dtype):
                logits = slide(network, image, size=self.config.size)
            found.append(logits.softmax(1)[0])
        return torch.stack(found).mean(0)


def load_student(folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Student:
    """Load a student from its folder.

    Args:
        folder: as `lexiseg train` wrote it.
        device: see `lexiseg.models.loading.resolve_device`.
        precision: "auto", "float32" or "bfloat16".

    Raises:
        UsageError: MONAI is not installed, or there is no such device.
        UnknownModel: the folder is no student's.
        BrokenWeights: it is one, but damaged.
    """
    require_training()
    place = resolve_device(device)
    folder = Path(folder)
    config, networks = read_student(folder)
    return Student(
        config,
        networks,
        weights_info(folder.name or "student", folder / WEIGHTS),
        device=place,
        dtype=resolve_precision(precision, place),
    )
