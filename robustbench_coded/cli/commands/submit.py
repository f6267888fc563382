"""``csrobust submit``: a run, checked against the rules of the board and made into an entry."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.reports.text.escape import one_line


def submit_command(
    run: Annotated[Path, typer.Argument(help="Run folder made with --save-adversarials.")],
    entry: Annotated[Path, typer.Option("--entry", help="entry.toml; docs/board.md lists its fields.")],
    out: Annotated[Path, typer.Option("--out", help="Folder in which the entry's folder is created.")] = Path(
        "board-entries"
    ),
    code: Annotated[
        list[Path] | None, typer.Option("--code", help="Python file of the defence, stored with the entry.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option("--sign", help="SSH private key that signs the entry's hashes.")
    ] = None,
) -> int:
    """Check a run against the board's rules and write its entry."""
    from robustbench_coded.board.submit import submit

    folder = submit(run, entry, out, code or (), sign)
    print(one_line(f"entry: {folder}; see it with csrobust board {folder} --out board"))
    return 0
