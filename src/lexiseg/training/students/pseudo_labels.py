"""Scans without labels become a set to learn from: what `lexiseg pseudo-label` does."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg.datasets.exports import EXPORTS, Own, export_coco
from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.errors import NoLabels, UsageError
from lexiseg.files import atomic_write, remove_torn, sha256_of
from lexiseg.io.names import RESULTS_NAME, printable
from lexiseg.pipelines.preset import load_preset
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.segment import RunOptions, RunProgress, RunSummary, tunes
from lexiseg.runs.table import Row, read_record, read_results
from lexiseg.runs.tuned import tuned_pipeline
from lexiseg.text.known import bundled_vocabulary, refuse_several
from lexiseg.text.phrases import check_phrase
from lexiseg.training.settings import Settings, setting
from lexiseg.training.students.corrected import corrected_in, refuse_loss
from lexiseg.training.students.folder import remove_file
from lexiseg.training.students.labels import MANIFEST, RECORD, TEST, TRAIN, names_a_side, parts_of, tell_splits
from lexiseg.training.students.set_writer import Kept, SetWriter
from lexiseg.training.students.settings import BUNDLED
from lexiseg.training.students.soft import SOFT, SoftTeacher, soft_path
from lexiseg.training.students.views import twice_seen
from lexiseg.version import __version__

logger = logging.getLogger(__name__)

TEACHER = "teacher"
"""The folder of the teacher's own run: its masks, results.csv and run.json."""


@dataclass(frozen=True, kw_only=True)
class LabelRule(Settings):
    """What becomes of a scan, by its presence and confidence; no true mask is looked at."""

    confidence: float = setting(
        0.5, "Scans below this are left out; the others weigh as much as their confidence.", low=0, high=1
    )
    presence: float = setting(
        0.0, "Scans in which the target was drawn with less presence than this are left out.", low=0, high=1
    )
    absent: str = setting(
        "keep",
        '"keep" learns an empty mask from a scan in which the teacher found nothing, where its confidence '
        '(1 - presence) reaches `absent_confidence`; "drop" leaves such scans out, for targets that every scan has.',
        choices=("keep", "drop"),
    )
    absent_confidence: float = setting(0.7, "See `absent`.", low=0, high=1)

    def weight(self, rows: Sequence[Row]) -> float:
        """How much a scan counts; 0 where it is left out.

        Args:
            rows: of results.csv, one for each phrase. Of several the smallest weight holds: a scan with one
                wrong outline teaches that one too.
        """
        return min(self._of(row) for row in rows)

    def _of(self, row: Row) -> float:
        if not row.ok:
            return 0.0
        # Undefined: the encoder offers no absolute evidence, so there is nothing to weigh by.
        confidence, presence = _number(row.confidence, 1.0), _number(row.presence, 1.0)
        if row.present == "true":
            return confidence if confidence >= self.confidence and presence >= self.presence else 0.0
        kept = self.absent == "keep" and confidence >= self.absent_confidence
        return confidence if kept else 0.0


def _number(cell: str, undefined: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        return undefined
    return undefined if math.isnan(value) else value


@dataclass(frozen=True, kw_only=True)
class PseudoLabelRequest:
    """What to label, with what, and where to.

    Attributes:
        out: the set's folder.
        phrases: the targets, at least one; the same for every scan.
        inputs: files and folders.
        manifest: a CSV of scans, besides or instead of `inputs`. Its groups decide the split, rows of the
            split "test" are left alone, and its masks are never opened.
        preset: the teacher, a preset's name or YAML file.
        changes: fields of the preset to replace.
        rule: which labels are kept, see `LabelRule`.
        validation: share of the scans that training is stopped by.
        exports: keys of `lexiseg.datasets.exports.EXPORTS`.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: see `lexiseg.runs.segment.RunRequest`.
        seed: of the split and the teacher.
        resume: keep what an earlier run with the same teacher has done.
        mirror: the teacher looks at each scan's mirror image too, see `TwiceSeen`.
        tune: "fixed", or "label-free" to choose the teacher's settings on a few of the scans, or "auto"; see `tunes`.
    """

    out: Path
    phrases: Sequence[str]
    inputs: Sequence[str | Path] = ()
    manifest: str | Path | None = None
    preset: str = "demo"
    changes: Mapping[str, Any] = field(default_factory=dict)
    rule: LabelRule = field(default_factory=LabelRule)
    validation: float = 0.2
    exports: Sequence[str] = ()
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    seed: int = 0
    resume: bool = False
    mirror: bool = False
    tune: str = "fixed"


@dataclass(frozen=True, kw_only=True)
class PseudoLabelReport:
    """What came of it.

    Attributes:
        folder: of the set.
        run: the teacher's run.
        kept: images in the set; of a volume each slice is one.
        empty: those of them with an empty mask.
        left_out: scans that were labelled but not trusted.
        test: scans of the split "test", which nobody looked at.
        exports: what was exported, by name.
    """

    folder: Path
    run: RunSummary
    kept: int
    empty: int
    left_out: int
    test: int
    exports: Mapping[str, Path]


def make_pseudo_labels(
    request: PseudoLabelRequest,
    *,
    progress: Callable[[RunProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
) -> PseudoLabelReport:
    """Label scans with a preset and write those that can be trusted as a set.

    Writes images/ID.png, masks/ID.png (0 and 255; of several targets k for the k-th), probabilities/ID.npz (what the
    masks were cut from; not of volumes), manifest.csv
    (id,image,mask,text,group,label,weight,presence,confidence,mask_sha256,split), pseudo_labels.json (the record, last:
    where it is, the set is whole), the teacher's own run in teacher/, and exports in nnunet/ and coco/.

    Args:
        request: see `PseudoLabelRequest`.
        progress: called with how far the teacher is.
        fetched: told (file, bytes done, bytes in all) while a model is fetched.

    Raises:
        UsageError: the request cannot be done as it is.
        NoLabels: every mask of a target is empty, or no label is trusted; says what to try.
        LexisegError: the models cannot be had, or results not be written.
    """
    from lexiseg.models.loading import resolve_device
    from lexiseg.pipelines.loading import load

    names = tuple(check_phrase(text) for text in request.phrases)
    if not names:
        raise UsageError("no phrase was given; say what to label, for example --text 'breast tumor'")
    unknown = [name for name in request.exports if name not in EXPORTS]
    if unknown:
        raise UsageError(f"there is no export {unknown[0]!r}; expected among {', '.join(EXPORTS)}")
    if not 0 <= request.validation < 1:
        raise UsageError(f"validation is {request.validation}; expected a share, 0 to below 1")
    preset = load_preset(request.preset, **request.changes)
    if request.batch is not None:
        preset = preset.at_once(request.batch)
    tuning = tunes(request.tune, preset)
    if preset.needs_truth:
        raise UsageError(f"the preset {preset.name!r} is told true masks; a teacher must not be")
    if request.mirror and names_a_side(names):
        raise UsageError("--mirror: a phrase names a side, which a mirrored scan has elsewhere; leave the option out")
    if preset.encoder == BUNDLED:
        for name in names:
            refuse_several(name, bundled_vocabulary())
    resolve_device(request.device)
    items, sources, test = _scans(request, names)
    _check_out(request)
    teacher = request.out / TEACHER
    check_folder(teacher, items)
    pipeline = load(preset, device=request.device, precision=request.precision, progress=fetched)
    remove_torn(request.out, request.out / "images", request.out / "masks", request.out / SOFT)
    options = RunOptions(resume=request.resume, seed=request.seed)
    tuned = None
    if tuning:
        pipeline, tuned = tuned_pipeline(pipeline, items, teacher, resume=request.resume, progress=progress)
    soft: Any = SoftTeacher(twice_seen(pipeline) if request.mirror else pipeline, request.out)
    run = run_batch(soft, items, teacher, phrases=names, options=options, progress=progress, tuned=tuned)
    rows, left_out, empty, own = _write_set(request, names, items, sources)
    exporters: Mapping[str, Callable[..., Path]] = {**EXPORTS, "coco": functools.partial(export_coco, own=own)}
    exports = {name: exporters[name](rows, names, request.out / name) for name in dict.fromkeys(request.exports)}
    for name in EXPORTS:
        if name not in exports and (request.out / name).exists():
            logger.warning("%s/ is of an earlier set, which may be another: --export %s writes it anew", name, name)
    record = read_record(teacher) or {}
    _write_record(request, names, record, {"kept": len(rows), "empty": empty, "left_out": left_out})
    return PseudoLabelReport(
        folder=request.out,
        run=run,
        kept=len(rows),
        empty=empty,
        left_out=left_out,
        test=test,
        exports=exports,
    )


def _scans(request: PseudoLabelRequest, names: tuple[str, ...]) -> tuple[list[RunItem], dict[str, ManifestRow], int]:
    """The scans to label, what the manifest knows of them, and how many were left alone as test scans."""
    out = request.out.resolve()
    for each in map(Path, request.inputs):
        if each.is_dir() and out.is_relative_to(each.resolve()):
            raise UsageError(
                f"{printable(str(request.out))} lies inside the scans' folder {printable(str(each))}; the "
                "set's own images would be labelled next time: choose a folder outside"
            )
    items = gather_items(request.inputs, manifest=request.manifest, phrases=names)
    rows = read_manifest(request.manifest) if request.manifest is not None else []
    tell_splits(rows)
    sources = {printable(row.id): row for row in rows}
    parts = parts_of(rows, validation=request.validation, seed=request.seed)
    tests = {printable(row.id) for row, part in zip(rows, parts, strict=True) if part == TEST}
    kept = [item for item in items if item.id not in tests]
    if not kept:
        raise UsageError("all scans are of the split test; a set to learn from needs others")
    return kept, sources, len(items) - len(kept)


def _check_out(request: PseudoLabelRequest) -> None:
    out = request.out
    own = (out / TEACHER / RESULTS_NAME).exists()
    for name in (MANIFEST, "images", "masks"):
        if (out / name).exists() and not own:
            raise UsageError(
                f"{printable(str(out))}: {name} is there and lexiseg did not write it; choose another folder"
            )
    if not request.resume:
        refuse_loss(out, corrected_in(out).values(), "--resume keeps them, another folder leaves them alone")


def _write_set(
    request: PseudoLabelRequest,
    names: tuple[str, ...],
    items: Sequence[RunItem],
    sources: Mapping[str, ManifestRow],
) -> tuple[list[ManifestRow], int, int, Own]:
    """The set's rows, how many scans were left out, how many images have an empty mask, and each target's own masks."""
    by_scan: dict[str, list[Any]] = {}
    for row in read_results(request.out / TEACHER / RESULTS_NAME):
        by_scan.setdefault(row.id, []).append(row)
    done = [item for item in items if all(row.ok for row in by_scan[item.id])]
    weights = {item.id: request.rule.weight(by_scan[item.id]) for item in done}
    trusted = [item for item in done if weights[item.id] > 0]
    _refuse_nothing(names, by_scan, done, trusted)
    corrected, own = corrected_in(request.out), {item.id for item in trusted}
    strays = [row for row in corrected.values() if not own & {row.id, row.id.rpartition("_slice")[0]}]
    refuse_loss(request.out, strays, "their scans are left out now: ask for them too, by a rule that keeps them")
    # Not before: what is refused leaves the set as it was.
    remove_file(request.out / RECORD)
    before = _files_of(request.out) - {row.mask for row in corrected.values()}
    writer = SetWriter(request.out, names, teacher=request.out / TEACHER, corrected=corrected)
    kept = _each_once([
        writer.write(item, sources.get(item.id), by_scan[item.id], weights[item.id]) for item in trusted
    ])  # fmt: skip
    plain = [each.row for each in kept]
    parts = parts_of(plain, validation=request.validation, seed=request.seed)
    if TRAIN not in parts:
        raise NoLabels("none of the scans is of the split train, so there is nothing to learn from; see column split")
    rows = [each.in_part(part) for each, part in zip(kept, parts, strict=True)]
    write_manifest(rows, request.out / MANIFEST)
    for path in before - {path for row in rows for path in (row.image, row.mask) if path}:
        remove_file(path)
    count = sum(each.corrected for each in kept)
    if count:
        logger.warning("masks that were corrected by hand are kept as they are: %d", count)
    # Of scans that are not asked now the teacher's masks stay too: they are not labelled again where they are asked.
    wanted = {soft_path(request.out, scan) for scan in by_scan}
    for path in (request.out / SOFT).glob("*.npz"):
        if path not in wanted:
            remove_file(path)
    _tell_overlaps([by_scan[item.id] for item in trusted])
    return rows, len(done) - len(trusted), sum(each.empty for each in kept), writer.own_masks


def _tell_overlaps(scans: Sequence[Sequence[Row]]) -> None:
    """One line where targets overlap, by what the teacher's run noted of each scan."""
    found = sum(
        any(note.strip().startswith("labels:") for row in rows for note in row.notes.split(";")) for rows in scans
    )
    if found:
        logger.warning(
            "targets overlap in %d of %d scans, and a U-Net learns each pixel as one of them, as masks/ have it: to "
            "learn each target whole make a set for each, or of images train --network towers",
            found, len(scans),
        )  # fmt: skip


def _each_once(scans: Sequence[Sequence[Kept]]) -> list[Kept]:
    """Images of a set's scans, without scans that are copies of another; one line says how many there were.

    A copy teaches nothing, counts double, and in the other part of the split it would be no held-out scan. Copies are
    equal pixel by pixel, in each of their slices.
    """
    first: dict[tuple[str, ...], Sequence[Kept]] = {}
    # Of copies one that was corrected stays.
    for images in sorted(scans, key=lambda images: not any(each.corrected for each in images)):
        if first.setdefault(tuple(sha256_of(each.row.image) for each in images), images) is not images:
            for each in images:
                for path in (each.row.image, each.row.mask):
                    if path is not None and not each.corrected:
                        remove_file(path)
    copies = len(scans) - len(first)
    if copies:
        logger.warning("%d of %d scans are copies of others, pixel by pixel: each is learnt once", copies, len(scans))
    stay = {id(images) for images in first.values()}
    return [each for images in scans if id(images) in stay for each in images]


def _refuse_nothing(
    names: Sequence[str],
    by_scan: Mapping[str, Sequence[Any]],
    done: Sequence[RunItem],
    trusted: Sequence[RunItem],
) -> None:
    if not done:
        first = next((row.error for rows in by_scan.values() for row in rows if row.error), "")
        raise NoLabels(f"none of the {len(by_scan)} scans could be labelled; the first problem: {first}")
    for k, name in enumerate(names):
        if not any(by_scan[item.id][k].present == "true" for item in done):
            raise NoLabels(
                f"{name!r} was found in none of {len(done)} scans, so there is nothing to learn; try other "
                "words (--text), a lower threshold (--set presence.threshold=X), or a preset that knows this kind of "
                "scan (--preset)"
            )
        if not any(by_scan[item.id][k].present == "true" for item in trusted):
            raise NoLabels(f"no mask of {name!r} is trusted; try a lower --min-confidence, or another --preset")


def _files_of(folder: Path) -> set[Path]:
    """The images and masks of an earlier set in the folder."""
    path = folder / MANIFEST
    rows = read_manifest(path) if path.exists() else []
    return {file for row in rows if not row.error for file in (row.image, row.mask) if file is not None}


def _write_record(
    request: PseudoLabelRequest, names: Sequence[str], run: Mapping[str, Any], counts: Mapping[str, int]
) -> None:
    content = {
        "lexiseg": __version__,
        "labels": "pseudo-labels; no true mask was opened",
        "phrases": list(names),
        "rule": request.rule.as_dict(),
        "validation": request.validation,
        "seed": request.seed,
        "counts": dict(counts),
        "teacher": {key: run.get(key) for key in ("preset", "models", "precision")},
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    atomic_write(request.out / RECORD, lambda file: file.write(text.encode()))
