"""`bench regress`: did a change make a model slower or bigger?"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    FAILED,
    INCOMPLETE,
    OK,
    Traceback,
    chosen,
    complain,
    inputs_of,
    print_tracebacks,
    read_all,
    refuse_existing,
    refuse_inputs,
    refuse_unwritable,
)
from bench.commands.tables import Shown, prints_table

app = typer.Typer()

EXIT_CODES = {"PASSED": OK, "REGRESSED": FAILED, "INCONCLUSIVE": INCOMPLETE}

Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR", help="Folder that modules are imported from; by default the root and src. Repeatable."
    ),
]
Setup = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help='Installs a revision into an environment of its own, as "pip install -e .".',
    ),
]

Pairing = Annotated[
    str,
    typer.Option(help="auto, duet (base and head at the same time, each on half of the cores) or turns."),
]


@app.command()
@prints_table("-o", "--table", also=("junit",))
def regress(
    base: Annotated[str, typer.Option(help="The revision to compare with, as git names it.")],
    head: Annotated[
        str, typer.Option(help="The revision to judge; worktree for the working tree as it is.")
    ] = "worktree",
    impl: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Your models, as package.module:function, comma-separated. Repeatable."
        ),
    ] = None,
    source: Source = None,
    setup: Setup = None,
    suite: Annotated[
        str, typer.Option(help="A suite's name, or a file that ends in .yaml, as head has it.")
    ] = "ci",
    exact: Annotated[
        bool, typer.Option("--exact", help="Only FLOPs, tensor bytes, operators and parameters; no clock.")
    ] = False,
    from_diff: Annotated[
        bool, typer.Option("--from-diff", help="Only models whose modules differ between the revisions.")
    ] = False,
    margin: Annotated[
        str | None, typer.Option(help="For sure slower than this: REGRESSED. By default the suite's, or 1%.")
    ] = None,
    tolerance: Annotated[
        str | None, typer.Option(help="For sure not slower than this: PASSED. By default the suite's, or 3%.")
    ] = None,
    blocks: Annotated[int, typer.Option(help="In the first stage; what stays open gets twice as many.")] = 5,
    budget: Annotated[str, typer.Option(help="Time for all of it, as 90s, 3m30s or 1h.")] = "15m",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core.")] = None,
    pairing: Pairing = "auto",
    out: Annotated[Path | None, typer.Option(help="Result file; by default below results/runs.")] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Append the result to the job's summary on GitHub.")
    ] = False,
    comment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a comment that replaces its predecessor.")
    ] = None,
    traceback: Traceback = False,
    *,
    shown: Shown,
) -> None:
    """Tell whether a change made your model slower or bigger, in any git repository.

    In your repository, with a function build(task, hyperparameters) in mymodels/conv.py:

        bench regress --base origin/main --impl mymodels.conv:build

    Exit code 0: no, 1: yes, 2: it could not be measured, 3: it can't be told.
    """
    from bench.gate import regress as gate
    from bench.gate import reports
    from bench.gate.revisions import Code
    from bench.measure.request import default_out

    if summary:
        reports.summary_file()
    refuse_existing(out)
    refuse_inputs(comment, inputs_of([suite]), "--comment")
    refuse_unwritable(comment, "--comment")
    request = gate.GateRequest(
        base=base,
        head=head,
        code=Code(tuple(source or ()), setup),
        suite=suite,
        overrides=chosen(impl),
        margin=margin,
        tolerance=tolerance,
        blocks=blocks,
        budget=budget,
        exact=exact,
        from_diff=from_diff,
        device=device,
        threads=threads,
        pairing=pairing,
        out=default_out(suite, "regress") if out is None else out,
    )
    report = gate.regress(request)
    if shown.form == "junit":
        shown.write(reports.as_junit(report))
    elif shown.form == "markdown":
        shown.write(reports.as_markdown(report, shown.choice, shown.rows))
    else:
        shown.show(reports.as_table(report, shown.rows))
    if not shown.choice.notes:
        complain(f"{report.verdict}: {report.reason}")
    # Nothing is measured if nothing was touched, or if head can't be set up.
    if traceback and request.out.exists():
        print_tracebacks(read_all([request.out]))
    if summary:
        reports.append_summary(report)
    if comment is not None:
        reports.write_comment(report, comment)
    raise typer.Exit(EXIT_CODES[report.verdict])
