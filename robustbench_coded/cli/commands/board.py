"""``csrobust board``: the defences of several runs as one static site."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.reports.text.escape import one_line


def board_command(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders, and folders that csrobust submit wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write index.html to.")] = Path("board"),
    as_json: Annotated[bool, typer.Option("--json", help="Print board.json, too.")] = False,
) -> int:
    """Write a static site of the defences in these runs.

    It has a sortable table and a page for each defence.
    """
    from robustbench_coded.board.entry import encoded
    from robustbench_coded.board.write import write_board
    from robustbench_coded.reports.text.formatting import counted

    board = write_board(folders, out)
    if as_json:
        print(encoded(board).decode(), end="")
    else:
        count = len({entry.id for entry in board.entries})
        size = f"{counted(count, 'defence')}, {counted(len(board.entries), 'verdict')}"
        print(one_line(f"board: {out / 'index.html'}, {size}"))
    return 0
