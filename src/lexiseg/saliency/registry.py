"""Saliency methods by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lexiseg.errors import UsageError
from lexiseg.settings import read_settings

if TYPE_CHECKING:
    from lexiseg.models.protocols import Encoder
    from lexiseg.saliency.base import Progress, SaliencyMethod
    from lexiseg.saliency.settings import SaliencySettings
    from lexiseg.text.embedding import PhraseEmbedding
    from lexiseg.text.phrases import PhraseSet
    from lexiseg.values.arrays import FloatArray
    from lexiseg.values.masks import Saliency


METHODS: dict[str, str] = {
    "gscorecam": "lexiseg.saliency.gscorecam:GScoreCAM",
    "gradcam": "lexiseg.saliency.gradcam:GradCAM",
    "dense": "lexiseg.saliency.dense:DenseSimilarity",
}
"""Name to "module:class"; a class is imported when it is asked for.  A new method adds its line here."""


def method_class(name: str) -> type[SaliencyMethod]:
    """The class of a method.

    Raises:
        UsageError: no such method.
    """
    if name not in METHODS:
        raise UsageError(f"unknown saliency method {name!r}; expected one of {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[SaliencyMethod] = getattr(importlib.import_module(module), attribute)
    return found


def make_method(settings: SaliencySettings) -> SaliencyMethod:
    """The method that some settings are of."""
    return method_class(settings.method)(**{field.name: getattr(settings, field.name) for field in fields(settings)})


def explain(
    encoder: Encoder,
    pixels: FloatArray,
    phrases: Sequence[PhraseSet] | Sequence[PhraseEmbedding],
    *,
    method: str = "gscorecam",
    progress: Progress | None = None,
    **settings: Any,
) -> list[Saliency]:
    """The saliency of each phrase in a scan by a named method; see `SaliencyMethod.explain`.

    Raises:
        UsageError: no such method, no such setting, or a value that a setting cannot take.
    """
    chosen = read_settings(method_class(method), settings, section=method)
    return chosen.explain(encoder, pixels, phrases, progress=progress)
