"""A threshold of presence for what may be missed, from what an encoder said of scans that nobody trained on.

An encoder's folder may carry `FILE`: for each target the presence of scans that show it and of scans that do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lexiseg.errors import BrokenWeights, UsageError

FILE = "presence.yaml"
AUTO = "auto:"
WANTED = ("sensitivity", "specificity")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What presence was, on scans that were kept back.

    Attributes:
        present: of each scan that shows the target, 0 to 1.
        absent: of each scan that does not.

    Example:
        >>> seen = Seen(present=(0.2, 0.6, 0.8, 0.9), absent=(0.1, 0.4))
        >>> seen.threshold("sensitivity", 0.75)
        0.6
        >>> 0.4 < seen.threshold("specificity", 1.0) < 0.41
        True
    """

    present: tuple[float, ...]
    absent: tuple[float, ...]

    def threshold(self, wanted: str, share: float) -> float:
        """The highest threshold that finds the share of present scans, or the lowest that leaves out that of others.

        Args:
            wanted: "sensitivity" or "specificity".
            share: of scans, above 0 and at most 1.

        Raises:
            UsageError: there is no such scan to tell it from.
        """
        values = sorted(self.present if wanted == "sensitivity" else self.absent)
        if not values:
            shown = "with" if wanted == "sensitivity" else "without"
            raise UsageError(f"no scan {shown} the target was kept back, so that nothing is known of its {wanted}")
        # A scan counts as present from the threshold on.
        needed = math.ceil(round(share * len(values), 9))
        if wanted == "sensitivity":
            return values[len(values) - needed]
        return min(1.0, math.nextafter(values[needed - 1], math.inf))

    def rates(self, threshold: float) -> tuple[float, float]:
        """Sensitivity and specificity at a threshold; NaN of what no scan tells."""
        found = [value >= threshold for value in self.present]
        left = [value < threshold for value in self.absent]
        return tuple(sum(each) / len(each) if each else math.nan for each in (found, left))  # type: ignore[return-value]


def parse_wanted(text: str) -> tuple[str, float]:
    """ "auto:sensitivity=0.95" as what is wanted, and its share.

    Raises:
        UsageError: it is anything else.

    Example:
        >>> parse_wanted("auto:sensitivity=0.95")
        ('sensitivity', 0.95)
    """
    wanted, _, number = text.removeprefix(AUTO).partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not text.startswith(AUTO) or wanted not in WANTED or not 0 < share <= 1:
        raise UsageError(
            f"threshold is {text!r}; expected 0 to 1, auto:sensitivity=X or auto:specificity=X with X above 0 and "
            "at most 1"
        )
    return wanted, share


def read_seen(folder: Path) -> Mapping[str, Seen]:
    """The folder's record, by target; empty where it carries none.

    Raises:
        BrokenWeights: it is there but cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))["targets"]
        return {
            name: Seen(present=_shares(each["present"]), absent=_shares(each["absent"]))
            for name, each in fields.items()
        }
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise BrokenWeights(
            f"{path} does not say what presence was ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if not all(0 <= value <= 1 for value in found):
        raise ValueError("presence outside of 0 to 1")
    return found


def common_threshold(seen: Mapping[str, Seen], targets: Mapping[str, str | None], text: str) -> float:
    """The one threshold that gives every phrase what is wanted.

    Args:
        seen: as `read_seen` gives it.
        targets: phrase -> target that it names, None where it names none; at least one phrase.
        text: as for `parse_wanted`.

    Raises:
        UsageError: nothing was kept back of a target, or the phrases need different thresholds.
    """
    wanted, share = parse_wanted(text)
    found: dict[str, float] = {}
    for phrase, target in targets.items():
        if target is None or target not in seen:
            known = ", ".join(sorted(seen)) or "none"
            raise UsageError(
                f"--threshold {text} is not known for {phrase!r}: no scan of it was kept back (of these there were: "
                f"{known}); give a number"
            )
        found[phrase] = seen[target].threshold(wanted, share)
    if len(set(found.values())) > 1:
        each = ", ".join(f"{value:.3f} for {phrase!r}" for phrase, value in found.items())
        raise UsageError(f"--threshold {text} is {each}; ask for each by itself")
    return next(iter(found.values()))
