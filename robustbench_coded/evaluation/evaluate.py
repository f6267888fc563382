"""One evaluation from options to a finished run folder."""

from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.engine.local import run_in_process
from robustbench_coded.engine.results import UnitFailure, UnitResult
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.config import EvalConfig
from robustbench_coded.evaluation.forecast import forecast
from robustbench_coded.evaluation.listener import Listener
from robustbench_coded.evaluation.manifest import checked_against, extended, new_manifest
from robustbench_coded.evaluation.plan import Plan, UnitMaker, rows_for
from robustbench_coded.evaluation.prepare import Prepared, prepare
from robustbench_coded.reports.write import write_reports
from robustbench_coded.runs.folder import RunFolder


def evaluate(config: EvalConfig, listener: Listener | None = None) -> Path:
    """Runs an evaluation, or goes on with it, and writes its reports.

    Units that the folder already holds are not computed again; options that change what a unit means give it
    another identity, so that a folder never mixes the two.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    listener = listener or Listener()
    prepared = prepare(config)
    plan = make_plan(config, prepared)
    path = config.out or Path("reports") / prepared.folder_name
    if config.resume and not (path / "run.json").exists():
        raise InputError(f"--resume: {path} holds no run to go on with; leave --resume out to start one")
    with RunFolder(path) as folder:
        old = folder.manifest()
        if old is not None and config.overwrite:
            folder.clear()
            old = None
        fresh = new_manifest(config, prepared, plan)
        if old is not None:
            checked_against(old, fresh, path)
        for text in prepared.notes:
            listener.note(text)
        manifest = extended(old, fresh)
        folder.write_manifest(manifest)
        failures = _run(folder, prepared, plan, listener)
        folder.write_manifest({**manifest, "finished": True})
    write_reports(path)
    if failures:
        raise IncompleteRun(path, failures)
    return path


class IncompleteRun(Exception):
    """Some units of a run failed: their rows are incomplete in the report."""

    def __init__(self, path: Path, failures: Sequence[UnitFailure]):
        self.path = path
        self.failures = tuple(failures)
        first = failures[0]
        row = first.unit.row
        super().__init__(
            f"{len(failures)} units failed, the first: {row.attack} on {row.subject.checkpoint} behind "
            f"{row.subject.label}: {first.error}"
        )


def make_plan(config: EvalConfig, prepared: Prepared) -> Plan:
    """Rows and units of an evaluation; the same options, checkpoints and data give the same plan."""
    rows, notes = rows_for(config, prepared.subjects, prepared.eps)
    maker = UnitMaker(config, prepared.setup.examples, prepared.setup.group_images, prepared.context)
    units = [unit for row in rows for unit in maker.units(row)]
    return Plan(tuple(rows), tuple(units), tuple(notes))


def _run(folder: RunFolder, prepared: Prepared, plan: Plan, listener: Listener) -> list[UnitFailure]:
    """Computes and commits what the folder does not hold yet."""
    ids = [unit.id for unit in plan.units]
    for unit, reason in folder.damaged(ids).items():
        listener.note(f"{reason}; unit {unit} is computed again")
    committed = folder.committed(ids)
    pending = [unit for unit in plan.units if unit.id not in committed]
    listener.planned(plan, forecast(prepared, plan, pending))
    failures: list[UnitFailure] = []
    try:
        for result in run_in_process(prepared.setup, pending, prepared.bench):
            if isinstance(result, UnitFailure):
                folder.record_failure(result.unit.id, {"error": result.error, "attempts": result.attempts})
                failures.append(result)
                listener.unit_failed(result.unit, result.error)
            else:
                _commit(folder, result)
                _announce(listener, result)
    except KeyboardInterrupt:
        folder.write_manifest({**(folder.manifest() or {}), "finished": False})
        write_reports(folder.path)
        raise
    return failures


def _commit(folder: RunFolder, result: UnitResult) -> None:
    folder.commit(result.unit.id, result.rows, {"unit": result.unit.id, **result.metadata}, result.timing)


def _announce(listener: Listener, result: UnitResult) -> None:
    scoring = result.rows[result.rows.purpose == "scoring"]
    listener.unit_done(result.unit, int((scoring.prediction == scoring.label).sum()), len(scoring))
