"""A finished run looked through by people: doubtful scans first, verdicts, and what training takes of it."""

from __future__ import annotations

import filecmp
import itertools
import math
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, write_manifest
from lexiseg.errors import UnreadableScan, UnwritableResult, UsageError
from lexiseg.io.masks import read_mask
from lexiseg.io.names import RESULTS_NAME, REVIEWED, scan_suffix, slugs
from lexiseg.io.read import read_scan
from lexiseg.runs.finished import is_same_scan, record_of
from lexiseg.runs.folder import GRIDS, only_run
from lexiseg.runs.items import RunItem
from lexiseg.runs.ledger import FILES_NAME, Ledger, read_ledger
from lexiseg.runs.masks import PLACED, keep_masks, kept_file, kept_mask, mask_stem, same_mask, stored_mask, why_not_kept
from lexiseg.runs.reviews import KEEPING, VERDICTS, Judged, Verdict, append_review, read_reviews
from lexiseg.runs.table import Row, read_results, write_results
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Image, Scan

EARLIER = "earlier"
"""The folder, inside `REVIEWED`, of masks of reviews that were set aside."""


def doubt(rows: Sequence[Row], threshold: float | None, uncertainty: float = 0.0) -> float:
    """How much a scan wants a person's look, 0 to 1.

    The largest of three: how near the presence is to the threshold, what is missing of the confidence, and how
    undecided the mask's pixels are. Of several phrases the most doubtful counts. A failed scan, and a phrase that is
    not known, have none: looking at them decides nothing.

    Args:
        rows: of one scan.
        threshold: the presence below which a phrase is absent; None where there is none.
        uncertainty: of the mask, see `Review.uncertainty`.
    """
    sure = [row for row in rows if row.ok and row.verdict != "unknown"]
    found = uncertainty if sure else 0.0
    for row in sure:
        presence, confidence = _cell(row.presence), _cell(row.confidence)
        if threshold is not None and not math.isnan(presence):
            reach = threshold if presence < threshold else 1 - threshold
            found = max(found, 1 - min(1.0, abs(presence - threshold) / max(reach, 1e-9)))
        if not math.isnan(confidence):
            found = max(found, 1 - confidence)
    return found


class Review:
    """What people say of a run's scans; for several threads.

    Verdicts are appended to reviewed/reviews.csv at once; `settle` puts them into results.csv.
    Masks that were accepted or corrected are kept beside, on the scans' own grids.

    A verdict stands while the scan has the phrases, the file and the run's masks that it was given of. Any other is
    set aside: it stays in reviews.csv, and its masks are moved away before others take their place.

    Args:
        folder: of the run.

    Raises:
        UsageError: an earlier review cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = folder / REVIEWED
        self._lock = threading.RLock()
        self._verdicts = read_reviews(self._own)
        self._files, self._stamp = Ledger(), (0, 0)

    def rows(self) -> dict[str, list[Row]]:
        """results.csv as it is now, by scan; {} where there is none yet.

        Raises:
            UsageError: it cannot be read.
        """
        path = self.folder / RESULTS_NAME
        found: dict[str, list[Row]] = {}
        for row in read_results(path) if path.exists() else ():
            found.setdefault(row.id, []).append(row)
        return found

    def verdict(self, item: RunItem) -> Verdict | None:
        """What was said of a scan as it is now; None before."""
        with self._lock:
            return self._standing(item.id, item.phrases)

    def aside(self, item: RunItem) -> str:
        """What a scan's earlier review was of that is another now, in words; "" where none is set aside."""
        with self._lock:
            said = self._verdicts.get(item.id)
            other = "" if said is None else said.of.unlike(Judged.of(item.id, item.phrases, self._ledger()))
            return f"an earlier review ({said.review}) is set aside: it was {other}" if said and other else ""

    def why_not_kept(self, scan: Scan) -> str:
        """Why masks of a scan cannot be kept, in a few words; "" where they can."""
        return why_not_kept(scan, deidentified=self._deidentified())

    def keeps(self, item: RunItem) -> bool:
        """Whether a scan was accepted or corrected."""
        said = self.verdict(item)
        return said is not None and said.review in KEEPING

    def is_same_scan(self, item: RunItem) -> bool:
        """Whether a scan's files are still those that the run read."""
        with self._lock:
            ledger = self._ledger()
        return is_same_scan(item, ledger)

    def mask(self, item: RunItem, phrase: str, scan: Scan) -> BoolArray | None:
        """A phrase's mask of a scan: as a person left it, or else as the run wrote it; None where it is not there.

        Raises:
            UnreadableScan: it cannot be read, or is not on the scan's grid.
        """
        said = self.verdict(item)
        if said is not None and said.kept:
            kept = kept_mask(self._own / "masks", item.name, item.phrases, phrase, scan)
            if kept is not None:
                return kept
        return stored_mask(self.folder, item.name, item.phrases, phrase, scan)

    def changed(self, item: RunItem, masks: Mapping[str, BoolArray], scan: Scan) -> bool:
        """Whether any of a scan's masks, by phrase, is another than the run wrote; True where that cannot be read."""
        try:
            return any(
                not same_mask(stored_mask(self.folder, item.name, item.phrases, phrase, scan), mask)
                for phrase, mask in masks.items()
            )
        except UnreadableScan:
            return True

    def uncertainty(self, item: RunItem) -> float:
        """How undecided a scan's mask is, 0 to 1, where its run tells that (students do); 0 otherwise.

        It is the sum of the uncertainty of all pixels over the number of those that are in the mask or more undecided
        than not: large where much of what is drawn might as well not be.
        """
        for end in GRIDS:
            path, mask = (self.folder / f"{item.name}_{kind}{end}" for kind in ("uncertainty", "mask"))
            try:
                if path.is_file() and mask.is_file():
                    scan = read_scan(path)
                    values = scan.pixels if isinstance(scan, Image) else scan.values
                    counted = int((read_mask(mask) | (values > 0.5)).sum())
                    return min(1.0, float(values.sum()) / counted) if counted else 0.0
            except UnreadableScan:
                # Equal everywhere, or damaged: it says nothing.
                return 0.0
        return 0.0

    def say(self, item: RunItem, review: str, seconds: float, masks: Mapping[str, BoolArray], scan: Scan) -> Verdict:
        """Take a person's verdict; `settle` puts it into results.csv.

        Args:
            item: the scan's.
            review: one of `VERDICTS`.
            seconds: how long it was looked at this time.
            masks: of each phrase, as they are to be kept; used where the verdict is accepted or corrected.
            scan: what they are of.

        Raises:
            UsageError: there is no such verdict, or it took no time that could be.
            FormatMismatch: no file can hold the masks; see `why_not_kept`.
            UnwritableResult: the file system refused; the verdict before stands.
        """
        if review not in VERDICTS:
            raise UsageError(f"there is no verdict {review!r}; expected one of {', '.join(VERDICTS)}")
        if not 0 <= seconds < 1e6:
            raise UsageError(f"seconds is {seconds:g}; expected 0 or more")
        with self._lock:
            standing = self._standing(item.id, item.phrases)
            spent = standing.seconds if standing else 0.0
            of = Judged.of(item.id, item.phrases, self._ledger())
            verdict = Verdict.after(self._verdicts.get(item.id), review, round(seconds + spent, 1), of)
            if review in KEEPING:
                if standing is None or not standing.kept:
                    self._set_aside(item)
                ordered = {phrase: masks[phrase] for phrase in item.phrases}
                keep_masks(
                    ordered,
                    scan,
                    self._own / "masks",
                    item.name,
                    algorithm_type="AUTOMATIC" if review == "accepted" else "SEMIAUTOMATIC",
                    deidentified=self._deidentified(),
                )
            append_review(self._own, item.id, verdict)
            self._verdicts[item.id] = verdict
        return verdict

    def settle(self) -> None:
        """Put all verdicts into results.csv; where a run is writing there, the next call does.

        Raises:
            UsageError: results.csv cannot be read.
            UnwritableResult: the file system refused.
        """
        with ExitStack() as held:
            try:
                held.enter_context(only_run(self.folder))
            except UsageError:
                return
            held.enter_context(self._lock)
            path = self.folder / RESULTS_NAME
            if path.exists():
                rows = read_results(path)
                phrases: dict[str, list[str]] = {}
                for row in rows:
                    phrases.setdefault(row.id, []).append(row.text)
                write_results(path, [self._told(row, phrases[row.id]) for row in rows])

    def export(self, items: Sequence[RunItem]) -> tuple[list[Path], list[str]]:
        """Write what `lexiseg train --masks` and `lexiseg evaluate --manifest` take: a manifest of the scans that were
        accepted or corrected, with their masks; of several phrases a manifest each.

        The scans themselves are linked into the folder, or copied where that cannot be. One that is not there, or is
        another file now, is left out, and so is an empty mask that has no file (see `keep_masks`).

        Returns:
            The manifests, and the ids of scans that are left out in whole or in part.

        Raises:
            UsageError: no scan was accepted or corrected yet, or all are left out.
            UnwritableResult: the file system refused.
        """
        kept = [item for item in items if self.keeps(item)]
        if not kept:
            raise UsageError("no scan was accepted or corrected yet; review some first")
        left = {item.id: None for item in kept if item.error or not self.is_same_scan(item)}
        by_slug: dict[tuple[str, str], list[ManifestRow]] = {}
        for item in kept:
            if item.id in left:
                continue
            image = self._image(item)
            several = len(item.phrases) > 1
            for phrase, slug in zip(item.phrases, slugs(list(item.phrases)), strict=True):
                mask = kept_file(self._own / "masks", item.name, item.phrases, phrase)
                if mask is None:
                    left[item.id] = None
                    continue
                row = ManifestRow(id=item.id, image=image, mask=mask, text=phrase)
                by_slug.setdefault((f"_{slug}" if several else "", phrase), []).append(row)
        if not by_slug:
            raise UsageError(
                "no scan that was accepted or corrected is there as the run read it, with a mask in a file"
            )
        written = []
        for slug, rows in _merged(by_slug).items():
            written.append(write_manifest(rows, self._own / f"manifest{slug}.csv"))
        return written, list(left)

    def _image(self, item: RunItem) -> Path:
        """The scan in the review's own folder: its file, or a folder of its series."""
        images = self._own / "images"
        series = item.source.content is not None
        if series:
            target = images / item.name
            links = {target / f"{number:06d}{file.suffix}": file for number, file in enumerate(item.source.files)}
        else:
            target = images / f"{item.name}{scan_suffix(item.path) or item.path.suffix}"
            links = {target: item.path}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if series:
                target.mkdir(exist_ok=True)
                # Slices of a series that was there before would be read as this one's.
                for other in set(target.iterdir()) - set(links):
                    other.unlink()
            for link, file in links.items():
                if not link.exists() or not filecmp.cmp(file, link, shallow=False):
                    link.unlink(missing_ok=True)
                    _link(file, link)
        except OSError as error:
            raise UnwritableResult(f"{target}: could not be written ({error.strerror}); free some space") from error
        return target

    def _set_aside(self, item: RunItem) -> None:
        """Move masks of a scan that are of an earlier review out of the way, and manifests that name them."""
        stems = {f"{item.name}_mask", *(mask_stem(item.name, item.phrases, phrase) for phrase in item.phrases)}
        places = (self._own / "masks" / f"{stem}{end}" for stem in sorted(stems) for end in (*GRIDS, *PLACED))
        masks = [path for path in places if path.is_file()]
        for path in (*masks, *(self._own.glob("manifest*.csv") if masks else ())):
            places = (self._own / EARLIER / str(number) / path.name for number in itertools.count(1))
            place = next(each for each in places if not each.exists())
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
            except OSError as error:
                raise UnwritableResult(f"{place}: the earlier mask cannot be moved there ({error.strerror})") from error

    def _told(self, row: Row, phrases: Sequence[str]) -> Row:
        if row.id not in self._verdicts:
            return row
        said = self._standing(row.id, phrases)
        if said is None:
            return replace(row, reviewed="", review="", review_seconds="")
        reviewed = "" if said.review == "skipped" else "true"
        return replace(row, reviewed=reviewed, review=said.review, review_seconds=f"{said.seconds:.1f}")

    def _standing(self, id: str, phrases: Sequence[str]) -> Verdict | None:
        """The last verdict on a scan, where it is of the scan as it is now."""
        said = self._verdicts.get(id)
        return said if said is not None and said.of == Judged.of(id, phrases, self._ledger()) else None

    def _deidentified(self) -> bool:
        """Whether the run was to name no patient."""
        return bool((record_of(self.folder).get("options") or {}).get("deidentify"))

    def _ledger(self) -> Ledger:
        """files.csv, read again where it changed."""
        try:
            status = (self.folder / FILES_NAME).stat()
        except OSError:
            return Ledger()
        stamp = status.st_mtime_ns, status.st_size
        if stamp != self._stamp:
            self._files, self._stamp = read_ledger(self.folder), stamp
        return self._files


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)


def _merged(by_slug: Mapping[tuple[str, str], list[ManifestRow]]) -> dict[str, list[ManifestRow]]:
    """Scans of one phrase each go into one manifest, whatever their phrases."""
    merged: dict[str, list[ManifestRow]] = {}
    for (slug, _), rows in by_slug.items():
        merged.setdefault(slug, []).extend(rows)
    return merged


def _cell(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
