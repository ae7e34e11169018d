"""What the columns of a table are called by those who did not write it for lexiseg, and which cells say nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

GROUP_NAMES = ("group", "groupid", "patient", "patientid", "patientnumber", "patientno", "pid", "mrn", "patientname",
               "subject", "subjectid", "subjectnumber", "participant", "participantid", "case", "caseid", "study",
               "studyid")  # fmt: skip
"""What the column of the patient may be called, as `plain_name` writes it; the first is ours.

Of several that are filled alike the first counts: a patient before a study, so that no patient is on both sides of a
split.
"""

TAKEN_AS_GROUP = "the column {} is taken as the group that a split keeps together"
NO_GROUP = "no column says which {} are of one patient: a split may part them (add a column group)"

_PLACEHOLDERS = {"", "none", "na", "n/a", "#n/a", "<na>", "nan", "null", "nil", "-", "--", "n.a."}
"""What programs write where there is nothing."""


def known(written: str) -> str:
    """A cell; "" where it only says that nothing is known."""
    return "" if written.casefold() in _PLACEHOLDERS else written


def plain_name(column: str) -> str:
    """A column's name without letter case, "_", "-" and blanks."""
    return re.sub(r"[\s_-]+", "", column.casefold())


def group_column(rows: Sequence[Mapping[str, str]]) -> str | None:
    """The column that says which rows are of one patient, as it is written; None where none does.

    It is the one that is filled in most rows: an empty column of our name must not hide one that is filled.

    Args:
        rows: each with its cells by column.

    Example:
        >>> group_column([{"id": "a", "group": "", "Patient ID": "p1"}])
        'Patient ID'
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    named = {plain_name(column): column for column in reversed(columns)}
    filled = {
        column: sum(bool(known(row.get(column, "").strip())) for row in rows)
        for column in (named[name] for name in GROUP_NAMES if name in named)
    }
    best = max(filled, key=lambda column: filled[column], default=None)
    return best if best is not None and filled[best] else None


def group_of(column: str | None, row: Mapping[str, str]) -> str:
    """The group of a row by that column; "" where it is unknown.

    Of a person's name it is a digest: groups are written into a model's folder.
    """
    written = known(row.get(column, "").strip()) if column is not None else ""
    if written and column is not None and plain_name(column) == "patientname":
        return hashlib.sha256(written.encode(errors="replace")).hexdigest()[:12]
    return written
