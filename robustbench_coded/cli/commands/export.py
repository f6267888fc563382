"""``csrobust export``: a run in the format of another tool."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import RunFolder
from robustbench_coded.reports.text.escape import one_line


def export_command(
    run: RunFolder,
    to: Annotated[
        str, typer.Option("--to", help="wandb or mlflow (offline), robustbench (JSON), parquet, or latex.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("exports"),
) -> int:
    """Write a run in the format of another tool."""
    from robustbench_coded.exporters.export import export

    for file in export(run, to, out):
        print(one_line(f"{to}: {file}"))
    return 0
