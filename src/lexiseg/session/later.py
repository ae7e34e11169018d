"""What a session asks: a pipeline, what holds one, or one whose models are loaded when they are first asked.

So a scan can be looked at before that.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from lexiseg.errors import UsageError
from lexiseg.models.protocols import Segmenter
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.preset import Preset
from lexiseg.values.scans import Planes, Scan


class Later:
    """What a session needs of a pipeline before anything is asked; the rest waits for the models.

    Args:
        preset: its settings.
        load: makes the pipeline; called once, also by several threads at once.
    """

    def __init__(self, preset: Preset, load: Callable[[], TextPipeline]) -> None:
        self.preset, self._load = preset, load
        self._lock = Lock()
        self._real: TextPipeline | None = None

    @property
    def threshold(self) -> float | None:
        """The preset's presence, below which a phrase is absent; None for none."""
        return self.preset.threshold

    @property
    def segmenter(self) -> Segmenter:
        """The pipeline's."""
        return self.real().segmenter

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._real is not None

    def planes(self, scan: Scan) -> Planes:
        """See `TextPipeline.planes`."""
        volume = self.preset["volume"]
        return scan.planes(volume.plane, volume.window)

    def real(self) -> TextPipeline:
        """The pipeline, loaded now where it was not.

        Raises:
            LexisegError: its weights are missing or broken; the next call tries again.
        """
        with self._lock:
            if self._real is None:
                self._real = self._load()
            return self._real


class HoldsPipeline(Protocol):
    """What `lexiseg.load` returns."""

    @property
    def pipeline(self) -> TextPipeline:
        """What does the work."""


Asked = TextPipeline | Later | HoldsPipeline
"""What a session may be given to ask."""


def pipeline_of(asked: Asked) -> TextPipeline | Later:
    """The pipeline of what a session is given.

    Raises:
        UsageError: it is no pipeline, and holds none.
    """
    if isinstance(asked, (TextPipeline, Later)):
        return asked
    held = getattr(asked, "pipeline", None)
    if not isinstance(held, TextPipeline):
        raise UsageError(f"pipeline is a {type(asked).__name__}; expected what lexiseg.load returns")
    return held
