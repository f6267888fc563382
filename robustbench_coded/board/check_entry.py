"""Is a submitted entry what it was, and does it keep the rules?"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robustbench_coded.board.rules import broken_rules
from robustbench_coded.board.source import CODE, ENTRY, SubmittedEntry, source_at
from robustbench_coded.errors import InputError
from robustbench_coded.results.run import Run, load_run


def is_entry(folder: Path) -> bool:
    """Whether `csrobust submit` wrote a folder."""
    return (folder / ENTRY).is_file()


@contextmanager
def checked_entry(folder: Path) -> Iterator[Path]:
    """The folder of an entry's run; within it, modules are looked for among the entry's code first.

    Raises:
        InputError: a file was changed since the entry was submitted, or it breaks a rule.
    """
    source = source_at(folder)
    assert source.entry is not None
    refuse_broken(load_run(source.path), source.entry)
    code, writes = str((folder / CODE).resolve()), sys.dont_write_bytecode
    sys.path.insert(0, code)
    sys.dont_write_bytecode = True  # the folder stays as its hashes say
    try:
        yield source.path
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(code)


def refuse_broken(run: Run, entry: SubmittedEntry) -> None:
    """Raises InputError with the rules that an entry breaks."""
    if broken := list(broken_rules(run, entry)):
        more = f" (and {len(broken) - 1} more: {'; '.join(broken[1:])})" if len(broken) > 1 else ""
        raise InputError(f"{run.path} can't go on the board: {broken[0]}{more}")
