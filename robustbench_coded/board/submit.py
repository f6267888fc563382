"""Submissions: the rules of the board, the check of an entry, and `csrobust submit`, which packs one."""

import re
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from attacks.presets import FOLLOWS_SHOWN, PRESETS, RELAXED
from robustbench_coded.board.source import (
    CODE,
    ENTRY,
    HASHES,
    RUN,
    SubmittedEntry,
    hashes_of,
    read_entry,
    source_at,
)
from robustbench_coded.errors import InputError
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.planned_case import PlannedCase
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS

FEWEST_EXAMPLES = 128  # 0 of so many right leave an upper end below the margin of 3 points
FEWEST_DRAWS = 4
# Of the default presets, what runs on every defence that has a base model and gradients.
REQUIRED = (*PRESETS["paper"], FOLLOWS_SHOWN, "transfer-pgd-20")


def broken_rules(run: Run, entry: SubmittedEntry) -> Iterator[str]:
    """A sentence on each rule that a submission breaks; the first is where to begin."""
    cases = [c for c in run.manifest.rows if (c.defence, c.checkpoint) == (entry.defence, entry.checkpoint)]
    if not cases:
        there = sorted({f"{case.defence} on {case.checkpoint}" for case in run.manifest.rows})
        yield f"the run has no {entry.defence} on {entry.checkpoint}; it has {', '.join(there)}"
        return
    if not run.manifest.finished:
        yield "the run is not finished; the command that began it goes on with it"
    if lost := [failure for failure in run.failures if failure.key.subject == cases[0].subject]:
        yield f"{len(lost)} units have no outcomes ({lost[0].key.attack}: {lost[0].error}); run it again"
    if not (run.path / "adversarials").is_dir():
        yield "no perturbed inputs are stored, so it cannot be verified; run it with --save-adversarials"
    for probe in run.manifest.probes:
        if probe.subject == cases[0].subject and probe.contradictions:
            yield f"the defence contradicts itself: it {probe.contradictions[0]}"
    yield from _scope(run, cases)


def _scope(run: Run, cases: list[PlannedCase]) -> Iterator[str]:
    """Attacks, examples and draws of the headline threat model."""
    whole = [case for case in cases if case.threat == str(WHOLE_BATCH) and not case.for_check]
    ran = {case.attack for case in whole}
    missing = [name for name in _required(cases[0], ran) if name not in ran]
    if missing:
        yield f"it lacks {', '.join(missing)} under {WHOLE_BATCH}; run --attacks paper,adaptive (the default)"
    attacked = [case for case in whole if case.attack not in CONTROLS]
    if any(case.stopped for case in attacked):
        yield "its attacks were stopped at a query budget; run it without --budget"
    examples = min((case.examples_planned for case in attacked), default=0)
    if examples < FEWEST_EXAMPLES:
        yield f"it has {examples} examples, and {FEWEST_EXAMPLES} are the fewest; raise --limit"
    draws = min((case.draws for case in attacked), default=0)
    if cases[0].randomised and draws < FEWEST_DRAWS:
        yield f"it has {draws} scoring draws, and {FEWEST_DRAWS} are the fewest; raise --draws"
    if run.manifest.last.options.get("checks") is False:
        yield "the attacks of the checks were left out; run it with --checks"


def _required(case: PlannedCase, ran: Collection[str]) -> list[str]:
    transfer = case.has_base and case.defence != "standard"
    required = [name for name in REQUIRED if transfer or not name.startswith("transfer-")]
    # Where operators hide the gradient, the default may stop after the relaxed attack.
    return [name for name in required if name != FOLLOWS_SHOWN or RELAXED[0] not in ran]


def opened_entry(folder: Path) -> AbstractContextManager[Path] | None:
    """`checked_entry` of a folder that `csrobust submit` wrote; None for any other."""
    return checked_entry(folder) if (folder / ENTRY).is_file() else None


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


# What a report is made of again, and what a run keeps for itself alone.
LEFT_OUT = (".lock", "*.part", "perturbed", "figures", "report.html")


def submit(path: Path, entry_file: Path, out: Path, code: Sequence[Path] = ()) -> Path:
    """Checks a run against the rules of the board and writes the folder of its entry.

    Args:
        path: the run folder.
        entry_file: entry.toml.
        out: the folder below which the entry's own is made, named by the defence.
        code: files of a plug-in defence, so that others can load it.

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
    return folder
