"""Files to masks in one call: what a run is given, what it tells, and what `lexiseg segment` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lexiseg.errors import UsageError
from lexiseg.io.dicom.pseudonyms import own_pseudonyms
from lexiseg.io.segments import SegType, WriteOptions
from lexiseg.io.sources import SourceOptions
from lexiseg.machine import starting
from lexiseg.models.weights.records import parse_reference
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.runs.folder import check_folder
from lexiseg.runs.formats import export_names, parse_formats
from lexiseg.runs.items import gather_items
from lexiseg.saliency.thresholds import Seen, common_threshold, parse_wanted, read_seen
from lexiseg.settings import check_precision
from lexiseg.text.known import bundled_vocabulary, refuse_several
from lexiseg.text.phrases import check_phrase

if TYPE_CHECKING:
    from lexiseg.io.dicom.pseudonyms import Pseudonyms
    from lexiseg.pipelines.base import TextPipeline
    from lexiseg.pipelines.results import Result
    from lexiseg.runs.batch import Observe
    from lexiseg.values.scans import Planes, Scan


class Pipeline(Protocol):
    """What a run asks of a pipeline."""

    preset: Any
    """With a `name`, and `as_dict` for the record."""
    encoder: Any
    segmenter: Any

    @property
    def provenance(self) -> Any:
        """Preset and weights, as plain values."""

    def planes(self, scan: Scan, phrases: Sequence[str] = ()) -> Planes:
        """The planes of a scan as the pipeline sees them, asked for phrases."""

    def __call__(
        self,
        scan: Scan,
        phrases: Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Result:
        """Segment a scan."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is done.

    Attributes:
        save_stages: write the saliency, the refined region and the prompts of each scan too.
        overlay: write a picture of each scan too.
        resume: keep what an earlier run of the same folder, settings and weights has done, also of a volume in the
            middle of which it ended; failed scans are tried again.
        seed: of every random number.
        formats: of each scan's masks; by the scan's kind when empty, see `lexiseg.io.write.default_formats`.
        exports: "coco" and "nnunet", written at the end of all scans together. Masks in the scans' own kind are
            written too, of which they are made.
        seg_type: "binary", "labelmap" or "fractional" of DICOM SEG.
        deidentify: DICOM SEG and structure sets get pseudonyms in the place of identifiers and UIDs.

    Raises:
        UsageError: there is no such format or type.
    """

    save_stages: bool = False
    overlay: bool = False
    resume: bool = False
    seed: int = 0
    formats: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    seg_type: SegType = "binary"
    deidentify: bool = False

    def __post_init__(self) -> None:
        if parse_formats((*self.formats, *self.exports)) != (self.formats, self.exports):
            raise UsageError("formats of one scan and of all scans are mixed up; expected `parse_formats` of them")
        WriteOptions(seg_type=self.seg_type)

    def record(self, pseudonyms: Pseudonyms | None = None) -> dict[str, Any]:
        """What decides which files there are, for run.json."""
        return {
            "save_stages": self.save_stages,
            "overlay": self.overlay,
            "formats": [*self.formats, *self.exports] or "by kind",
            "seg_type": self.seg_type,
            "deidentify": pseudonyms.fingerprint if pseudonyms is not None else False,
        }


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done: scans done or failed in this session; a volume that is being worked on counts by its slices.
        total: scans that this session has to do (those an earlier one did are left out).
        scan: the path, as it was given, of the scan that is worked on.
        failed: how many of them failed.
        slice: how many slices of a volume that is being worked on are done.
        slices: how many it has; 0 of an image.
    """

    done: float
    total: int
    scan: str
    failed: int
    slice: int = 0
    slices: int = 0


@dataclass(frozen=True)
class RunSummary:
    """How a run ended; `done` and `failed` add up to its scans.

    Attributes:
        folder: where the results are.
        done: scans with a mask.
        absent: those of them in which no phrase was found, all being known.
        failed: scans whose rows say why.
        skipped: those of `done` that an earlier run had done.
        seconds: wall time of this session.
        unknown: those of `done` that were asked for a phrase that the models do not know.
    """

    folder: Path
    done: int
    absent: int
    failed: int
    skipped: int
    seconds: float
    unknown: int = 0

    def __str__(self) -> str:
        earlier = f" ({self.skipped} by an earlier run)" if self.skipped else ""
        unknown = f"{self.unknown} unknown, " if self.unknown else ""
        return (
            f"{self.done} done{earlier}, {self.absent} absent, {unknown}{self.failed} failed "
            f"in {self.seconds:.1f} s: {self.folder}"
        )

    def counts(self) -> dict[str, int]:
        """The numbers of scans, for run.json."""
        scans = self.done + self.failed
        return {"scans": scans, "done": self.done, "absent": self.absent, "unknown": self.unknown,
                "failed": self.failed, "skipped": self.skipped}  # fmt: skip


def tunes(how: str, preset: Preset) -> bool:
    """Whether settings are chosen on some of the scans, see `tune_label_free`, and not the preset's as they are.

    Args:
        how: "fixed", "label-free", or "auto", which is label-free where a few forwards tell, as of MedCLIP-SAM, whose
            look is all that is chosen.
        preset: what would be tuned.

    Raises:
        UsageError: there is no such way, or the preset cannot be tuned.
    """
    if how not in ("fixed", "label-free", "auto"):
        raise UsageError(f"there is no tuning {how!r}; expected fixed, label-free or auto")
    if how == "label-free" and not preset.tunable:
        raise UsageError(
            f"the preset {preset.name!r} has no settings that can be tuned without labels; "
            "expected one of SaLIP or MedCLIP-SAM, such as demo"
        )
    return how == "label-free" or (how == "auto" and preset.tunable and preset.reads("look"))


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What to segment, with what, and where to.

    Attributes:
        out: the results' folder.
        inputs: files and folders.
        manifest: a CSV of scans, besides or instead of `inputs`; see `gather_items`.
        root: of the manifest's paths; its own folder when None.
        phrases: what to look for in every scan; may be empty where the manifest says it.
        preset: a preset's name or YAML file.
        changes: fields of the preset to replace, see `Preset.override`.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: views, crops, points or slices that go through a model at once; the preset's when None.
        tune: "fixed" for the preset's settings as they are, "label-free" to choose among a few by
            `tune_label_free` on some of the scans, "auto" for the one or the other by the preset, see `tunes`.
        options: see `RunOptions`.
        reading: which series of a folder, and which volume of several.
    """

    out: Path
    inputs: Sequence[str | Path] = ()
    manifest: str | Path | None = None
    root: str | Path | None = None
    phrases: Sequence[str] = ()
    preset: str = "demo"
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    tune: str = "fixed"
    options: RunOptions = field(default_factory=RunOptions)
    reading: SourceOptions = field(default_factory=SourceOptions)


def wanted_threshold(request: RunRequest) -> tuple[dict[str, Any], str | None]:
    """The request's changes without a threshold such as "auto:sensitivity=0.95", and that; None where there is none.

    Whether it can be read is for `seen_by` to say, which knows whether the preset takes any such.
    """
    changes = dict(request.changes)
    presence = changes.get("presence")
    wanted = presence.get("threshold") if isinstance(presence, Mapping) else None
    if not isinstance(wanted, str):
        return changes, None
    kept = {name: value for name, value in changes.pop("presence").items() if name != "threshold"}
    # A pipeline that reads no such section is not told of an empty one: the threshold is what is wrong.
    return (changes | {"presence": kept} if kept else changes), wanted


def seen_by(preset: Preset, wanted: str) -> Mapping[str, Seen]:
    """What the preset's encoder said of scans that were kept back, by target; no model is loaded for that.

    Args:
        preset: whose encoder is asked.
        wanted: as for `parse_wanted`.

    Raises:
        UsageError: there is no such record, or what is wanted of it cannot be read.
        UnknownModel: there is no such encoder.
    """
    named = f"threshold is {wanted!r}; the preset {preset.name!r} takes"
    if not preset.reads("presence"):
        raise UsageError(f"{named} none, since it weighs no presence; leave the threshold out")
    folder = parse_reference(preset.encoder, "encoder").path if preset.needs_encoder else None
    seen = read_seen(folder) if folder is not None else {}
    if not seen:
        why = (
            f"its encoder {preset.encoder!r} carries no" if preset.needs_encoder else "it has no encoder that carries a"
        )
        raise UsageError(
            f"{named} 0 to 1 alone: {why} record of scans that were kept back; give a number, or use the preset demo "
            "with its own encoder"
        )
    parse_wanted(wanted)
    return seen


def with_threshold(
    pipeline: TextPipeline, phrases: Sequence[str], seen: Mapping[str, Seen], wanted: str
) -> TextPipeline:
    """The pipeline with the threshold of the target that it reads the phrases as; its models are shared.

    Args:
        pipeline: from `lexiseg.load`.
        phrases: that will be asked, at least one.
        seen: see `seen_by`.
        wanted: as for `parse_wanted`.

    Raises:
        UsageError: nothing is known of a phrase, or several phrases need thresholds of their own.
    """
    words = pipeline.vocabulary or bundled_vocabulary()
    threshold = common_threshold(seen, {text: words.concept(text) for text in phrases}, wanted)
    changed = pipeline.preset.override(presence={"threshold": threshold})
    return type(pipeline)(changed, pipeline.encoder, pipeline.segmenter)


def segment_files(
    request: RunRequest,
    *,
    progress: Callable[[RunProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
    observe: Observe | None = None,
) -> RunSummary:
    """Segment files into a folder; see `run_batch` for what is written.

    All that can be wrong with the request is told before an earlier run's results are touched, and before a model is
    loaded, but that a phrase has no threshold of what was wanted: only the loaded encoder hears what it names.

    Args:
        request: see `RunRequest`.
        progress: called with how far the run is.
        fetched: told (file, bytes done, bytes in all) while a model is fetched.
        observe: see `run_batch`.

    Raises:
        UsageError: the request cannot be done as it is.
        LexisegError: the models cannot be had, or the results not be written.
    """
    changes, wanted = wanted_threshold(request)
    preset = load_preset(request.preset, **changes)
    seen = {} if wanted is None else seen_by(preset, wanted)
    if wanted is not None and not request.phrases:
        raise UsageError(f"--threshold {wanted} needs --text: every target has a threshold of its own")
    if request.batch is not None:
        preset = preset.at_once(request.batch)
    tuning = tunes(request.tune, preset)
    phrases = [check_phrase(text) for text in request.phrases]
    if preset.encoder == "bundled":
        for text in phrases:
            refuse_several(text, bundled_vocabulary())
    items = gather_items(
        request.inputs, manifest=request.manifest, root=request.root, phrases=request.phrases, reading=request.reading
    )
    if preset.needs_truth and not any(item.mask for item in items):
        raise UsageError(
            f"the preset {preset.name!r} needs the boxes of true masks; give a manifest with a mask column"
        )
    if request.options.deidentify:
        own_pseudonyms()
    check_folder(request.out, items, resume=request.options.resume, exports=export_names(request.options))
    check_precision(request.precision)
    # From here on torch and the models take seconds.
    with starting():
        from lexiseg.models.loading import resolve_device
        from lexiseg.pipelines import loading
        from lexiseg.runs.batch import run_batch
        from lexiseg.runs.tuned import tuned_pipeline

        resolve_device(request.device)
        pipeline = loading.load(preset, device=request.device, precision=request.precision, progress=fetched)
    if wanted is not None:
        pipeline = with_threshold(pipeline, phrases, seen, wanted)
    tuned = None
    if tuning:
        pipeline, tuned = tuned_pipeline(pipeline, items, request.out, resume=request.options.resume, progress=progress)
    return run_batch(
        pipeline,
        items,
        request.out,
        phrases=phrases,
        options=request.options,
        progress=progress,
        observe=observe,
        tuned=tuned,
        reading=request.reading.record(),
    )
