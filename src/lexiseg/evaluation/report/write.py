"""Every format of the report into one folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO

from lexiseg.evaluation.evaluation import Evaluation
from lexiseg.evaluation.report.csvs import cases_csv, comparisons_csv, summary_csv
from lexiseg.evaluation.report.markdown import to_markdown
from lexiseg.evaluation.report.page import to_html
from lexiseg.evaluation.report.record import to_json
from lexiseg.files import atomic_write


def write_report(evaluation: Evaluation, folder: str | Path, *, cases: int = 5) -> Path:
    """Write report.html, report.md, report.json, cases.csv, summary.csv and comparisons.csv.

    There is no date in them: equal files, settings and versions give equal bytes. comparisons.csv has rows
    where there are two systems or more.

    Args:
        evaluation: what to write.
        folder: where to; made if missing.
        cases: how many of the best, median and worst cases of each system the page shows; 0 for none.

    Returns:
        The path of report.html.

    Raises:
        UnwritableResult: the file system refused.
    """
    texts = {
        "cases.csv": cases_csv(evaluation),
        "summary.csv": summary_csv(evaluation),
        "comparisons.csv": comparisons_csv(evaluation),
        "report.json": to_json(evaluation),
        "report.md": to_markdown(evaluation),
        "report.html": to_html(evaluation, cases=cases),
    }
    for name, text in texts.items():
        content = text.encode("utf-8", errors="replace")
        atomic_write(Path(folder) / name, partial(_put, content))
    return Path(folder) / "report.html"


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)
