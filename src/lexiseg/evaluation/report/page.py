"""Every format of the report into one folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.report.gallery import LEGEND, RANKS, Picture, draw_gallery
from lexiseg.evaluation.report.plots import bland_altman, box_plots, calibration_curves, colour
from lexiseg.evaluation.report.record import cases_csv, comparisons_csv, summary_csv, to_json, versions
from lexiseg.evaluation.report.tables import (
    comparison_table,
    counts_table,
    detail_table,
    failures_table,
    main_table,
    named,
    notes_table,
    of_metric,
    presence_table,
    threshold_table,
)
from lexiseg.evaluation.report.writing import Cell, Table, escaped, markdown_table, write_texts
from lexiseg.evaluation.results import Evaluation
from lexiseg.io.taken import refuse_taken

_BEGINNINGS = {
    "cases.csv": r"system,id,group,",
    "summary.csv": r"system,column,value,metric,",
    "comparisons.csv": r"metric,first,second,cases,groups,",
    "report.json": r'\{\s*"versions": \{\s*"lexiseg": ',
    "report.md": r"# [^\n]*\n\n[^\n]*; lexiseg ",
    "report.html": r"<!doctype html>.* scans of \d+ groups\.",
}
"""The files of a report, and how each begins."""


def refuse_folder(folder: str | Path, *, inputs: Iterable[str | Path] = ()) -> None:
    """Pass unless a report would overwrite what it did not write.

    Args:
        folder: where a report is to go.
        inputs: tables that the evaluation reads.

    Raises:
        UsageError: the folder is a file, or holds a file of a report's names that no report wrote, or that is read.
        UnwritableResult: a folder above it is a file.
    """
    refuse_taken(folder, _BEGINNINGS, inputs=inputs)


def to_markdown(evaluation: Evaluation) -> str:
    """All tables, failures by name, and how it was measured."""
    return "\n".join(_lines(evaluation)) + "\n"


def _lines(evaluation: Evaluation) -> Iterator[str]:
    settings = evaluation.settings
    first = evaluation.systems[0]
    yield f"# {escaped(' vs '.join(system.name for system in evaluation.systems))}"
    yield ""
    yield (
        f"{escaped(evaluation.manifest)}: {len(first.cases)} scans of {first.counts()['groups']} groups; "
        f"lexiseg {versions()['lexiseg']}."
    )
    yield (
        f"Intervals: {settings.bootstrap.level:.0%}, {settings.bootstrap.resamples} resamples of whole "
        f"groups, seed {settings.bootstrap.seed}. Empty masks: rule “{settings.empty.value}”. "
        "Missing and refused predictions score the worst value."
    )
    for stratum in evaluation.strata:
        yield from _titled(main_table(evaluation, stratum))
    yield from _titled(counts_table(evaluation))
    yield from _titled(presence_table(evaluation))
    thresholds = threshold_table(evaluation)
    if thresholds.rows:
        yield from _titled(thresholds)
    if evaluation.comparisons:
        yield from _titled(comparison_table(evaluation))
    for system in evaluation.systems:
        yield from _titled(detail_table(evaluation, system))
    for system in evaluation.systems:
        if system.failed():
            table = failures_table(system)
            yield from _titled(Table(f"{table.title}: missing and refused", table.header, table.rows))
    for system in evaluation.systems:
        notes = notes_table(system)
        if notes.rows:
            yield from _titled(Table(f"{notes.title}: notes", notes.header, notes.rows))
    if evaluation.unusable:
        cells = tuple((Cell(row.id), Cell(row.reason)) for row in evaluation.unusable)
        yield from _titled(Table("Rows without a usable truth", ("scan", "reason"), cells))


def _titled(table: Table) -> Iterator[str]:
    yield from ("", f"## {escaped(table.title)}", "")
    yield from markdown_table(table)


def to_html(evaluation: Evaluation, *, cases: int = 5) -> str:
    """The page. It asks for nothing from any network; scans are shown in it, so it is as private as they are.

    Args:
        evaluation: what to tell.
        cases: how many of the best, median and worst cases of each system are shown; 0 for none, which leaves
            all pixels of scans out.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = resources.files("lexiseg.evaluation.report").joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        title=_title(evaluation),
        evaluation=evaluation,
        versions=versions(),
        colours=[colour(place) for place, _ in enumerate(evaluation.systems)],
        main=main_table(evaluation),
        counts=counts_table(evaluation),
        details=[detail_table(evaluation, system) for system in evaluation.systems],
        strata=[
            (named(stratum), len_of(evaluation, stratum), main_table(evaluation, stratum))
            for stratum in evaluation.strata[1:]
        ],
        presence=presence_table(evaluation),
        thresholds=threshold_table(evaluation),
        comparisons=comparison_table(evaluation) if evaluation.comparisons else None,
        failures=[failures_table(system) for system in evaluation.systems if system.failed()],
        notes=[table for table in map(notes_table, evaluation.systems) if table.rows],
        plots={
            "boxes": Markup(box_plots(evaluation)),  # noqa: S704  (matplotlib escapes the text in it)
            "sizes": Markup(bland_altman(evaluation)),  # noqa: S704
            "calibration": Markup(calibration_curves(evaluation)),  # noqa: S704
        },
        galleries=_galleries(evaluation, cases),
        legend=LEGEND,
        metrics=[metric_of(key) for key in evaluation.metrics],
        caption=caption,
    )


def caption(picture: Picture) -> str:
    """A case's scores in a few words."""
    values = picture.case.values
    key = "dice" if "dice" in values else "box_iou"
    told = [f"{metric_of(key).title} {of_metric(key, values[key])}"]
    if picture.note:
        told.append(picture.note)
    elif not picture.case.truly_present:
        told.append("nothing is there")
    return ", ".join(told)


def len_of(evaluation: Evaluation, stratum: tuple[str, str]) -> int:
    """How many scans a stratum has."""
    return evaluation.systems[0].counts(stratum)["scans"]


def _title(evaluation: Evaluation) -> str:
    return " vs ".join(system.name for system in evaluation.systems)


def _galleries(evaluation: Evaluation, cases: int) -> list[tuple[str, list[tuple[str, list[Picture]]]]]:
    if cases < 1:
        return []
    found: list[tuple[str, list[tuple[str, list[Picture]]]]] = []
    for system in evaluation.systems:
        drawn = draw_gallery(evaluation, system, count=cases)
        by_rank = [(rank, [each for each in drawn if each.rank == rank]) for rank in RANKS]
        found.append((system.name, [each for each in by_rank if each[1]]))
    return found


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
        UsageError: see `refuse_folder`.
        UnwritableResult: the file system refused.
    """
    refuse_folder(folder)
    texts = {
        "cases.csv": cases_csv(evaluation),
        "summary.csv": summary_csv(evaluation),
        "comparisons.csv": comparisons_csv(evaluation),
        "report.json": to_json(evaluation),
        "report.md": to_markdown(evaluation),
        "report.html": to_html(evaluation, cases=cases),
    }
    return write_texts(texts, Path(folder))[-1]
