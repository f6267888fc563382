"""Makes an entry of a run: its folder with entry.toml, the run, and the hashes of all files."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.board.check_entry import refuse_broken
from robustbench_coded.board.signature import HASHES, sign
from robustbench_coded.board.source import CODE, ENTRY, RUN, hashes_of, read_entry
from robustbench_coded.errors import InputError
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.atomic import write_text

# What a report is made of again, and what a run keeps for itself alone.
LEFT_OUT = (".lock", "*.part", "perturbed", "figures", "report.html")


def submit(
    path: Path, entry_file: Path, out: Path, code: Sequence[Path] = (), key: Path | None = None
) -> Path:
    """Checks a run against the rules of the board and writes the folder of its entry.

    Args:
        path: the run folder.
        entry_file: entry.toml.
        out: the folder below which the entry's own is made, named by the defence.
        code: files of a plug-in defence, so that others can load it.
        key: SSH private key that signs the hashes.

    Raises:
        InputError: the entry or the run breaks a rule, a file is missing, or there is an entry of that name.
    """
    entry, run = read_entry(entry_file), load_run(path)
    refuse_broken(run, entry)
    if missing := [file for file in code if not file.is_file()]:
        raise InputError(f"--code {missing[0]} is no file; name the files that the defence is imported from")
    folder = out / (re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")[:60] or "entry")
    if folder.exists():
        raise InputError(f"{folder} is there already; remove it, or give the entry another name")
    shutil.copytree(path, folder / RUN, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for file in code:
        (folder / CODE).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / CODE / file.name)
    write_text(folder / ENTRY, entry_file.read_text(encoding="utf-8"))
    write_text(folder / HASHES, hashes_of(folder))
    if key is not None:
        try:
            sign(folder, key)
        except InputError:
            shutil.rmtree(folder)  # the same command with another key writes it
            raise
    return folder
