"""Does a model respond to pixels and to words at all?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lexiseg.errors import BrokenWeights
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import SaliencyMethod
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray

_PHRASES = ("breast tumor", "lungs")
# Of a map's own range or magnitude: far above float32 rounding, far below any response.
_TOLERANCE = 1e-5
_ENOUGH = {"k": 8, "steps": 2, "samples": 2}
"""Channels, steps and samples of a method, at most: a response needs no more."""


def selftest(encoder: Encoder, method: SaliencyMethod, *, phrases: tuple[str, str] = _PHRASES) -> None:
    """Look for two phrases in a bright blob in noise, before the maps are normalised.

    It finds weights that are zero, constant, not finite, or whose text tower ignores its words; it cannot
    tell untrained weights from trained ones, which is why loading is strict about keys.

    Raises:
        BrokenWeights: a map is flat or not finite, or both phrases give the same one.
        UnsupportedByModel: the method's layer does not influence the embedding.
    """
    sets = [PhraseSet(text, (text,), ("background",)) for text in phrases]
    fewer = {name: min(getattr(method, name), most) for name, most in _ENOUGH.items() if hasattr(method, name)}
    maps = replace(method, **fewer).raw(encoder, blob_scan(encoder.input_size), sets).maps.double()
    spread = maps.amax(dim=(1, 2)) - maps.amin(dim=(1, 2))
    size = maps.abs().amax(dim=(1, 2))
    where = f"{encoder.name}, {method.name}"
    for text, range_, top in zip(phrases, spread.tolist(), size.tolist(), strict=True):
        if range_ <= _TOLERANCE * top:
            raise BrokenWeights(
                f"{where}: the map of a test image for {text!r} is flat (range {range_:.1e} of {top:.1e}); "
                "expected a response to the image; check that the weights belong to this architecture"
            )
    first, second = maps
    if float((first - second).abs().max()) <= _TOLERANCE * float(spread.max()):
        raise BrokenWeights(
            f"{where}: the maps of a test image for {phrases[0]!r} and {phrases[1]!r} are the same; "
            "expected a response to the words; check the text tower's weights and tokenizer"
        )


def blob_scan(size: int) -> FloatArray:
    """A bright Gaussian blob, off centre, in seeded noise: float32 (size, size) in [0, 1]."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    blob = 0.7 * np.exp(-((rows - 0.4) ** 2 + (columns - 0.6) ** 2) / (2 * 0.1**2))
    noise = 0.2 * np.random.default_rng(0).random((size, size))
    return np.asarray(blob + noise, dtype=np.float32)
