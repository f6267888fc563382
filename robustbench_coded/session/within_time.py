"""An evaluation cut down to what fits into the time that it may take."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.attack_order import damage_per_image
from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.plan import UnitMaker, rows_for
from robustbench_coded.evaluation.planning.time_limit_plan import (
    Cost,
    choose,
    is_settled,
    left_out,
    next_rows,
    sentences,
    settled_already,
    sizes_within,
)
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.session.early_stops import likely_shares
from robustbench_coded.session.perturbations import to_make_again
from robustbench_coded.session.unit_seconds import unit_seconds

# Statistics, figures and reports, when everything has run.
REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Deadline:
    """When an evaluation should be over.

    Attributes:
        seconds: the limit as given.
        began: ``time.monotonic()`` when the evaluation began.
    """

    seconds: float
    began: float

    @property
    def left(self) -> float:
        """Seconds for attacks from now on."""
        return self.seconds - (time.monotonic() - self.began) - REPORT_SECONDS


def within_time(
    config: EvalConfig, prepared: PreparedEvaluation, in_memory: InMemory, path: Path, deadline: Deadline
) -> tuple[EvalConfig, PreparedEvaluation]:
    """The evaluation on as many examples as the forecast allows, with the rows that wait for time to be left.

    A run folder that is there already keeps its number of examples and its rows: what is committed costs
    nothing, what is pending is finished, and what is left of the time goes into rows that were left out
    before.
    """
    asked = prepared.setup.examples
    done: Collection[str] = ()
    kept: set[CaseKey] = set()
    sizes = sizes_within(asked, max(config.batch_sizes))
    if (path / MANIFEST).exists() and not config.overwrite:
        old = load_manifest(path)
        before = old.identity.limit
        if before is not None and 0 < before <= (config.limit or asked):
            config = replace(config, limit=before, first=config.first or old.identity.subset is None)
            prepared = prepare(config, in_memory)
        prepared = prepared.resumed_from(old)
        done = read_run(path, old.unit_ids)[1]
        kept = {case.key for case in old.rows}
        sizes = [prepared.setup.examples]
    rows, _ = rows_for(config, prepared.subjects, prepared.eps)
    kept |= {row.key for row in rows if row.attack == config.claim_attack}
    cost = cost_of_rows(config, prepared, done, likely_shares(prepared, rows))
    choice = choose(rows, cost, deadline.left, sizes, kept)
    if choice.examples < prepared.setup.examples:
        config = replace(config, limit=choice.examples)
        prepared = prepare(config, in_memory)
    notes = sentences(choice, deadline.seconds, asked)
    return config, replace(
        prepared, rows_waiting=frozenset(row.key for row in choice.waiting), left_out=tuple(notes)
    )


def fitting(
    rows: Sequence[AttackCase],
    config: EvalConfig,
    prepared: PreparedEvaluation,
    deadline: Deadline,
    store: PerturbationStore,
) -> tuple[list[AttackCase], list[str]]:
    """Those of the rows for which there is time left, and sentences on the others.

    A row that submits perturbed inputs which ``store`` lacks pays for making them again.
    """
    cost = cost_of_rows(config, prepared)
    maker = UnitMaker(config, prepared.setup.examples, prepared.setup.group_images, prepared.fixed)
    workers = worker_count(config, prepared.context.device)
    found, late, left = [], [], deadline.left
    paid: set[str] = set()
    for row in rows:
        again = to_make_again(maker.units(row) if row.submission else (), store, paid)
        needed = cost(row, prepared.setup.examples)
        needed += sum(unit_seconds(prepared, unit) for unit in again) / workers
        if needed > left:
            late.append(row)
        else:
            found.append(row)
            left -= needed
            paid |= {unit.id for unit in again}
    return found, left_out(late, lambda row: cost(row, prepared.setup.examples), deadline.seconds)


def spend_what_is_left(
    waiting: Sequence[AttackCase],
    config: EvalConfig,
    prepared: PreparedEvaluation,
    deadline: Deadline,
    settled: Callable[[], Collection[CaseKey]],
    known: Callable[[], Sequence[tuple[AttackCase, float | None]]],
    run: Callable[[Sequence[AttackCase]], None],
) -> list[str]:
    """Runs rows on what is open until there is no time for another; sentences on those that did not run.

    Args:
        settled: settings whose words no stronger attack can change, asked before each choice.
        known: all rows that have run, and the share of answers that each left right; None where it has none.
        run: runs rows.
    """
    all_seconds = cost_of_rows(config, prepared, (), likely_shares(prepared, waiting))
    left = list(waiting)

    def cost(row: AttackCase) -> float:
        return all_seconds(row, prepared.setup.examples)

    while True:
        closed, measured = settled(), known()

        def worth(row: AttackCase, measured: Sequence[tuple[AttackCase, float | None]] = measured) -> float:
            same = [share for one, share in measured if (one.attack, one.threat) == (row.attack, row.threat)]
            return damage_per_image(row, cost(row), [1 - share for share in same if share is not None])

        chosen = next_rows(left, closed, worth, cost, deadline.left)
        if not chosen:
            break
        run(chosen)
        left = [row for row in left if row not in chosen]
    needless = [row for row in left if is_settled(row, closed)]
    late = [row for row in left if row not in needless]
    return left_out(late, cost, deadline.seconds) + settled_already(needless, deadline.seconds)


def cost_of_rows(
    config: EvalConfig,
    prepared: PreparedEvaluation,
    done: Collection[str] = (),
    shares: Mapping[AttackCase, float] = MappingProxyType({}),
) -> Cost:
    """Seconds that a row takes on a number of examples, as forecast here.

    Args:
        done: units that cost nothing any more.
        shares: of their images, what rows whose attacks stop early are likely to need.
    """
    setup = prepared.setup
    workers = worker_count(config, prepared.context.device)

    def cost(row: AttackCase, examples: int) -> float:
        maker = UnitMaker(config, examples, setup.group_images, prepared.fixed)
        pending = [unit for unit in maker.units(row) if unit.id not in done]
        return sum(unit_seconds(prepared, unit) for unit in pending) * shares.get(row, 1.0) / workers

    return cost
