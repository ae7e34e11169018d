"""What the columns of a table are called by those who did not write it for lexiseg, and which cells say nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

GROUP_NAMES = ("group", "patient", "patientid", "subject", "subjectid", "participantid", "case", "caseid", "study",
               "studyid")  # fmt: skip
"""What the column of the patient may be called, as `plain_name` writes it; the first is ours.

Of several that are there the first counts: a patient before a study, so that no patient is on both sides of a split.
"""

_PLACEHOLDERS = {"", "none", "na", "n/a", "#n/a", "<na>", "nan", "null", "nil", "-", "--", "n.a."}
"""What programs write where there is nothing."""


def known(written: str) -> str:
    """A cell; "" where it only says that nothing is known."""
    return "" if written.casefold() in _PLACEHOLDERS else written


def plain_name(column: str) -> str:
    """A column's name without letter case, "_", "-" and blanks."""
    return re.sub(r"[\s_-]+", "", column.casefold())


def group_column(columns: Iterable[str]) -> str | None:
    """The column that says which rows are of one patient, as it is written; None where none does.

    Example:
        >>> group_column(["id", "image", "Patient ID"])
        'Patient ID'
    """
    written = {plain_name(column): column for column in reversed(list(columns))}
    return next((written[name] for name in GROUP_NAMES if name in written), None)
