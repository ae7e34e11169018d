"""The front door for Python: any scan and a phrase in, a mask with its verdict out."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lexiseg.errors import UsageError
from lexiseg.io.names import safe_id
from lexiseg.io.objects import as_scan
from lexiseg.pipelines import loading
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.pipelines.results import Result
from lexiseg.runs.formats import parse_formats
from lexiseg.runs.outputs import OutputOptions, write_outputs
from lexiseg.runs.pictures import overlay_picture
from lexiseg.runs.viewer import View, view_result
from lexiseg.session import Session
from lexiseg.values.scans import Planes, Scan

_KEPT = 8
"""Pipelines with other settings that a segmenter keeps."""


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Result):
    """A `Result` with the scan that it is of: it can be saved and shown.

    Attributes:
        scan: what was segmented.
        shown: its planes, as the pipeline saw them.
    """

    scan: Scan | None = None
    shown: Planes | None = None

    def save(
        self, folder: str | Path, *, overlay: bool = False, stages: bool = False, formats: Sequence[str] = ()
    ) -> Path:
        """Write the masks as `lexiseg segment` does: NAME_mask.png or .nii.gz, and what is asked for.

        Args:
            folder: made if missing. Files of the same names there, as of another phrase of this scan, are replaced.
            overlay: write NAME_overlay.png too.
            stages: write saliency, region and prompts too; needs a call with `keep_stages`.
            formats: "png", "nifti", "nrrd", "dicom-seg", "rtstruct" and "stl"; by the scan's kind when empty.

        Returns:
            The folder.

        Raises:
            UsageError: stages are asked for and were not kept, or there is no such format of a single scan.
            FormatMismatch: none of the formats can hold the scan.
            UnwritableResult: the file system refused.

        Example:
            >>> result = segment("scan.png", "breast tumor")
            >>> sorted(path.name for path in result.save("masks", overlay=True).iterdir())
            ['scan_mask.png', 'scan_overlay.png']
        """
        assert self.scan is not None and self.shown is not None
        if stages and not all(target.saliency for target in self.targets):
            raise UsageError("stages were not kept; expected a call with keep_stages=True")
        folder = Path(folder)
        own, of_all = parse_formats(formats)
        if of_all:
            raise UsageError(f"{of_all[0]} is written of a whole run; expected lexiseg segment --format {of_all[0]}")
        options = OutputOptions(stages=stages, overlay=overlay, formats=own)
        write_outputs(self, self.scan, self.shown, folder, safe_id(self.id), options=options)
        return folder

    def overlay(self) -> NDArray[np.uint8]:
        """The scan with masks, boxes, phrases and presence: uint8 (H, W, 3); of a volume a few planes.

        Example:
            >>> segment("scan.png", "breast tumor").overlay().dtype
            dtype('uint8')
        """
        assert self.shown is not None
        return overlay_picture(self, self.shown)

    def view(self) -> View:
        """A figure to look through in a notebook: slices, masks, heat maps, zoom and window; no server is needed.

        A heat map is offered of a call with `keep_stages`. `View.save` writes the figure as one HTML document.

        Example:
            >>> segment("scan.png", "breast tumor").view().save("figure.html").name
            'figure.html'
        """
        assert self.shown is not None
        return view_result(self, self.shown)

    def _repr_html_(self) -> str:
        """A picture and a table, for notebooks."""
        file = io.BytesIO()
        Pillow.fromarray(self.overlay()).save(file, format="PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        rows = "".join(
            f"<tr><td>{html.escape(target.phrase)}</td><td>{target.verdict}</td>"
            f"<td>{target.presence:.2f}</td><td>{target.confidence:.2f}</td></tr>"
            for target in self.targets
        )
        return (
            f'<figure><img alt="{html.escape(self.id)}" src="data:image/png;base64,{picture}"></figure>'
            f"<table><tr><th>phrase</th><th>answer</th><th>presence</th><th>confidence</th></tr>{rows}</table>"
        )


class TextSegmenter:
    """A loaded preset that takes any kind of scan; several threads may share it.

    Args:
        pipeline: what does the work.
    """

    def __init__(self, pipeline: TextPipeline) -> None:
        self.pipeline = pipeline
        # With other settings: they keep what phrases were embedded as, for a loop over scans.
        self._others: OrderedDict[tuple[float | None, str | None, str | None], TextPipeline] = OrderedDict()

    @property
    def preset(self) -> Preset:
        """Its models and settings."""
        return self.pipeline.preset

    @property
    def encoder(self) -> Any:
        """The vision-language model."""
        return self.pipeline.encoder

    @property
    def segmenter(self) -> Any:
        """The promptable segmenter."""
        return self.pipeline.segmenter

    def __call__(
        self,
        scan: Any,
        phrases: str | Sequence[str],
        *,
        threshold: float | None = None,
        plane: str | None = None,
        window: str | None = None,
        spacing: tuple[float, ...] | None = None,
        affine: NDArray[np.floating] | None = None,
        keep_stages: bool = False,
        progress: Callable[[float], None] | None = None,
        **truth: Any,
    ) -> Segmentation:
        """Segment a scan by one phrase or several.

        Args:
            scan: a path, a NumPy array, an image of Pillow, nibabel or pydicom, or an `Image` or `Volume`; see
                `lexiseg.io.objects.as_scan`.
            phrases: what to look for.
            threshold: the presence below which a phrase is absent, 0 to 1; the preset's when None.
            plane: in which a volume is looked at: auto, axial, coronal or sagittal; the preset's when None.
            window: what is black and white: auto, file, percentiles, lung, soft-tissue, bone, brain, or
                "centre,width"; the preset's when None.
            spacing: mm along an array's axes.
            affine: (4, 4) of an array that is a volume, voxel (column, row, slice) to RAS+ mm.
            keep_stages: keep what each stage made, in `TargetResult.saliency`, `region` and `matches`.
            progress: called with the share done.
            truth: `truth=` the true mask, of yardsticks alone.

        Raises:
            UsageError: an argument that cannot be.
            UnreadableScan: the scan cannot be read.

        Example:
            >>> ask = load("demo")
            >>> [target.verdict for target in ask("scan.png", ["breast tumor", "fetal head"]).targets]
            ['present', 'absent']
        """
        given = as_scan(scan, spacing=spacing, affine=affine)
        pipeline = self._changed(threshold, plane, window)
        if "truth" in truth and not pipeline.needs_truth:
            raise UsageError(f"truth is given to the preset {self.preset.name!r}; expected it with yardsticks alone")
        result = pipeline(given, phrases, keep_stages=keep_stages, progress=progress, **truth)
        values = {each.name: getattr(result, each.name) for each in fields(Result)}
        return Segmentation(**values, scan=given, shown=pipeline.planes(given, phrases))

    def planes(self, scan: Scan) -> Planes:
        """The planes of a scan as the pipeline sees them."""
        return self.pipeline.planes(scan)

    def session(
        self,
        scan: Any,
        *,
        plane: str | None = None,
        window: str | None = None,
        spacing: tuple[float, ...] | None = None,
        affine: NDArray[np.floating] | None = None,
    ) -> Session:
        """A scan to be asked by words and corrected by clicks; see `Session`. Arguments as of a call.

        Example:
            >>> load("demo").session("scan.png").targets
            ()
        """
        return Session(self._changed(None, plane, window), as_scan(scan, spacing=spacing, affine=affine))

    def __repr__(self) -> str:
        return f"<lexiseg preset {self.preset.name}: {self.preset.encoder} and {self.preset.segmenter}>"

    def _changed(self, threshold: float | None, plane: str | None, window: str | None) -> TextPipeline:
        """The pipeline with other settings; its models are shared."""
        wanted = threshold, plane, window
        found = self._others.get(wanted) or self._with(*wanted)
        self._others[wanted] = found
        while len(self._others) > _KEPT:
            self._others.popitem(last=False)
        return found

    def _with(self, threshold: float | None, plane: str | None, window: str | None) -> TextPipeline:
        changes: dict[str, dict[str, Any]] = {}
        if threshold is not None:
            changes["presence"] = {"threshold": threshold}
        looks = {"plane": plane, "window": window}
        if any(value is not None for value in looks.values()):
            changes["volume"] = {name: value for name, value in looks.items() if value is not None}
        if not changes:
            return self.pipeline
        preset = self.preset.override(**changes)
        return type(self.pipeline)(preset, self.pipeline.encoder, self.pipeline.segmenter)


def load(
    preset: str | Preset = "demo",
    *,
    device: str = "auto",
    precision: str = "auto",
    threshold: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **changes: Any,
) -> TextSegmenter:
    """Load a preset's models once, to segment many scans.

    Args:
        preset: a name (`lexiseg presets` lists them), a YAML file, or a `Preset`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bfloat16".
        threshold: the presence below which a phrase is absent, 0 to 1; the preset's when None.
        progress: told (file, bytes done, bytes in all) while a hub model is fetched.
        changes: fields of the preset, e.g. ``encoder="hf-hub:..."`` or ``saliency={"method": "gscorecam"}``;
            a section is merged into the preset's.

    Raises:
        UsageError: an unknown preset, field, setting, model or device.
        LexisegError: weights that are missing or broken.

    Example:
        >>> load("demo", threshold=0.5)
        <lexiseg preset demo: bundled and bundled>
    """
    if threshold is not None:
        changes["presence"] = {**changes.get("presence", {}), "threshold": threshold}
    return TextSegmenter(loading.load(preset, device=device, precision=precision, progress=progress, **changes))


def segment(
    scan: Any,
    phrases: str | Sequence[str],
    *,
    preset: str = "demo",
    threshold: float | None = None,
    device: str = "auto",
    **options: Any,
) -> Segmentation:
    """Segment one scan in one call; models stay loaded for the next.

    Args:
        scan: see `TextSegmenter.__call__`.
        phrases: what to look for.
        preset: a name or a YAML file.
        threshold: the presence below which a phrase is absent, 0 to 1; the preset's when None.
        device: see `load`.
        options: as for `TextSegmenter.__call__`.

    Raises:
        UsageError: an argument that cannot be.
        LexisegError: the scan cannot be read, or the models not be had.

    Example:
        >>> segment("scan.png", "breast tumor", threshold=0.5)["breast tumor"].verdict
        'present'
    """
    # Before any model: what is wrong with the call is told at once.
    chosen = load_preset(preset)
    if threshold is not None:
        chosen.override(presence={"threshold": threshold})
    given = as_scan(scan, spacing=options.pop("spacing", None), affine=options.pop("affine", None))
    return _loaded(preset, device, _state_of(chosen))(given, phrases, threshold=threshold, **options)


def _state_of(preset: Preset) -> str:
    """What a preset says now, and when its models' files were written: a file that is edited is read anew."""
    written = [
        file.stat().st_mtime_ns
        for place in (Path(preset.encoder), Path(preset.segmenter))
        for file in (sorted(place.iterdir()) if place.is_dir() else [place])
        if file.is_file()
    ]
    return json.dumps([preset.as_dict(), written], sort_keys=True, default=str)


@lru_cache(maxsize=2)
def _loaded(preset: str, device: str, state: str) -> TextSegmenter:
    return load(preset, device=device)
