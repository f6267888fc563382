"""``csrobust show``: a run at the terminal, or one of its examples."""

import json
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, RunFolder


def show_command(
    run: RunFolder,
    example: Annotated[int | None, typer.Option("--example", help="One example, by its number.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show a run, or all answers to one of its examples."""
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import example_table, run_table
    from robustbench_coded.reports.run.example import example_text_table
    from robustbench_coded.results.run import load_run

    loaded = load_run(run)
    if example is None:
        if as_json:
            print(json.dumps(loaded.as_data()))
        else:
            Console().print(run_table(loaded))
        return 0
    sheet = example_text_table(loaded, example)
    if as_json:
        rows = [dict(zip(map(str.lower, sheet.heads), row, strict=True)) for row in sheet.rows]
        print(json.dumps({"run": str(run), "example": example, "rows": rows}))
    else:
        Console().print(example_table(f"example {example} of {loaded.name}", sheet))
    return 0
