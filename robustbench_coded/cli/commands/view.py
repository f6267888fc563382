"""``csrobust view``: all runs of a folder in one page."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import one_line


def view_command(
    folder: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("reports"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Output file; default: view.html in the folder.")
    ] = None,
) -> int:
    """Write a page for browsing all runs of a folder.

    Its rows can be filtered, and two of them compared. Each links to the report of its run.
    """
    from robustbench_coded.runs.atomic import write_text
    from robustbench_coded.view.page import view_page

    file = out or folder / "view.html"
    if file.is_dir():
        raise InputError(f"--out {file} is a folder; give a file, {file / 'view.html'}")
    text = view_page(folder, file)
    write_text(file, text)
    print(one_line(f"view: {file}, {len(text.encode()) / 1000:.0f} kB"))
    return 0
