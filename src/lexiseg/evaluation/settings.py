"""How an evaluation is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lexiseg.errors import UsageError
from lexiseg.evaluation.metrics.catalogue import EmptyRule
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.io.mask_choices import Colour, are_colours


@dataclass(frozen=True)
class LabelChoice:
    """Which values of label maps are the target.

    Attributes:
        name: of the target, as a manifest's text or label has it; "" for every scan.
        values: of the pixels inside: numbers, or a `Colour` each.
    """

    name: str
    values: tuple[int, ...]

    @classmethod
    def parse(cls, written: str) -> LabelChoice:
        """A choice as it is typed: 2, liver=2, 1,2,4, "#ff0000" or liver=#ff0000.

        Raises:
            UsageError: it is none, or holds numbers and colours at once.

        Example:
            >>> LabelChoice.parse("liver=1,2")
            LabelChoice(name='liver', values=(1, 2))
        """
        name, _, values = written.rpartition("=")
        try:
            chosen = tuple(_value(part.strip()) for part in values.split(","))
        except ValueError as error:
            raise UsageError(
                f"the label is {written}; expected a number such as 2, or NAME=2, or a colour such as #ff0000"
            ) from error
        if are_colours(chosen) and not all(isinstance(value, Colour) for value in chosen):
            raise UsageError(f"the label is {written}; expected numbers alone, or colours alone")
        return cls(same_phrase(name), chosen)


def _value(written: str) -> int:
    if not written.startswith("#"):
        return int(written)
    if len(written) != len("#rrggbb"):
        raise ValueError(written)
    return Colour(int(written[1:], 16))


def same_phrase(phrase: str) -> str:
    """A phrase without what does not tell phrases apart: letter case and blanks."""
    return " ".join(phrase.split()).casefold()


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What decides the numbers of an evaluation, besides the files.

    Attributes:
        tolerance: of NSD, in mm, or in pixels for scans without spacing.
        empty: the rule for empty masks.
        bootstrap: how intervals are made.
        by: columns of the manifest, each value of which is summarised by itself.
        absent: labels of scans that hold no target, for rows that have neither a mask nor a box.
        text: the phrase whose mask is scored, where runs asked for several; the row's text when None.
        labels: which values of label maps are the target, for masks of more than 0 and one other value.
        true_labels: the same of the truth, where it numbers targets otherwise than the predictions; () where it does
            not.

    Raises:
        UsageError: a tolerance that is not positive, or fewer than one resample.
    """

    tolerance: float = 2.0
    empty: EmptyRule = EmptyRule.score
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    by: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    text: str | None = None
    labels: tuple[LabelChoice, ...] = ()
    true_labels: tuple[LabelChoice, ...] = ()

    def labels_for(self, names: Iterable[str]) -> tuple[int, ...]:
        """The values that are the target of a scan of which these names are known; none where none was chosen."""
        return self._of_names(self.labels, names)

    def true_labels_for(self, names: Iterable[str]) -> tuple[int, ...]:
        """The same of the truth."""
        return self._of_names(self.true_labels or self.labels, names)

    def _of_names(self, choices: tuple[LabelChoice, ...], names: Iterable[str]) -> tuple[int, ...]:
        known = {same_phrase(name) for name in (self.text or "", *names) if name}
        named = [choice for choice in choices if choice.name in known]
        chosen = named or [choice for choice in choices if not choice.name]
        return tuple(value for choice in chosen for value in choice.values)

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise UsageError(f"the tolerance is {self.tolerance:g}; expected a distance above 0")
        if self.bootstrap.resamples < 1:
            raise UsageError(f"resamples is {self.bootstrap.resamples}; expected at least 1")
