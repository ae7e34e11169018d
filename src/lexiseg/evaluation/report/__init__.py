"""An evaluation as files: a page that needs nothing else, Markdown, CSV and JSON; equal ones, equal bytes."""

from lexiseg.evaluation.report.write import write_report

__all__ = ["write_report"]
