"""Writes the board: index.html, a page for each defence, board.json and its schema."""

from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.board.entries import board_of
from robustbench_coded.board.entry import Board, encoded, schema
from robustbench_coded.board.page import entry_page, index_page
from robustbench_coded.board.source import source_at
from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_bytes, write_text
from robustbench_coded.version import __version__

PAGES = "entries"


def write_board(folders: Sequence[Path], out: Path) -> Board:
    """Reads run folders and submitted entries and writes the site of their defences; the same bytes again.

    Args:
        folders: each a run folder, or what `csrobust submit` wrote.
        out: where index.html goes. Pages of defences that are gone are removed.

    Raises:
        InputError: a folder that is neither, is not finished, or whose files were changed.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    board, runs = board_of([source_at(folder) for folder in folders], __version__)
    pages = {}
    for run in runs:
        for name in dict.fromkeys(entry.id for entry in board.entries if entry.run == run.name):
            of_it = [entry for entry in board.entries if entry.id == name]
            pages[f"{name}.html"] = entry_page(run, of_it)
    write_text(out / "index.html", index_page(board))
    for name, text in pages.items():
        write_text(out / PAGES / name, text)
    for old in (out / PAGES).glob("*.html"):
        if old.name not in pages:
            old.unlink()
    write_bytes(out / "board.json", encoded(board))
    write_bytes(out / "board.schema.json", schema())
    return board
