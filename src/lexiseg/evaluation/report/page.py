"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from importlib import resources

from lexiseg.evaluation.evaluation import Evaluation
from lexiseg.evaluation.metrics import metric_of
from lexiseg.evaluation.report.gallery import LEGEND, RANKS, Picture, draw_gallery
from lexiseg.evaluation.report.plots import bland_altman, box_plots, calibration_curves, colour
from lexiseg.evaluation.report.record import versions
from lexiseg.evaluation.report.tables import (
    comparison_table,
    counts_table,
    detail_table,
    failures_table,
    main_table,
    presence_table,
)
from lexiseg.evaluation.report.words import named, of_metric


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
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
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
        comparisons=comparison_table(evaluation) if evaluation.comparisons else None,
        failures=[failures_table(system) for system in evaluation.systems if system.failed()],
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
