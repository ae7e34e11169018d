"""What a person must know of an evaluation before its numbers are read: one counted line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lexiseg.datasets.manifest import taken_as_group
from lexiseg.evaluation.cases import OTHER_IMAGE, Case
from lexiseg.evaluation.results import Evaluation, SystemEvaluation
from lexiseg.evaluation.truths import nothing_absent
from lexiseg.io.mask_choices import NOT_THERE, TAKEN_AS_ANOTHER, TAKEN_WHOLE
from lexiseg.io.names import printable


def remarks(evaluation: Evaluation) -> list[str]:
    """One line for each thing that decided numbers and that the call did not say.

    Args:
        evaluation: with its cases and their notes, which are counted.
    """
    found = [
        *_of_groups(evaluation),
        *_of_absent(evaluation),
        *_of_labels(evaluation.systems[0], "truth", "true masks"),
    ]
    for system in evaluation.systems:
        found += _of_labels(system, "prediction", f"masks of {system.name}")
        if count := system.counts()["unknown"]:
            found.append(
                f"{system.name}: {count} of {len(system.cases)} scans were asked an unknown phrase; "
                "where nothing is there they are left out, and where something is it was missed"
            )
        if count := _noted(system, lambda note: note.startswith(OTHER_IMAGE)):
            found.append(
                f"{system.name}: {count} of {len(system.cases)} predictions are of an image of another name than the "
                "manifest's; check that equal ids are of one scan"
            )
    return found


def _of_groups(evaluation: Evaluation) -> Iterator[str]:
    """Which scans were taken for one patient's, where no column `group` says so of each."""
    rows = list(evaluation.rows.values())
    without = sum(not row.group for row in rows)
    if without == len(rows):
        yield (
            f"{evaluation.manifest}: no column says which scans are of one patient: each counts for itself, so that "
            "intervals may be too narrow (add a column group)"
        )
        return
    if (taken := taken_as_group(rows)) is not None:
        yield f"{evaluation.manifest}: the column {printable(taken)} is taken as the group that intervals keep together"
    if without:
        yield f"{evaluation.manifest}: {without} of {len(rows)} scans name no group; each of them counts for itself"


def _of_absent(evaluation: Evaluation) -> Iterator[str]:
    """Labels that were said to mean absence and that no row has: letter case counts."""
    labels = {row.label for row in evaluation.rows.values()} - {""}
    if told := nothing_absent(labels, evaluation.settings):
        yield f"{evaluation.manifest}: {told}"


def _of_labels(system: SystemEvaluation, role: str, masks: str) -> Iterator[str]:
    def count(wanted: Callable[[str], bool]) -> int:
        return _noted(system, lambda note: note.startswith(f"{role}: ") and wanted(note))

    if found := count(lambda note: note.endswith(TAKEN_WHOLE)):
        yield f"{masks}: {found} hold one value alone, which is not the label; they are taken as masks"
    if found := count(lambda note: note.endswith(TAKEN_AS_ANOTHER)):
        yield (
            f"{masks}: {found} hold one value alone, which is not the label, so they are empty of it; where that value "
            "is the target, give --label for predictions and --true-label for the truth"
        )
    if (found := count(lambda note: NOT_THERE in note)) and found == len(system.cases):
        yield f"{masks}: none of {found} holds the label, so all are empty of it; check --label"


def _noted(system: SystemEvaluation, wanted: Callable[[str], bool]) -> int:
    def noted(case: Case) -> bool:
        return any(map(wanted, case.notes))

    return sum(map(noted, system.cases))
