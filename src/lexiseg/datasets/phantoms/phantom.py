"""The value that every phantom builder makes: a scan with the truth about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lexiseg.scans.scan import BoolArray, Scan


@dataclass(frozen=True, eq=False)
class Phantom:
    """A procedural scan, and what is in it.

    Attributes:
        scan: grey float32 (H, W) in [0, 1]; its id is "<modality>-<seed, five digits>".
        modality: one of `lexiseg.datasets.phantoms.MODALITIES`.
        structures: exact bool (H, W) masks by phrase. Structures may overlap (a tumor lies in the brain). In
            chest X-rays left and right are the patient's: "left lung" is on the right of the image.
        attributes: what was drawn, in words; "size" and "place" are measured on the finding's mask, "place"
            is that in the image as displayed.
        caption: one sentence that is true of this scan.
        phrase: the phrase a user would type for this modality's usual target.
        absent_phrases: things that are truly not in this scan: wrong organs, and findings it does not show.
    """

    scan: Scan
    modality: str
    structures: Mapping[str, BoolArray]
    attributes: Mapping[str, str]
    caption: str
    phrase: str
    absent_phrases: tuple[str, ...]

    @property
    def target(self) -> BoolArray:
        """The mask of `phrase`, bool (H, W); all False where the scan does not show it."""
        return self.mask(self.phrase)

    def mask(self, phrase: str) -> BoolArray:
        """The mask of a phrase, bool (H, W); all False where the scan does not show it.

        Raises:
            KeyError: `phrase` is neither a structure of this phantom nor one known to be absent from it, so
                nothing is known about it.
        """
        if phrase in self.structures:
            return self.structures[phrase]
        if phrase in self.absent_phrases:
            return np.zeros(self.scan.shape, np.bool_)
        known = ", ".join(self.structures)
        raise KeyError(f"nothing is known about {phrase!r} in {self.scan.id}, whose structures are {known}")
