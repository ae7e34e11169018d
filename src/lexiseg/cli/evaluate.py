"""`lexiseg evaluate`: how good masks are, and a report that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli.tables import rich_table
from lexiseg.cli.terminal import FAILED, LogLevel, answer, count_bar, reporting, set_up_logging, talk


def evaluate(  # noqa: PLR0917  (typer takes options from the signature)
    pred: Annotated[
        Path,
        typer.Option(
            "--pred", metavar="DIR", help="Masks by `lexiseg segment`, or ID.png, .nii.gz, .nrrd, .seg.dcm and so on."
        ),
    ],
    manifest: Annotated[Path, typer.Option(metavar="CSV", help="The truth: id,image[,mask][,bbox][,group][,label].")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the report goes; without, tables alone.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What the manifest's paths are relative to and where they may lead; its own folder by default.",
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="DIR", help="Another system's predictions; more than once."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COLUMN", help="Summarise each value of a column too, such as label."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="X", help="Of NSD, in mm; in pixels for scans without spacing.")
    ] = 2.0,
    empty: Annotated[
        str,
        typer.Option(
            metavar="score|skip",
            help="Both masks empty: the best value; one: the worst. Or leave out what is undefined.",
        ),
    ] = "score",
    absent: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Rows of this label without mask and box hold no target."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="PHRASE", help="Which mask, where several were asked for; the row's text by default."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="[NAME=]VALUE",
            help="The target's value in label maps, or number in a SEG or RTSTRUCT: 2, liver=2, 1,2,4, #ff0000.",
        ),
    ] = None,
    true_label: Annotated[
        list[str] | None,
        typer.Option(
            "--true-label", metavar="[NAME=]VALUE", help="The same of the truth, where it has another value there."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(metavar="N", min=1, help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the bootstrap.")] = 0,
    cases: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Scans of each kind (best, median, worst) to show; 0: none."),
    ] = 5,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.warning,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, no table; errors alone.")] = False,
) -> None:
    """Score masks against the truth of a manifest, with confidence intervals.

    With --out, writes report.html (one page, no network), report.md, report.json, summary.csv, comparisons.csv and
    cases.csv. Predictions are matched by id; one that is missing, of another size or affine, or of several
    values is listed with the reason and scores 0; how many are missing is said first. What was decided on
    reading a mask is in the column notes and in the report. The page shows scans: give
    --cases 0 to keep them out of it.

    Exit status: 0 all scored, 1 some predictions or truths could not be used (the report says which), 2 bad
    usage.
    """
    set_up_logging(log_level, quiet=quiet)
    with reporting():
        from lexiseg.errors import UsageError
        from lexiseg.evaluation.evaluate import evaluate as run_evaluation
        from lexiseg.evaluation.metrics.catalogue import EmptyRule
        from lexiseg.evaluation.remarks import remarks
        from lexiseg.evaluation.report.page import refuse_folder, write_report
        from lexiseg.evaluation.report.tables import presence_table, short_table
        from lexiseg.evaluation.settings import EvaluationSettings, LabelChoice
        from lexiseg.evaluation.statistics import Bootstrap
        from lexiseg.io.names import printable

        if empty not in set(EmptyRule):
            raise UsageError(f"--empty is {empty}; expected {' or '.join(EmptyRule)}")
        settings = EvaluationSettings(
            tolerance=tolerance,
            empty=EmptyRule(empty),
            bootstrap=Bootstrap(resamples=resamples, seed=seed),
            by=tuple(dict.fromkeys(by or ())),
            absent=tuple(absent or ()),
            text=text,
            labels=tuple(map(LabelChoice.parse, label or ())),
            true_labels=tuple(map(LabelChoice.parse, true_label or ())),
        )
        if out is not None:
            refuse_folder(out, inputs=[manifest])
        with count_bar("scoring", quiet=quiet) as tell:
            found = run_evaluation(manifest, [pred, *(against or ())], settings, root=root, progress=tell)
        page = write_report(found, out, cases=cases) if out is not None else None
        if not quiet:
            answer().print(rich_table(short_table(found)))
            if page is None:
                answer().print(rich_table(presence_table(found)))
            for system in found.systems:
                if system.failed():
                    talk().print(
                        f"{system.name}: {len(system.failed())} of {len(system.cases)} predictions missing "
                        "or refused; they score the worst value",
                        markup=False,
                    )
            if found.unusable:
                first = found.unusable[0]
                why = f"the first, {printable(first.id)}: {first.reason}"
                talk().print(f"{len(found.unusable)} rows have no usable truth; {why}", markup=False)
            for line in remarks(found):
                talk().print(line, markup=False)
            noted = sum(any(not note.startswith("run: ") for note in case.notes) for case in found.systems[0].cases)
            if noted:
                where = "are in the report and in cases.csv" if page is not None else "come with --out DIR"
                talk().print(f"notes on the masks of {noted} scans {where}", markup=False)
            if page is not None:
                talk().print(f"the report is {page}", markup=False)
        if not found.complete:
            raise typer.Exit(FAILED)
