"""What a student's config.json says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lexiseg.errors import BrokenWeights, UnknownModel

CONFIG, WEIGHTS, CARD, SCANS = "config.json", "model.safetensors", "README.md", "scans.csv"
Mirror = Literal["no", "both", "turns"]
"""Whether networks see a scan mirrored: none, all (both ways), or every other one."""
_FORMAT, _VERSION = "lexiseg-student", 1


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """All that prediction needs, and where the student comes from.

    Attributes:
        names: of the targets.
        supervised: True where it was trained on true masks.
        channels: of the images, 1 or 3.
        widths, residual_units: see `TrainSettings`.
        size: side of the network's square, in pixels.
        extent: pixels of a scan's longer side on the network's scale.
        members: networks of the ensemble.
        flips: whether scans were mirrored in training; see `mirror`.
        score: validation Dice against labels of the kind that it was trained on; None where nothing was
            held out.
        scans: how many, by part.
        teacher: what made the pseudo-labels; nothing for true masks.
        start: name, sha256 and licence of the weights that it began from, and their share in its own; nothing
            for random ones.
        settings: of the training.
        lexiseg: the version that wrote it.
        network: "unet", or "towers" for a tuned bundled encoder, which has no widths and residual units.
        preset: that a tuned encoder answers by, as plain values; nothing of a U-Net.
        comparison: of the student with its teacher, without labels; nothing where none was made.
        lessons: of `LabelSet.digest`; "" where nobody said.
    """

    names: tuple[str, ...]
    supervised: bool
    channels: int
    widths: tuple[int, ...]
    residual_units: int
    size: int
    extent: int
    members: int
    flips: bool
    score: float | None = None
    scans: Mapping[str, int] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    lexiseg: str = ""
    network: str = "unet"
    preset: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] = field(default_factory=dict)
    lessons: str = ""

    def mirror(self, flips: bool | None = None) -> Mirror:
        """Which networks see the mirrored scan.

        Args:
            flips: as prediction was told. None: not where a phrase names a side; else a single network sees
                both, and the members of an ensemble see the one and the other in turns, which takes no
                longer.
        """
        if flips is None:
            return ("both" if self.members == 1 else "turns") if self.flips else "no"
        return "both" if flips else "no"

    @property
    def measure(self) -> str:
        """What `score` is, in words; a map that is soft is no mask, and loses by scans without the target."""
        return "Dice" if self.network == "unet" else "soft Dice of the map"

    @property
    def labels(self) -> str:
        """What it was trained on, in words."""
        return "true masks (fully supervised)" if self.supervised else "pseudo-labels (no true mask)"

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": _FORMAT, "version": _VERSION, **asdict(self)}, indent=2) + "\n"


def read_config(folder: Path) -> StudentConfig:
    """Read a student's folder's config.json.

    Raises:
        UnknownModel: the folder is no student's.
        BrokenWeights: it is one, but of another version, or fields are missing.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnknownModel(
            f"{folder}: no {CONFIG} that can be read; expected a folder that `lexiseg train` finished"
        ) from error
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise UnknownModel(f"{path}: it is not a student's; expected a folder that `lexiseg train` wrote")
    version = content.pop("version", None)
    if version != _VERSION:
        raise BrokenWeights(f"{path}: its version is {version}, this lexiseg reads {_VERSION}; train again")
    try:
        names, widths = tuple(content.pop("names")), tuple(content.pop("widths"))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a name that is no text")
        return StudentConfig(names=names, widths=widths, **content)
    except (KeyError, TypeError) as error:
        raise BrokenWeights(f"{path}: its fields are not those of a student; train again") from error
