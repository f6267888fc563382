"""One evaluation from options to a finished run folder."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Thread

from robustbench_coded.engine.run import Engine
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.results import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.run_file import run_toml
from robustbench_coded.evaluation.planning.follow_up import ROUNDS
from robustbench_coded.evaluation.planning.rounds import rounds_for
from robustbench_coded.evaluation.planning.time_limit_plan import time_text
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.evaluation.setup.zoo_entry import with_zoo
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.runs.folder import MANIFEST, RunFolder
from robustbench_coded.session.attack_code import other_attacks
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import (
    checked_against,
    checked_rounds,
    new_manifest,
)
from robustbench_coded.session.plans import make_plan
from robustbench_coded.session.selftesting import run_selftests, with_selftests
from robustbench_coded.session.stages import Stages
from robustbench_coded.session.stopped import IncompleteRun, opened_folder
from robustbench_coded.session.tracked import tracked_by_git
from robustbench_coded.session.within_time import Deadline, within_time

# Draws the figures. It takes a third of a second to import, which is done while attacks run.
FIGURES = "matplotlib.figure"


def evaluate(config: EvalConfig, listener: Listener | None = None, in_memory: InMemory | None = None) -> Path:
    """Runs an evaluation, or goes on with it, and writes its reports.

    Units that the folder already holds are not computed again; options that change what a unit means give it
    another identity, so that a folder never mixes the two.

    Args:
        in_memory: data, models and defences that are in memory already; None for none, but for what a defence
            of the zoo brings.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        CertificateContradicted: an attack did what a certified bound rules out.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    listener = listener or Listener()
    deadline = None if config.time is None else Deadline(config.time, time.monotonic())
    run_file = None if in_memory is not None else run_toml(config)
    config, prepared, path = made_ready(config, in_memory, deadline, listener.preparing)
    if config.resume and not (path / MANIFEST).exists():
        raise InputError(f"--resume: {path} holds no run to go on with; leave --resume out to start one")
    with (
        opened_folder(RunFolder(path), listener, _write_reports) as folder,
        Engine(prepared.context) as engine,
    ):
        failures = _evaluate_into(folder, engine, config, prepared, listener, deadline, run_file)
    if failures:
        raise IncompleteRun(path, failures)
    return path


def _write_reports(path: Path) -> None:
    from robustbench_coded.reports.write import write_reports  # after matplotlib, see FIGURES

    write_reports(path)


def made_ready(
    config: EvalConfig,
    in_memory: InMemory | None = None,
    deadline: Deadline | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[EvalConfig, PreparedEvaluation, Path]:
    """Options, everything that they name, and the run folder; cut down to a time limit, if there is one.

    Writes nothing; ``say`` is told what is probed.

    Raises:
        InputError: the options, a checkpoint or the data are not usable.
    """
    if in_memory is None:
        config, in_memory = with_zoo(config)
    prepared = prepare(config, in_memory, say=say)
    path = config.out or Path("reports") / prepared.folder_name
    if deadline is None:
        return config, prepared, path
    if config.out is None:  # how many examples fit, and with them the name, may be another the next time
        path = path.with_name(f"{path.name}-{time_text(deadline.seconds)}")
    return *within_time(config, prepared, in_memory, path, deadline), path


def _evaluate_into(
    folder: RunFolder,
    engine: Engine,
    config: EvalConfig,
    prepared: PreparedEvaluation,
    listener: Listener,
    deadline: Deadline | None,
    run_file: str | None,
) -> list[UnitFailure]:
    """Brings a run folder up to date with its options; returns the units that failed."""
    if config.overwrite:
        folder.clear()
    old = load_manifest(folder.path) if (folder.path / MANIFEST).exists() else None
    if old is not None:
        prepared = prepared.resumed_from(old)
    prepared = with_selftests(prepared)
    if config.until is not None:
        prepared = replace(prepared, rounds=rounds_for(config, prepared.setup.examples))
    plan = make_plan(config, prepared)
    if prepared.rounds is not None:
        prepared.rounds.planned = frozenset(row.key for row in plan.rows)
    if old is not None:
        checked_against(old, new_manifest(config, prepared, plan), folder.path)
        if prepared.rounds is not None:
            checked_rounds(old, prepared.rounds.planned, folder.path)
    for text in (*prepared.notes, *(other_attacks(old) if old is not None else ())):
        listener.note(text)
    if tracked_by_git(folder.path):
        listener.note(f"git tracks {folder.path}: this changes committed files; --out gives another folder")
    stages = Stages(folder, engine, config, prepared, plan, old, listener, deadline)
    folder.write_run_file(run_file)
    Thread(target=import_module, args=(FIGURES,)).start()
    run_selftests(folder, prepared, listener)
    if config.until is None:
        stages.first_attacks()
    else:
        stages.rounds()
    stages.second_stage()
    stages.time_left()
    stages.submissions()
    stages.checks()
    stages.submissions(ROUNDS)  # what the checks found, and then what is strongest because of it
    stages.partitions()
    stages.finish()
    return list(stages.done.failures.values())
