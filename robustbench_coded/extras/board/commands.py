"""``csrobust board`` and ``submit``: defences of several runs as one static site, and entries for it."""

from pathlib import Path
from typing import Annotated

from robustbench_coded.cli.parser import examples
from robustbench_coded.options.option import Option
from robustbench_coded.reports.text.escape import one_line


@examples("csrobust board runs/mine --out board")
def board_command(
    folders: Annotated[
        list[Path], Option("Run folders, and folders that csrobust submit wrote.", positional=True)
    ],
    out: Annotated[Path, Option("Folder to write index.html to.")] = Path("board"),
    as_json: Annotated[bool, Option("Print board.json, too.", word="json")] = False,
) -> int:
    """Write a static site of the defences in these runs.

    It has a sortable table, and the details of each defence.
    """
    from robustbench_coded.extras.board.entry import encoded
    from robustbench_coded.extras.board.page import sizes_of, write_board

    board = write_board(folders, out)
    if as_json:
        print(encoded(board).decode(), end="")
    else:
        print(one_line(f"board: {out / 'index.html'}, {sizes_of(board)}"))
    return 0


@examples("csrobust submit runs/mine --entry entry.toml --out board-entries")
def submit_command(
    run: Annotated[Path, Option("Run folder made with --save-adversarials.", positional=True)],
    entry: Annotated[Path, Option("entry.toml; docs/board.md lists its fields.")],
    out: Annotated[Path, Option("Folder in which the entry's folder is created.")] = Path("board-entries"),
    code: Annotated[list[Path] | None, Option("Python file of the defence, stored with the entry.")] = None,
) -> int:
    """Check a run against the leaderboard's rules and write its entry."""
    from robustbench_coded.extras.board.submit import submit

    folder = submit(run, entry, out, code or ())
    print(one_line(f"entry: {folder}; see it with csrobust board {folder} --out board"))
    return 0
