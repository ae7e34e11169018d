"""Presets and their models: loaded once, when they are first asked, and shared by all visitors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lexiseg.errors import LexisegError, UsageError
from lexiseg.models.weights.records import parse_reference
from lexiseg.pipelines.preset import Preset, load_preset, preset_names

if TYPE_CHECKING:
    from lexiseg.pipelines.base import TextPipeline
    from lexiseg.pipelines.cache import EncodingCache
    from lexiseg.session.later import Later

logger = logging.getLogger(__name__)


class Models:
    """The presets of a server.

    Args:
        default: the preset's name or file that answers unless another is asked for.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: see `Preset.at_once`; None for what each preset says.
        encodings: bytes of encodings that are kept.
        segmenter: in place of the default preset's, which draws clicks and boxes too; "" leaves it.
        load: makes a preset's pipeline; `lexiseg.pipelines.loading.load` when None.

    Raises:
        UsageError: the preset or the segmenter is unknown, or a yardstick that needs true masks; the batch is none.
    """

    def __init__(
        self,
        default: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        encodings: int = 2**29,
        segmenter: str = "",
        load: Callable[[Preset], TextPipeline] | None = None,
    ) -> None:
        chosen = load_preset(default)
        if segmenter:
            parse_reference(segmenter, "segmenter")  # an unknown one is told now, not at the first click
            chosen = chosen.override(segmenter=segmenter)
        if chosen.needs_truth:
            raise UsageError(f"the preset {chosen.name!r} needs true masks; expected one that a phrase is enough for")
        self.default, self._device, self._precision, self._limit = chosen.name, device, precision, encodings
        self._maker = load
        named = {name: load_preset(name) for name in preset_names()}
        self.presets = {
            name: preset if batch is None else preset.at_once(batch)
            for name, preset in {**named, chosen.name: chosen}.items()
            if not preset.needs_truth
        }
        self._lock = threading.Lock()
        self._later: dict[str, Later] = {}
        self._encodings: EncodingCache | None = None
        self.thread: threading.Thread | None = None
        self._closed = False

    def get(self, name: str | None = None) -> Later:
        """A preset; its models are loaded when they are needed.

        Raises:
            UsageError: there is no such preset.
        """
        from lexiseg.session.later import Later

        wanted = name or self.default
        if wanted not in self.presets:
            raise UsageError(f"there is no preset {wanted!r}; expected one of {', '.join(self.presets)}")
        with self._lock:
            if wanted not in self._later:
                self._later[wanted] = Later(self.presets[wanted], lambda: self._load(wanted))
            return self._later[wanted]

    @property
    def ready(self) -> bool:
        """Whether the default preset's models are loaded; nothing is loaded by asking."""
        later = self._later.get(self.default)
        return later is not None and later.ready

    @property
    def encodings(self) -> EncodingCache:
        """What planes were encoded to, of all visitors."""
        from lexiseg.pipelines.cache import EncodingCache

        with self._lock:
            if self._encodings is None:
                self._encodings = EncodingCache(self._limit)
            return self._encodings

    def warm(self) -> None:
        """Load the default preset's models in the background; what goes wrong is told when they are asked."""

        def load() -> None:
            try:
                self.get().real()
            except Exception as error:  # whoever asks is told; at shutdown nobody does
                # A server that stops takes the folder away into which models are unpacked.
                if isinstance(error, LexisegError) and not self._closed:
                    logger.warning("%s", error)
                else:
                    logger.debug("the models could not be loaded", exc_info=True)

        self.thread = threading.Thread(target=load, name="models", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Say nothing any more of models that cannot be loaded."""
        self._closed = True

    def _load(self, name: str) -> TextPipeline:
        if self._maker is not None:
            return self._maker(self.presets[name])
        from lexiseg.pipelines import loading

        # Presets that name the same models share them.
        chosen = self.presets[name]
        kind = loading.PIPELINES[chosen.pipeline]
        with self._lock:
            loaded = list(self._later.values())
        for other in loaded:
            same = (other.preset.encoder, other.preset.segmenter) == (chosen.encoder, chosen.segmenter)
            if other.ready and same and loading.PIPELINES[other.preset.pipeline].reads_text == kind.reads_text:
                real = other.real()
                return kind(chosen, real.encoder, real.segmenter)
        return loading.load(chosen, device=self._device, precision=self._precision)
