"""``csrobust compact``: finished runs in few files."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.reports.text.escape import one_line


def compact_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
) -> int:
    """Pack the files of a finished run into two.

    Outcomes go into one file, timings into another. The run can still be extended.
    """
    from robustbench_coded.runs.folder import RunFolder, read_manifest
    from robustbench_coded.runs.packed import pack

    for path in runs:
        read_manifest(path)
        with RunFolder(path) as folder:
            print(one_line(f"{path}: {pack(folder.path)} units in {path / 'outcomes' / 'packed.parquet'}"))
    return 0
