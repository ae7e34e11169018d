"""The family of models that open_clip builds: CLIP and its many kin, BiomedCLIP, the bundled encoder.

Its parts are the modules ``open_clip_*``: `open_clip_folder` reads configurations, weights and tokenizers (with
`open_clip_text` and `open_clip_biomedclip`), `open_clip_layers` reads and replaces a layer's features,
`open_clip_dense` embeds each position.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from lexiseg.errors import BadPhrase, BrokenWeights, UnsupportedByModel
from lexiseg.models.encoders.open_clip_dense import (
    attention_features,
    class_token_features,
    dense_and_whole_features,
    dense_features,
    is_plain_vit,
    region_features,
    unit,
)
from lexiseg.models.encoders.open_clip_folder import CONFIG_NAME, Tokenizer, is_port
from lexiseg.models.encoders.open_clip_known import KnownWordings, read_known, sentences_of
from lexiseg.models.encoders.open_clip_layers import SaliencyLayers, find_layers, patch, probe_default, rest_of, tapped
from lexiseg.models.encoders.open_clip_text import read_phrases
from lexiseg.models.fpn import EnsembleTower, FPNTower
from lexiseg.models.lean import LeanCopy
from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.models.protocols import CalibratedEncoder, Encoder, SelectiveEncoder, WordJudge
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.values.calibration import AS_IT_IS, Calibration

if TYPE_CHECKING:
    from lexiseg.models.families import ModelFiles

logger = logging.getLogger(__name__)

NAME = "open_clip (open_clip_config.json; BiomedCLIP's transformers port; ARCHITECTURE[:TAG])"

# How many layers this thread has patched, of any encoder.
_PATCHES: ContextVar[int] = ContextVar("patches", default=0)


def recognises(files: ModelFiles) -> bool:
    """An open_clip folder, that of BiomedCLIP's transformers port, or an architecture of open_clip."""
    return bool(files.architecture[0]) or files.has(CONFIG_NAME) or (files.is_folder and is_port(files.place))


def load(files: ModelFiles, *, device: torch.device, precision: str) -> OpenClipEncoder:
    """The encoder of a folder, or of a named architecture with its pretrained weights."""
    from lexiseg.models.encoders.open_clip_folder import build_model, build_tokenizer, load_named

    known = None
    if files.architecture[0]:
        model, tokenizer, info = load_named(files.ref, *files.architecture, offline=files.offline)
    else:
        model, tokenizer, info = build_model(files), build_tokenizer(files), files.info
        known = read_known(files.place)
    return OpenClipEncoder(
        model, tokenizer, name=files.ref, device=device, precision=precision, weights=info, known=known
    )


def require_open_clip(encoder: Encoder) -> OpenClipEncoder:
    """The same encoder, for training, which needs open_clip's model itself.

    Raises:
        UnsupportedByModel: it is of another family.
    """
    if not isinstance(encoder, OpenClipEncoder):
        raise UnsupportedByModel(f"{encoder.name} is a {type(encoder).__name__}; expected a model of open_clip")
    return encoder


class OpenClipEncoder(WordJudge, CalibratedEncoder, SelectiveEncoder):
    """A vision-language model of open_clip behind the `Encoder` protocol, whose docstrings hold here.

    Args:
        model: any open_clip model with `visual`, `encode_image` and `encode_text`.
        tokenizer: phrases -> token ids (N, L).
        name: how the model was asked for.
        device: where it shall run.
        precision: "auto", "float32" or "bfloat16" (`resolve_precision`); parameters stay float32, and so does
            everything that comes out.
        weights: where the weights come from, for provenance; None for a model made in memory.
        known: which wordings its text tower was taught, where that is known.
        begun_from: "bundled" of weights that were tuned from those that ship, and so know no more words than they.

    Raises:
        BrokenWeights: the model's input is not square, or its preprocessing lacks a mean and a deviation.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        name: str,
        device: torch.device,
        precision: str = "auto",
        weights: WeightsInfo | None = None,
        known: KnownWordings | None = None,
        begun_from: str = "",
    ) -> None:
        self.begun_from = begun_from
        self._model = cast(Any, model.eval().requires_grad_(False).to(device))
        self._tokenizer = tokenizer
        self._name = name
        self._device = device
        self._dtype = resolve_precision(precision, device)
        tower = self._model.visual
        own = isinstance(getattr(tower, "trunk", None), FPNTower | EnsembleTower)
        self._is_vit = is_plain_vit(tower)
        # A ViT in float32 gains too little for as much memory again.
        leans = own or (self._is_vit and self._dtype != torch.float32)
        self._lean = LeanCopy(tower, device=device, dtype=self._dtype) if leans else None
        self.weights = weights
        self._known = known
        size = self._model.visual.preprocess_cfg["size"]
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        if height != width:
            raise BrokenWeights(f"{name} takes {height} x {width} images; only square inputs are supported")
        self._size = int(height)
        self._mean, self._std = (
            torch.tensor(self._model.visual.preprocess_cfg[key], dtype=torch.float32, device=device).view(3, 1, 1)
            for key in ("mean", "std")
        )

    @property
    def name(self) -> str:
        """How the model was asked for."""
        return self._name

    @property
    def input_size(self) -> int:
        """Side of the square input, in pixels."""
        return self._size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    @property
    def mean(self) -> Tensor:
        """Mean of the training images, (3, 1, 1)."""
        return self._mean

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of the training images, (3, 1, 1)."""
        return self._std

    @property
    def model(self) -> nn.Module:
        """The open_clip model itself, for training and for whoever needs what the protocol does not offer."""
        self._lean = None  # whoever has the model may train it
        return self._model  # type: ignore[no-any-return]

    @property
    def tokenizer(self) -> Tokenizer:
        """Phrases -> token ids (N, L), for training; what is too long is cut without a word."""
        return self._tokenizer

    @property
    def precision(self) -> str:
        """The number format of the towers' matrix products: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    @cached_property
    def logit_scale(self) -> float:
        """exp of the learnt log-temperature."""
        return float(self._model.logit_scale.exp())

    @cached_property
    def logit_bias(self) -> float:
        """The learnt bias of a sigmoid-trained model, else 0."""
        bias = getattr(self._model, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        """Embeddings of the phrases, (N, E), unit length; a phrase that is too long is cut, and a log line
        says so.  Where the concepts' places are known, a phrase that names one (`names`) lies at its place.

        Raises:
            BadPhrase: no phrase at all, or an empty one.
        """
        if not phrases or any(not phrase.strip() for phrase in phrases):
            raise BadPhrase(f"got {list(phrases)!r}, expected one phrase or more, none empty")
        tokens = self._tokens(phrases)
        if self._known is not None and self._known.places:
            return self._at_their_places(phrases, self._sentences(tokens), self._known)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            features = self._model.encode_text(tokens)
        return _outside(nn.functional.normalize(features.float(), dim=-1))

    def _at_their_places(self, phrases: Sequence[str], sentences: Tensor, known: KnownWordings) -> Tensor:
        with torch.inference_mode():
            rows = nn.functional.normalize(self._model.text.proj(sentences).float(), dim=-1)
            for row, sentence, phrase in zip(rows, sentences, phrases, strict=True):
                named = known.concept(sentence, phrase)
                if named is not None and named in known.places:
                    row.copy_(known.places[named])
        return _outside(rows)

    def _sentences(self, tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            return sentences_of(self._model.text, tokens)

    @property
    def judges_words(self) -> bool:
        """Whether `names` can be asked: the text tower came with the wordings that it was taught."""
        return self._known is not None

    @cached_property
    def words(self) -> frozenset[str]:
        """See `WordJudge`: of a Hugging Face tokenizer, the tokens that are words."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        tokens = inner.get_vocab() if inner is not None else ()
        return frozenset(token for token in tokens if token.isascii() and token.isalpha() and token.islower())

    def names(self, phrase: str) -> str | None:
        """What a phrase names: a concept, "" for something that no scan was drawn with, None for a word that the text
        tower was not taught; see `open_clip_known`.

        Raises:
            UnsupportedByModel: nobody knows what it was taught (`judges_words`).
        """
        if self._known is None:
            raise UnsupportedByModel(f"{self._name} does not say which wordings it was taught")
        return self._known.concept(self._sentences(self._tokens([phrase]))[0], phrase)

    def calibration(self, phrase: str) -> Calibration:
        """See `CalibratedEncoder`."""
        known = self._known.calibrations if self._known is not None else {}
        return (known.get(phrase) or known.get(self.names(phrase) or "", AS_IT_IS)) if known else AS_IT_IS

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embeddings of the images, (B, E), unit length; no gradient, but for what `patched` brings in."""
        if _PATCHES.get():
            with _differentiable(), autocast(self._device, self._dtype):
                return self._embed(self._normalised(pixels.detach().clone()))
        with torch.inference_mode(), autocast(self._device, self._dtype):
            tower, normalised = self._answering(pixels)
            whole = self._model.encode_image if tower is self._model.visual else tower
            short = class_token_features(tower, normalised) if self._is_vit else None
            features = self._unit(whole(normalised) if short is None else short)
        return _outside(features)

    def encode_dense(self, pixels: Tensor, attention: str = "value") -> Tensor:
        """One embedding for each position, (B, E, h, w), unit length over E; see `open_clip_dense`."""
        if attention != "value":
            return self.encode_dense_and_image(pixels, attention)[0]
        with torch.inference_mode(), autocast(self._device, self._dtype):
            features = dense_features(*self._answering(pixels))
        return _outside(self._unit(features))

    def encode_dense_and_image(self, pixels: Tensor, attention: str = "value") -> tuple[Tensor, Tensor]:
        """Both of the above; one forward but for a ViT's value path."""
        with torch.inference_mode(), autocast(self._device, self._dtype):
            tower, normalised = self._answering(pixels)
            if attention == "value":
                dense, whole = dense_and_whole_features(tower, normalised, self._model.encode_image)
            else:
                dense, whole = attention_features(tower, normalised, attention)
        return _outside(self._unit(dense)), _outside(self._unit(whole))

    def encode_regions(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Embeddings of the regions (R, S, S) of one image, (R, E), unit length; see `open_clip_attention`."""
        with torch.inference_mode(), autocast(self._device, self._dtype):
            features = region_features(self._model.visual, self._normalised(pixels), masks.to(self._device))
        return _outside(nn.functional.normalize(features.float(), dim=-1))

    @contextmanager
    def held_against(self, texts: Tensor) -> Iterator[None]:
        """Within, in this thread, embeddings of images need be right for products with these texts (N, E) alone: towers
        that none of them looks at are not asked.
        """
        with nullcontext() if self._trunk is None else self._trunk.only_for(texts):
            yield

    def default_layer(self) -> str:
        """The saliency layer; see `open_clip_layers`."""
        return self._layers.default

    def layers(self) -> tuple[str, ...]:
        """Names that `activations` takes, shallow to deep."""
        return self._layers.names

    def activations(
        self, pixels: Tensor, layer: str, score: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """A layer's maps (C, h, w), and the gradients (N, C, h, w) of N scores; one forward serves all
        scores.
        """
        if pixels.shape[0] != 1:
            raise ValueError(f"got {pixels.shape[0]} images, expected one")
        channels_last = self._layers.channels_last
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(score is not None),
            autocast(self._device, self._dtype),
            tapped(self._model.visual, layer, channels_last=channels_last, gradient=score is not None) as tap,
        ):
            embedding = self._embed(self._normalised(pixels.detach().clone()))
            if tap.maps is None:
                raise UnsupportedByModel(f"the layer {layer!r} takes no part in encoding an image")
            maps = tap.maps[0].float()
            if score is None:
                return maps, None
            leaf = tap.leaf
            assert leaf is not None
            scores = score(embedding)
            gradients = [torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)[0] for value in scores]
        zero = torch.zeros_like(leaf)
        stacked = [tap.to_map(zero if gradient is None else gradient)[0] for gradient in gradients]
        return maps, torch.stack(stacked).detach().float()

    @contextmanager
    def patched(self, layer: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace a layer's features, in this thread, by a function of them; see the protocol."""
        with patch(self._model.visual, layer, function, channels_last=self._layers.channels_last):
            before = _PATCHES.set(_PATCHES.get() + 1)
            try:
                yield
            finally:
                _PATCHES.reset(before)

    def forward_from(self, layer: str, features: Tensor) -> Tensor:
        """Embeddings (B, E) of what follows a whole block or stage; see the protocol."""
        rest = rest_of(self._model.visual, layer)
        with _differentiable(), autocast(self._device, self._dtype):
            given = features.clone() if features.is_inference() else features
            return nn.functional.normalize(rest(given.to(self._device)).float(), dim=-1)

    @cached_property
    def _layers(self) -> SaliencyLayers:
        found = find_layers(self._model.visual)
        if found.default:
            return found
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(1, 3, self._size, self._size, generator=generator).to(self._device)
        with torch.inference_mode(False):
            name = probe_default(self._model.visual, self._embed, self._normalised(pixels))
        logger.info("%s: no rule for its image tower; a gradient probe chose the layer %s", self._name, name)
        return SaliencyLayers((name,), name)

    def _normalised(self, pixels: Tensor) -> Tensor:
        expected = (3, self._size, self._size)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise ValueError(
                f"got pixels of shape {tuple(pixels.shape)}, expected (B, {', '.join(map(str, expected))})"
            )
        return (pixels.to(self._device, torch.float32) - self._mean) / self._std

    def _answering(self, pixels: Tensor) -> tuple[Any, Tensor]:
        """The image tower that only answers, and what it is shown; the model's own where a layer is patched."""
        normalised = self._normalised(pixels)
        lean = self._lean
        if lean is None or _PATCHES.get():
            return self._model.visual, normalised
        return lean.made, normalised.contiguous(memory_format=torch.channels_last)

    def _embed(self, normalised: Tensor) -> Tensor:
        return self._unit(self._model.encode_image(normalised))

    def _unit(self, features: Tensor) -> Tensor:
        """Of unit length over axis 1; what several towers say is so already, and shorter where some were idle."""
        return features.float() if self._trunk is not None else unit(features)

    @property
    def _trunk(self) -> EnsembleTower | None:
        trunk = getattr(self._model.visual, "trunk", None)
        return trunk if isinstance(trunk, EnsembleTower) else None

    def _tokens(self, phrases: Sequence[str]) -> Tensor:
        padding = getattr(getattr(getattr(self._model, "text", None), "config", None), "pad_token_id", None)
        return read_phrases(self._tokenizer, list(phrases), name=self._name, padding=padding).to(self._device)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Out of inference mode; gradients are recorded if they were before."""
    wanted = torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(wanted):
        yield


def _outside(tensor: Tensor) -> Tensor:
    """A copy that autograd may use: tensors made in inference mode cannot be saved for a backward pass."""
    with torch.inference_mode(False):
        return tensor.clone()
