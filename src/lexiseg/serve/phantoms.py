"""The shipped phantoms that a visitor may try: scans that need nobody's consent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lexiseg.errors import UsageError

if TYPE_CHECKING:
    from lexiseg.values.scans import Image


@dataclass(frozen=True)
class Offer:
    """A phantom to try.

    Attributes:
        title: for a person.
        modality: as `lexiseg.datasets.phantoms.registry.generate` takes it.
        seed: of the phantom.
        phrase: to ask for.
        attributes: what is fixed of it.
    """

    title: str
    modality: str
    seed: int
    phrase: str
    attributes: tuple[tuple[str, str], ...] = ()


OFFERS: dict[str, Offer] = {
    "breast-ultrasound": Offer("Breast ultrasound", "breast-ultrasound", 0, "breast tumor"),
    "brain-mri": Offer(
        "Brain MRI", "brain-mri", 0, "brain tumor", (("contrast", "FLAIR"), ("plane", "axial"), ("kind", "glioma"))
    ),
    "chest-xray": Offer("Chest X-ray", "chest-xray", 0, "lungs"),
    "fetal-ultrasound": Offer("Fetal ultrasound", "fetal-ultrasound", 0, "fetal head"),
    "fundus-photograph": Offer("Fundus photograph", "fundus-photograph", 1, "optic disc"),
    "abdominal-ct": Offer("Abdominal CT", "abdominal-ct", 0, "liver"),
}
"""By id."""


def phantom_scan(id: str) -> Image:
    """A phantom's scan; always the same pixels.

    Raises:
        UsageError: there is no such phantom.
    """
    from lexiseg.datasets.phantoms.registry import generate

    if id not in OFFERS:
        raise UsageError(f"there is no phantom {id!r}; expected one of {', '.join(OFFERS)}")
    offer = OFFERS[id]
    attributes: dict[str, Any] = dict(offer.attributes)
    return generate(offer.modality, offer.seed, target=True, **attributes).scan


def listed() -> list[dict[str, Any]]:
    """What is told of them."""
    return [{"id": name, "title": each.title, "phrase": each.phrase} for name, each in OFFERS.items()]
