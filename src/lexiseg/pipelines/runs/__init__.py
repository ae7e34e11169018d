"""Runs over many scans: files in, masks and a table out, resumable, with a record of what made them.

`segment_files` is the whole of it; `gather_items` makes the list of scans, `run_batch` works through it.
Nothing here draws a bar: progress is told to a callback.
"""

from lexiseg.pipelines.runs.batch import run_batch
from lexiseg.pipelines.runs.folder import check_folder
from lexiseg.pipelines.runs.items import RunItem, gather_items
from lexiseg.pipelines.runs.one import internal_error
from lexiseg.pipelines.runs.row import COLUMNS, Row
from lexiseg.pipelines.runs.segment import RunRequest, segment_files
from lexiseg.pipelines.runs.table import read_results
from lexiseg.pipelines.runs.values import Pipeline, RunOptions, RunProgress, RunSummary

__all__ = [
    "COLUMNS",
    "Pipeline",
    "Row",
    "RunItem",
    "RunOptions",
    "RunProgress",
    "RunRequest",
    "RunSummary",
    "check_folder",
    "gather_items",
    "internal_error",
    "read_results",
    "run_batch",
    "segment_files",
]
