"""How long evaluations take on 10 to 10,000 workers: the engine's own dispatch, with a number for a clock.

    python benchmarks/speed/schedule.py            prints the tables (about two minutes on one core)
    python benchmarks/speed/schedule.py --write    and puts them into docs/scale.md

Units are those that the planner cuts. Their times spread as measured in reports/digits; what the committing
process pays for each was measured by benchmarks/speed/schedule_costs.py. Assumed is what stands in capitals
below.
"""

import argparse
import heapq
import itertools
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed.own_files import own_files
from benchmarks.speed.schedule_costs import RUN, Costs, kept
from robustbench_coded.evaluation.engine.run import dispatch
from robustbench_coded.evaluation.engine.worker_pool import Died, Event, Finished, Ready
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT, EvalConfig, attack_options
from robustbench_coded.evaluation.planning.cases import ProbedSubject, Unit
from robustbench_coded.evaluation.planning.plan import UnitMaker, cases_for
from robustbench_coded.runs.outcomes import read_table
from robustbench_coded.schema.case import Subject

ROUNDS = 2  # of checks, before what ran is read for the reports
DOCS = Path(__file__).parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- schedule: begin -->", "<!-- schedule: end -->"
SEED = 0
WORKERS = (10, 100, 1_000, 10_000)

# The evaluation: four checkpoints behind three defences, the longest preset, all of CIFAR-10's test images.
CHECKPOINTS, EXAMPLES, K, CODED, GROUP_IMAGES = 4, 10_000, 128, (128, 190), 256
UNIT_SECONDS = (1.0, 10.0, 60.0)  # for IMAGES_PER_UNIT: a small network on a large GPU ... one on a CPU
UNITS_PER_WORKER = 20

LEAST_IMAGES = 5_000  # of a measured unit: in smaller ones scoring is what takes the time
START_SECONDS = 20.0  # a worker imports torch and fetches models and data
NETWORK_COMMIT = 0.05  # seconds on a shared file system that has other work
DEATHS = 0.01  # share of tries that end with the worker
STRAGGLERS, STRAGGLING = 0.01, 5.0  # share of units that take longer, and how many times as long
SLOW, SLOWNESS = 0.05, 2.0  # share of workers that are slower, and how many times


@dataclass(frozen=True)
class Run:
    """What became of a simulated run.

    Attributes:
        seconds: from the first hiring to the last commit.
        work: seconds of workers that the outcomes cost, trouble left out.
        committing: seconds that the committing process was at work.
        failed: units without outcomes.
    """

    workers: int
    units: int
    seconds: float
    work: float
    committing: float
    failed: int

    @property
    def used(self) -> float:
        """Share of the workers' time that went into outcomes."""
        return self.work / (self.workers * self.seconds)


class Cluster:
    """Workers that take as long as they are told; see ``engine.worker_pool.WorkerPool``."""

    def __init__(self, seconds: dict[str, float], costs: Costs, *, trouble: bool):
        self.now = 0.0
        self.committing = 0.0
        self._seconds = seconds
        self._costs = costs
        self._trouble = trouble
        self._dice = random.Random(SEED)
        self._numbers = itertools.count()
        self._slowness: dict[int, float] = {}
        self._events: list[tuple[float, int, Event]] = []  # heap
        self._gone: set[int] = set()

    def start(self) -> int:
        number = next(self._numbers)
        self._slowness[number] = SLOWNESS if self._trouble and self._dice.random() < SLOW else 1.0
        self._later(START_SECONDS, Ready(number))
        return number

    def assign(self, worker: int, unit: Unit) -> None:
        seconds = self._seconds[unit.id] * self._slowness[worker]
        if self._trouble and self._dice.random() < STRAGGLERS:
            seconds *= STRAGGLING
        if self._trouble and self._dice.random() < DEATHS:
            self._later(seconds * self._dice.random(), Died(worker, "as it happens"))
        else:
            self._later(seconds, Finished(worker, UnitResult(unit, None, {}, {})))

    def wait(self, seconds: float | None) -> list[Event]:
        self.spend(self._costs.wait * len(self._events))
        if self._events and self._events[0][0] > self.now and seconds != 0:
            until = self._events[0][0]
            self.now = until if seconds is None else min(until, self.now + seconds)
        happened = []
        while self._events and self._events[0][0] <= self.now:
            event = heapq.heappop(self._events)[2]
            if event.worker not in self._gone:
                happened.append(event)
        return happened

    def stop(self, worker: int) -> None:
        self._gone.add(worker)

    def close(self) -> None:
        pass

    def spend(self, seconds: float) -> None:
        """Time of the committing process; what workers do meanwhile goes on."""
        self.now += seconds
        self.committing += seconds

    def _later(self, seconds: float, event: Event) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))


def simulate(
    units: Sequence[Unit], seconds: dict[str, float], workers: int, costs: Costs, *, trouble: bool
) -> Run:
    """Runs units on a cluster of so many workers, as ``engine.run`` would: the longest first."""
    cluster = Cluster(seconds, costs, trouble=trouble)
    ordered = sorted(units, key=lambda unit: -unit.images)
    failed = 0
    for outcome in dispatch(cluster, set(), ordered, workers, lambda: cluster.now):
        cluster.spend(costs.unpack + costs.commit + costs.wait * workers)
        failed += isinstance(outcome, UnitFailure)
    return Run(workers, len(units), cluster.now, sum(seconds.values()), cluster.committing, failed)


def full_evaluation() -> list[Unit]:
    """The units that the planner cuts the evaluation into."""
    names = [f"checkpoint{i}" for i in range(CHECKPOINTS)]
    config = EvalConfig(checkpoints=tuple((n, n) for n in names), **attack_options(["full"]))
    subjects = []
    for name in names:
        standard = Subject(name, "standard", None, None)
        subjects.append(ProbedSubject(standard, "standard", K, False, False, True, K))
        for n in CODED:
            subjects.append(ProbedSubject(Subject(name, "rci", K, n), f"rci:N={n}", K, True, True, True, n))
    rows, _ = cases_for(config.requested([8 / 255]), subjects)
    fixed = {"checkpoints": dict.fromkeys(names, "0")}
    maker = UnitMaker(config.conditions, GROUP_IMAGES, fixed, (EXAMPLES,), EXAMPLES)
    return [unit for row in rows for unit in maker.units(row)]


def spread() -> list[float]:
    """How many times the median each unit of reports/digits took, image for image."""
    rates = []
    with own_files(RUN) as run:
        for file in sorted((run / "timings").glob("*.json")):
            metadata = read_table(run / "outcomes" / f"{file.stem}.parquet")[1]
            images = (metadata.get("forwards", 0) + 2 * metadata.get("backwards", 0)) / 3
            seconds = json.loads(file.read_text())["seconds"]
            if images > LEAST_IMAGES:
                rates.append(seconds / images)
    return [rate / statistics.median(rates) for rate in rates]


def times_of(units: Sequence[Unit], unit_seconds: float, factors: Sequence[float]) -> dict[str, float]:
    """Seconds of each unit where IMAGES_PER_UNIT images take ``unit_seconds`` at the median."""
    dice = random.Random(SEED)
    return {u.id: u.images / IMAGES_PER_UNIT * unit_seconds * dice.choice(factors) for u in units}


def repeated(units: Sequence[Unit], count: int) -> list[Unit]:
    """So many units of about full size, as more checkpoints would bring."""
    full = [unit for unit in units if unit.images > IMAGES_PER_UNIT / 2]
    return [replace(unit, id=str(i)) for i, unit in zip(range(count), itertools.cycle(full))]


def report() -> str:
    """The tables, as Markdown."""
    costs, factors, plan = kept(), spread(), full_evaluation()
    images = sum(unit.images for unit in plan)
    most = max(unit.images for unit in plan)
    return "\n\n".join(
        [
            f"For each unit, the committing process unpacks the rows ({_ms(costs.unpack)}), commits them "
            f"({_ms(costs.commit)}) and polls Ray twice ({_ms(2000 * costs.wait)} with 1,000 workers); "
            f"reading a committed unit again takes {_ms(costs.read)}. All times were measured at a load of "
            f"{costs.load:g} per core. Per image, the middle 90% of {len(factors)} "
            f"measured units took {_percentile(factors, 5):.2f} to {_percentile(factors, 95):.2f} times the "
            "median.",
            f"**One evaluation on an increasing number of workers.** {CHECKPOINTS} checkpoints behind "
            f"standard inference and RCI at N = {CODED[0]} and {CODED[1]}, {EXAMPLES:,} images, preset "
            f"`full`: {len(plan):,} units, {images / 1e6:,.0f} million image gradients, at most {most:,} in "
            f"a unit; {IMAGES_PER_UNIT:,} of them take 10 s.",
            _strong(plan, factors, costs),
            f"**Work proportional to the number of workers**, {UNITS_PER_WORKER} units per worker, with the "
            "same trouble: share of worker time that produces outcomes.",
            _weak(plan, factors, costs),
            "**The limit of one committing process**: the number of workers it can just keep up with.",
            _full(costs),
            "**Reading outcomes again**, by one process, once: each step and the reports do it.",
            _reading(costs),
        ]
    )


def _strong(plan: Sequence[Unit], factors: Sequence[float], costs: Costs) -> str:
    seconds = times_of(plan, 10.0, factors)
    lines = [
        "| workers | undisturbed | used | with trouble | used | units failed | committing |",
        "|" + " --- |" * 7,
    ]
    for workers in WORKERS:
        calm, rough = (simulate(plan, seconds, workers, costs, trouble=t) for t in (False, True))
        lines.append(
            f"| {workers:,} | {_time(calm.seconds)} | {calm.used:.0%} | {_time(rough.seconds)} "
            f"| {rough.used:.0%} | {rough.failed} | {rough.committing / rough.seconds:.0%} |"
        )
    return "\n".join(lines)


def _weak(plan: Sequence[Unit], factors: Sequence[float], costs: Costs) -> str:
    shared = replace(costs, commit=NETWORK_COMMIT)
    cases = [(s, c) for s in UNIT_SECONDS for c in (costs, shared)]
    head = [f"{s:g} s, {'this disk' if c is costs else 'shared disk'}" for s, c in cases]
    lines = [f"| workers | {' | '.join(head)} |", "|" + " --- |" * (len(cases) + 1)]
    for workers in WORKERS:
        units = repeated(plan, workers * UNITS_PER_WORKER)
        used = [simulate(units, times_of(units, s, factors), workers, c, trouble=True).used for s, c in cases]
        lines.append(f"| {workers:,} | {' | '.join(f'{share:.0%}' for share in used)} |")
    return "\n".join(lines)


def _full(costs: Costs) -> str:
    lines = ["| seconds of a unit | this disk | shared disk |", "| --- | --- | --- |"]
    for seconds in UNIT_SECONDS:
        found = []
        for chosen in (costs, replace(costs, commit=NETWORK_COMMIT)):
            workers = 1
            while chosen.of_one(workers) * workers < seconds:
                workers += max(1, workers // 100)
            found.append(f"{float(f'{workers:.2g}'):,.0f}")
        lines.append(f"| {seconds:g} | {' | '.join(found)} |")
    return "\n".join(lines)


def _reading(costs: Costs) -> str:
    lines = ["| units | reading |", "| --- | --- |"]
    for units in (1_000, 10_000, 100_000, 1_000_000):
        lines.append(f"| {units:,} | {_time(units * costs.read)} |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    options = parser.parse_args()
    made = report()
    print(made)
    if options.write:
        text = DOCS.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    main()
