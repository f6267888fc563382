"""``csrobust report``: writes the report of a run again, from its files alone."""

import json
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, RunFolder


def report_command(
    run: RunFolder,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the report and print nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write the report of a run again from its files."""
    from rich.console import Console

    from robustbench_coded.cli.commands.shift import print_shift
    from robustbench_coded.reports.render.terminal import result
    from robustbench_coded.reports.text.escape import one_line
    from robustbench_coded.reports.write import write_reports
    from robustbench_coded.results.run import load_run
    from robustbench_coded.shift.answers import is_shift
    from robustbench_coded.shift.report import write_shift_report

    if is_shift(run):
        return print_shift(write_shift_report(run), quiet=quiet, as_json=as_json)
    write_reports(run)
    if as_json:
        print(json.dumps(load_run(run).as_data()))
    elif not quiet:
        Console().print(result(load_run(run)))
        print(one_line(f"report: {run / 'report.md'}"))
    return 0
