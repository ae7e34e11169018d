"""Every modality, and the one way to make a phantom of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from lexiseg.datasets.phantoms.brain import BRAIN
from lexiseg.datasets.phantoms.breast import BREAST
from lexiseg.datasets.phantoms.chest import CHEST
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.fetal import FETAL
from lexiseg.datasets.phantoms.modality import Modality
from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.errors import UsageError
from lexiseg.scans.scan import Scan

_REGISTRY: Mapping[str, Modality] = {m.name: m for m in (BREAST, BRAIN, CHEST, FETAL)}

MODALITIES: tuple[str, ...] = tuple(_REGISTRY)
"""Names that `generate` knows."""

_SMALLEST = 32


def generate(
    modality: str,
    seed: int,
    *,
    size: int | tuple[int, int] = 256,
    target: bool | None = None,
    **attributes: str,
) -> Phantom:
    """A phantom scan with the truth about it; the same arguments give the same bytes.

    Args:
        modality: one of `MODALITIES`.
        seed: not negative; each gives another patient.
        size: (H, W), or both at once, at least 32.
        target: True shows the modality's finding (a tumor, a lung nodule or opacity, a fetal head), False
            does not, None lets chance decide. A chest X-ray always shows its lungs.
        **attributes: what to fix instead of draw, see `options`. A "finding_size" is what is drawn; the mask,
            and with it the phantom's own word for the size, may be smaller where the organ cuts it off.

    Raises:
        UsageError: an unknown modality, attribute or value, or an impossible seed or size.
    """
    kind = _modality(modality)
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(shape) < _SMALLEST:
        raise UsageError(
            f"a phantom of {shape[0]} x {shape[1]} pixels is too small; ask for at least {_SMALLEST}"
        )
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    _check(kind, attributes)
    rng = np.random.default_rng([zlib.crc32(kind.name.encode()), seed])
    shown = bool(rng.random() < kind.present)
    draw = Draw(rng=rng, shape=shape, present=shown if target is None else target, forced=attributes)
    made = kind.build(draw)
    return Phantom(
        scan=Scan(pixels=made.pixels, id=f"{kind.name}-{seed:05d}", notes={"origin": "procedural phantom"}),
        modality=kind.name,
        structures=made.structures,
        attributes=made.attributes,
        caption=made.caption,
        phrase=kind.phrase,
        absent_phrases=_absent(kind, made.structures),
    )


def options(modality: str) -> Mapping[str, tuple[str, ...]]:
    """The attributes that `generate` accepts for a modality, with the values each may take.

    Raises:
        UsageError: an unknown modality.
    """
    return _modality(modality).options


def _modality(name: str) -> Modality:
    if name not in _REGISTRY:
        raise UsageError(f"there is no phantom of {name!r}; choose one of {', '.join(MODALITIES)}")
    return _REGISTRY[name]


def _check(kind: Modality, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        if name not in kind.options:
            raise UsageError(
                f"{kind.name} phantoms have no attribute {name!r}; choose from {', '.join(kind.options)}"
            )
        if value not in kind.options[name]:
            raise UsageError(f"{name}={value!r} is unknown; choose from {', '.join(kind.options[name])}")


def _absent(kind: Modality, structures: Mapping[str, object]) -> tuple[str, ...]:
    """Findings that are not drawn, then what only other modalities show."""
    own = [phrase for phrase in kind.findings if phrase not in structures]
    foreign = [
        phrase
        for other in _REGISTRY.values()
        if other is not kind
        for phrase in other.exclusive
        if phrase not in kind.shows
    ]
    return tuple(dict.fromkeys(own + foreign))
