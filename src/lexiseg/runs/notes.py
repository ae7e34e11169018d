"""What a run says besides its numbers: how far it is, lost pixels of label maps, phrases that are not known."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexiseg.io.names import printable
from lexiseg.pipelines.results import Result
from lexiseg.runs.items import RunItem
from lexiseg.runs.segment import RunProgress
from lexiseg.text.denials import is_denial
from lexiseg.text.known import advice, read_note
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan, Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lost:
    """What a label map cannot show of a phrase.

    Attributes:
        pixels: of the phrase's mask, in all.
        to: phrase -> how many of them go to it.
        unit: "pixels" or "voxels".
    """

    pixels: int
    to: dict[str, int]
    unit: str

    def __str__(self) -> str:
        parts = [f"{count} of {self.pixels} {self.unit} go to {phrase}" for phrase, count in self.to.items()]
        return ", ".join(parts)


def lost_to_others(result: Result) -> dict[str, Lost]:
    """Of each phrase that loses any of its mask in the label map, which of the others gets how much."""
    return lost_in(result.mask.labels, {target.phrase: target.mask for target in result.targets})


def lost_in(labels: NDArray[np.uint8], masks: Mapping[str, BoolArray]) -> dict[str, Lost]:
    """The same of any label map.

    Args:
        labels: k is the k-th mask's, 0 nobody's.
        masks: by phrase, bool of the shape of `labels`.
    """
    names = list(masks)
    found: dict[str, Lost] = {}
    for k, (phrase, mask) in enumerate(masks.items(), start=1):
        counts = np.bincount(labels[mask], minlength=len(names) + 1)
        to = {name: int(counts[j]) for j, name in enumerate(names, start=1) if j != k and counts[j]}
        if to:
            found[phrase] = Lost(int(mask.sum()), to, "voxels" if labels.ndim == 3 else "pixels")
    return found


class Notices:
    """What is said once in a run, however many scans it concerns."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()
        self._denials: set[str] = set()
        self._read: set[str] = set()
        self._other_kind: Counter[str] = Counter()
        self._all = self._scans = 0
        self._lost: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._unit = "pixels"
        self._begun_anew = False

    def take_unjournaled(self, scan: Scan) -> None:
        """Say, at the first volume, that an interrupted run begins volumes anew, because all of each slice is kept."""
        if isinstance(scan, Volume) and not self._begun_anew:
            self._begun_anew = True
            told = "with --save-stages or --seg-type fractional finished slices are not written down"
            logger.warning("%s: a volume that is interrupted half-way is begun anew by --resume", told)

    def take(self, result: Result) -> None:
        """Look at a result; a phrase that is not known, denies what it names or was read as something else is told at
        once, the first time.
        """
        for target in result.targets:
            if target.verdict == "unknown" and target.phrase not in self._unknown:
                self._unknown.add(target.phrase)
                logger.warning("%s", printable(advice(target.phrase)))
            elif target.verdict != "unknown" and target.phrase not in self._denials and is_denial(target.phrase):
                self._denials.add(target.phrase)
                told = f"{target.phrase!r} denies what it names, and encoders read past that"
                logger.warning(
                    "%s", printable(f"{told}: what is drawn may be what was denied; ask for the target itself")
                )
            elif target.read_as is not None and target.phrase not in self._read:
                self._read.add(target.phrase)
                logger.warning("%s", printable(read_note(target.phrase, target.read_as)))
            self._other_kind[target.phrase] += target.other_kind and target.read_as != ""
        lost = lost_to_others(result)
        self._all += 1
        self._scans += bool(lost)
        for phrase, each in lost.items():
            self._lost[phrase] = self._lost.get(phrase, 0) + sum(each.to.values())
            self._unit = each.unit

    def take_left_out(self, formats: Sequence[str]) -> None:
        """Count the formats that could not hold a scan."""
        for each in formats:
            self._left_out[each] = self._left_out.get(each, 0) + 1

    def say_left_out(self) -> None:
        """One line on formats that scans were not written in."""
        if self._left_out:
            counted = ", ".join(f"{each} of {count} scans" for each, count in sorted(self._left_out.items()))
            logger.warning("formats that cannot hold a scan are left out: %s; the column notes says why", counted)

    def say_kinds(self) -> None:
        """One line for each phrase that no kind of scan in view can hold."""
        for phrase, count in self._other_kind.items():
            if count:
                told = f"{phrase!r} is absent from {count} of {self._all} scans because of their kind"
                logger.warning("%s", printable(f"{told}: they look like none that can hold it"))

    def say_overlaps(self) -> None:
        """One line on what the label maps lost."""
        if self._lost:
            lost = ", ".join(f"{phrase} {count} {self._unit}" for phrase, count in self._lost.items())
            told = f"phrases overlap, so that the label maps lose pixels in {self._scans} of {self._all} scans"
            logger.warning("%s", printable(f"{told}: {lost}; NAME_mask_PHRASE has each phrase's own mask whole"))


class Teller:
    """Turns scans begun, shares and ends into `RunProgress`."""

    def __init__(self, total: int, progress: Callable[[RunProgress], None] | None) -> None:
        self._total, self._progress = total, progress
        self._ended = self._failed = 0
        self._shown = ""

    def begin(self, item: RunItem) -> None:
        """A scan is worked on from now on."""
        self._shown = item.shown
        self.share(0.0)

    def share(self, share: float, planes: int = 1) -> None:
        """So much of its work is done."""
        if self._progress is not None:
            slices = planes if planes > 1 else 0
            told = RunProgress(
                self._ended + share, self._total, self._shown, self._failed, round(share * slices), slices
            )
            self._progress(told)

    def end(self, *, failed: bool) -> None:
        """It was worked on; its files may still be written."""
        self._ended += 1
        self._failed += failed
        self.share(0.0)
