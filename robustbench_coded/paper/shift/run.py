"""Accuracy under covariate shift: an ordinary evaluation of each set, without attacks, and one report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.run_unit import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import IncompleteRun, evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.checkpoints import data_named
from robustbench_coded.judge.run import run_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift.estimates import ShiftRun
from robustbench_coded.paper.shift.report import write_shift_report
from robustbench_coded.paper.shift.sets import ShiftSet, plain, sets_of


def sets_named(
    options: EvalConfig, data: Sequence[str], corruptions: Sequence[str], severities: Sequence[int]
) -> list[ShiftSet]:
    """The sets in the order in which they are evaluated.

    Args:
        data: what `sets_of` takes, or ``auto`` for the data of the checkpoints. corruptions, severities: of
            what is corrupted; no corruptions are all.

    Raises:
        InputError: a checkpoint or data are not usable, or a corruption or severity is unknown.
    """
    if not options.checkpoints:
        raise InputError("no checkpoint given; name one with --ckpt model.pt")
    if "auto" in data:
        given = [load_checkpoint(path, arch=options.arch, name=name) for name, path in options.checkpoints]
        own = data_named(replace(options, data="auto"), given)
        data = [own if spec == "auto" else spec for spec in data]
    parts = (sets_of(spec, corruptions, severities, options.data_dir) for spec in dict.fromkeys(data))
    return [one for part in parts for one in part]


def shift(options: EvalConfig, sets: Sequence[ShiftSet], listener: Listener) -> Path:
    """Evaluates every set in a folder of its own, or goes on with it, and writes the report of all.

    Args:
        options: whose ``data`` and ``attacks`` are not used.

    Returns:
        the folder.

    Raises:
        InputError: the options, a checkpoint, the data or a folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept.
    """
    path = options.out or Path("runs") / plain(f"shift {options.checkpoints[0][0]}")
    # At eps 0 random signs change nothing, so that unperturbed inputs are all that is answered.
    forward_only = replace(options, attacks=(), eps=(0.0,), all=True)
    failures: list[UnitFailure] = []
    listener.opened(path)
    for number, one in enumerate(sets, 1):
        listener.note(
            f"set {number} of {len(sets)}: {one.collection}, {one.name} {one.severity or ''}".rstrip()
        )
        try:
            # Without a run.toml, which can't ask for no attacks.
            evaluate(replace(forward_only, data=one.data, out=path / one.folder), in_memory=InMemory())
        except IncompleteRun as error:
            failures += error.failures
    write_shift_report(loaded(path, sets))
    if failures:
        raise IncompleteRun(path, failures)
    return path


def loaded(path: Path, sets: Sequence[ShiftSet]) -> ShiftRun:
    """The evaluations of these sets in the folder of all."""
    return ShiftRun(path, {one: run_data(path / one.folder) for one in sets})
