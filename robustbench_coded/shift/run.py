"""One evaluation under covariate shift, from options to a finished folder. Forward passes only."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from robustbench_coded.engine.run import Engine
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.plan import AttackCase
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.folder import RunFolder, read_manifest
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CLEAN
from robustbench_coded.session.evaluate import IncompleteRun, opened_folder
from robustbench_coded.session.evaluation import plan_of
from robustbench_coded.session.forecast import Seconds
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import checked_against, kept_from, new_manifest
from robustbench_coded.session.run_plan import Done, run_plan
from robustbench_coded.shift.answers import SHIFT, ShiftFacts, as_data, facts_of, from_data
from robustbench_coded.shift.choose import ShiftConfig, chosen_sets
from robustbench_coded.shift.report import write_shift_report


def shift(config: ShiftConfig, listener: Listener | None = None) -> Path:
    """Runs an evaluation under shift, or goes on with it, and writes its report.

    A folder goes on where it stopped; more checkpoints and inferences extend it. Other sets, images, batches
    or seeds are refused.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    listener = listener or Listener()
    chosen = chosen_sets(config, listener)
    options = config.evaluation
    k = options.batch_sizes[0]
    facts = ShiftFacts(
        sets=facts_of(chosen.sets, k),
        k=k,
        limit=options.limit,
        subset=None if options.first or options.limit is None else "stratified",
        seed=options.seed,
        baseline=config.baseline_name,
    )
    evaluation = _forward_only(options)
    prepared = prepare(evaluation, InMemory(data=chosen.reference), say=listener.preparing)
    prepared = prepared.on_other_images(chosen.data)
    path = options.out or Path("reports") / f"shift-{prepared.folder_name}"
    with opened_folder(RunFolder(path, SHIFT), listener, write_shift_report) as folder:
        failures = _into(folder, config, evaluation, prepared, facts, listener)
    if failures:
        raise IncompleteRun(path, failures)
    return path


def _forward_only(options: EvalConfig) -> EvalConfig:
    """The engine's options: it gets the images as they are to be answered, and attacks nothing.

    Of the draws one is called a selection draw. Nothing is selected: both kinds are made alike and counted
    together.
    """
    return replace(
        options,
        attacks=(),
        victim_attacks=(),
        relaxed_attacks=(),
        limit=None,
        first=False,
        draws=options.draws - 1,
        selection_draws=1,
    )


def _into(
    folder: RunFolder,
    config: ShiftConfig,
    evaluation: EvalConfig,
    prepared: PreparedEvaluation,
    facts: ShiftFacts,
    listener: Listener,
) -> list:
    if evaluation.overwrite:
        folder.clear()
    old = _old(folder.path, facts)
    if old is not None:
        prepared = prepared.resumed_from(old)
    cases = [
        AttackCase(subject, WHOLE_BATCH, CLEAN, evaluation.norm, 0.0, evaluation.eps_space, None)
        for subject in prepared.subjects
    ]
    plan = plan_of(cases, prepared.maker().units, ())
    for text in prepared.notes:
        listener.note(text)
    fresh = new_manifest(prepared, plan)
    if old is not None:
        checked_against(old, fresh.identity, prepared.setup.checkpoints, folder.path)
    planned = {case.key for case in cases}
    kept = kept_from(old, {subject.key for subject in prepared.subjects}, planned)
    manifest = kept.extended_by(fresh)
    folder.write_manifest(as_data(facts, manifest))
    done = Done(_usable(folder, manifest, listener.note))
    store = PerturbationStore(folder.path)
    with Engine(prepared.context) as engine:
        run_plan(engine, folder, prepared, plan, done, store, listener, Seconds(prepared))
    store.remove()
    manifest = structs.replace(kept.revealed(manifest, done.metadata), finished=True)
    folder.write_manifest(as_data(facts, manifest))
    write_shift_report(folder.path)
    return list(done.failures.values())


def _old(path: Path, facts: ShiftFacts) -> RunManifest | None:
    """What the folder holds already.

    Raises:
        InputError: it was made of other sets.
    """
    if not (path / SHIFT).exists():
        return None
    before, manifest = from_data(read_manifest(path, SHIFT), f"{path}/{SHIFT}")
    if structs.replace(before, baseline=facts.baseline) != facts:
        raise InputError(
            f"{path} was made of other sets, images or batches; give another --out, or start anew with "
            "--overwrite"
        )
    return manifest


def _usable(folder: RunFolder, manifest: RunManifest, note: Callable[[str], None]) -> dict[str, dict]:
    """Metadata of the committed units; damaged files are set aside and computed again."""
    metadata, damaged = folder.committed(manifest.unit_ids)
    for unit, reason in damaged.items():
        aside = folder.set_aside(unit)
        note(f"{reason}; its unit is computed again (the file is now {aside.name})")
    return metadata
