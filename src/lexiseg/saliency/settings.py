"""The saliency methods by name, what can be set of each and of presence; nothing here needs torch."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lexiseg.errors import UsageError
from lexiseg.settings import read_settings

if TYPE_CHECKING:
    from lexiseg.models.protocols import Encoder
    from lexiseg.saliency.base import Progress, SaliencyMethod
    from lexiseg.text.embedding import PhraseEmbedding
    from lexiseg.text.phrases import PhraseSet
    from lexiseg.values.arrays import FloatArray
    from lexiseg.values.masks import Saliency


FramingMode = Literal["letterbox", "stretch", "tile", "pyramid"]
Activation = Literal["auto", "sigmoid", "softmax", "minmax"]
NoiseKind = Literal["layer", "as-released"]
Attention = Literal["value", "sclip", "clearclip", "naclip", "gem"]


@dataclass(frozen=True, kw_only=True)
class SaliencySettings:
    """What every method takes.

    Attributes:
        framing: how the scan gets into the encoder's square: letterbox, stretch, tile or pyramid.
        tile: side of a tile in scan pixels, for the framings that tile; None for their default.
        overlap: the least fraction of a tile that its neighbour covers too, in [0, 1).
        clip_percentile: the percentile of a scan's pixels, of those that are not black, that the encoder sees
            as white; 100 shows the scan as it is.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    method: ClassVar[str] = ""

    framing: FramingMode = "letterbox"
    tile: int | None = None
    overlap: float = 0.5
    clip_percentile: float = 100.0

    def __post_init__(self) -> None:
        if self.framing not in ("letterbox", "stretch", "tile", "pyramid"):
            raise UsageError(f"unknown framing {self.framing!r}; expected letterbox, stretch, tile or pyramid")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"framing: overlap is {self.overlap}; expected at least 0 and below 1")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"framing: tile is {self.tile} pixels; expected at least 1")
        if not 50 <= self.clip_percentile <= 100:
            raise UsageError(
                f"{self.method}: clip_percentile is {self.clip_percentile}; expected a percentile, 50 to 100"
            )


@dataclass(frozen=True, kw_only=True)
class GScoreCAMSettings(SaliencySettings):
    """What gScoreCAM takes besides.

    Attributes:
        layer: the target layer; None for the encoder's default, the deepest whose positions influence the
            embedding.
        k: how many channels; all of them where the layer has fewer.
        batch: masked views per forward.  Small batches are the fastest on a CPU; memory is O(batch), not
            O(k).
        masked_out: what a mask of 0 leaves: "black" or the encoder's "mean" colour.
        contrast: score a phrase by its log-odds against its negative phrases instead of on its own.
        logit_scale: the factor from cosine to score, which sets how sharp the softmax is; None for the
            encoder's own, which makes the score its logit (a bias cancels).
        tolerance: 0 computes the score of every channel. Above 0, only of those that may still move where the map
            crosses half its maximum, until no larger share of what lies above is expected on the wrong side, as far as
            the others tell. See `lexiseg.saliency.channel_model`.
    """

    method: ClassVar[str] = "gscorecam"

    layer: str | None = None
    k: int = 300
    batch: int = 16
    masked_out: Literal["black", "mean"] = "black"
    contrast: bool = False
    logit_scale: float | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_number(self.tolerance) or not 0 <= self.tolerance < 1:
            raise UsageError(f"gscorecam: tolerance is {self.tolerance!r}; expected 0 (exact) or more, below 1")
        if self.k < 1 or self.batch < 1:
            raise UsageError(f"gscorecam: k is {self.k} and batch {self.batch}; expected at least 1 each")
        if self.masked_out not in ("black", "mean"):
            raise UsageError(f"gscorecam: masked_out is {self.masked_out!r}; expected 'black' or 'mean'")


@dataclass(frozen=True, kw_only=True)
class GradCAMSettings(SaliencySettings):
    """What Grad-CAM takes besides.

    Attributes:
        layer: the target layer; None for the encoder's default.
    """

    method: ClassVar[str] = "gradcam"

    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class DenseSettings(SaliencySettings):
    """What dense similarity takes besides.

    Attributes:
        activation: how a cosine becomes a saliency: auto, sigmoid, softmax or minmax.
        attention: which attention the last blocks of a ViT take instead of their own: value (each position to
            itself alone, as MaskCLIP; also what convolutional towers do), sclip, clearclip, naclip or gem.
        shifts: n views for each axis, moved by 1/n of the tower's stride: n times the map's resolution for
            n * n forwards (exact for a convolutional tower away from the edges, an approximation where
            positions are embedded).
        batch: views per forward.
        top_fraction: the share of pixels whose mean probability is the evidence ``dense``.
    """

    method: ClassVar[str] = "dense"

    activation: Activation = "auto"
    attention: Attention = "value"
    shifts: int = 1
    batch: int = 16
    top_fraction: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ("auto", "sigmoid", "softmax", "minmax"):
            raise UsageError(f"dense: activation is {self.activation!r}; expected auto, sigmoid, softmax or minmax")
        if self.attention not in ("value", "sclip", "clearclip", "naclip", "gem"):
            raise UsageError(f"dense: attention is {self.attention!r}; expected value, sclip, clearclip, naclip or gem")
        if self.shifts < 1 or self.batch < 1:
            raise UsageError(f"dense: shifts is {self.shifts} and batch {self.batch}; expected at least 1 each")
        if not 0 < self.top_fraction <= 1:
            raise UsageError(f"dense: top_fraction is {self.top_fraction}; expected above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlusSettings(GradCAMSettings):
    """What Grad-CAM++ takes: as Grad-CAM."""

    method: ClassVar[str] = "gradcam++"


@dataclass(frozen=True, kw_only=True)
class LayerCAMSettings(GradCAMSettings):
    """What LayerCAM takes: as Grad-CAM."""

    method: ClassVar[str] = "layercam"


@dataclass(frozen=True, kw_only=True)
class ReciproCAMSettings(SaliencySettings):
    """What Recipro-CAM takes besides.

    Attributes:
        layer: a whole block or stage, which everything after it depends on alone; None for the block that closes the
            first three quarters of a ViT's, or the encoder's default.
        batch: positions per forward.
    """

    method: ClassVar[str] = "reciprocam"

    layer: str | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise UsageError(f"reciprocam: batch is {self.batch}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class M2IBSettings(SaliencySettings):
    """What M2IB takes besides.

    Attributes:
        layer: as for Recipro-CAM.
        beta: the weight of the information that passes, against the match; more leaves less of the scan.
        steps: of Adam.
        samples: of noise in each step.
        rate: Adam's.
        noise: "layer", of the layer's own mean and deviation, as the paper has it; or "as-released", N(0, 1), as
            the released code has it.
        seed: of the noise.
    """

    method: ClassVar[str] = "m2ib"

    layer: str | None = None
    beta: float = 0.1
    steps: int = 10
    samples: int = 10
    rate: float = 1.0
    noise: NoiseKind = "layer"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.beta) and self.beta >= 0 and math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"m2ib: beta is {self.beta} and rate {self.rate}; expected 0 or more, and above 0")
        if self.steps < 1 or self.samples < 1:
            raise UsageError(f"m2ib: steps is {self.steps} and samples {self.samples}; expected at least 1 each")
        if self.noise not in ("layer", "as-released"):
            raise UsageError(f"m2ib: noise is {self.noise!r}; expected layer or as-released")


SALIENCY_SETTINGS: dict[str, type[SaliencySettings]] = {
    each.method: each
    for each in (
        GScoreCAMSettings,
        GradCAMSettings,
        GradCAMPlusPlusSettings,
        LayerCAMSettings,
        ReciproCAMSettings,
        M2IBSettings,
        DenseSettings,
    )
}
"""Method -> what can be set of it."""


@dataclass(frozen=True, kw_only=True)
class PresenceSettings:
    """How evidence becomes presence, and how much of it a phrase needs.

    Attributes:
        threshold: the presence below which a phrase is absent, 0 to 1; None draws whatever stands out.
        global_weight: g in [0, 1], the share of the whole image's probability against the dense one's.
        a: slope of the calibration on the log-odds (Platt 1999).
        b: its intercept.
        min_expected_dice: the Dice that a calibrated map must expect of its best mask, 0 to 1: below, a phrase is
            absent, since the target may be there but nobody can say where.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    threshold: float | None = None
    global_weight: float = 0.5
    a: float = 1.0
    b: float = 0.0
    min_expected_dice: float = 0.0

    def __post_init__(self) -> None:
        value = self.threshold
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise UsageError(f"presence: threshold is {value!r}; expected 0 to 1, or null for none")
        if not 0 <= self.global_weight <= 1:
            raise UsageError(f"presence: global_weight is {self.global_weight}; expected 0 to 1")
        if not (math.isfinite(self.a) and math.isfinite(self.b)):
            raise UsageError(f"presence: a is {self.a} and b is {self.b}; expected finite numbers")
        if not (_is_number(self.min_expected_dice) and 0 <= self.min_expected_dice <= 1):
            raise UsageError(f"presence: min_expected_dice is {self.min_expected_dice!r}; expected 0 to 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


METHODS: dict[str, str] = {
    "gscorecam": "lexiseg.saliency.gscorecam:GScoreCAM",
    "gradcam": "lexiseg.saliency.gradcam:GradCAM",
    "gradcam++": "lexiseg.saliency.gradcam_kin:GradCAMPlusPlus",
    "layercam": "lexiseg.saliency.gradcam_kin:LayerCAM",
    "reciprocam": "lexiseg.saliency.reciprocam:ReciproCAM",
    "m2ib": "lexiseg.saliency.m2ib:M2IB",
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
