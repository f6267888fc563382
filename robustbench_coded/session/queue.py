"""What an evaluation runs next, or that nothing is left to run.

One question is asked again and again, of committed outcomes alone: which rows, on how many examples, are
expected to change an open verdict most for what they cost? While a verdict is open, that is an attack, random
batches, submitted inputs, what a check asks for, or more examples. Then the table is filled. A verdict is
closed when nothing that may still run can change it.

What depends on time follows from counts of images and from rates that are in the run folder, never from a
clock: an evaluation that was interrupted, or goes on elsewhere, decides the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import ceil

from attacks import accelerator, crossover, naming, presets
from robustbench_coded.evaluation.execution import run_unit
from robustbench_coded.evaluation.execution.attack_group import hidden_sources
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import Lane, fill, lane_of
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.follow_up import ROUNDS, follow_up
from robustbench_coded.evaluation.planning.resubmission import measured_attacks, resubmissions
from robustbench_coded.schema.manifest import Outlook
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, VerdictWord
from robustbench_coded.session import evaluation, forecast
from robustbench_coded.session.lanes import Lanes
from robustbench_coded.statistics import anytime, intervals

# Of the clean accuracy, what an attack is expected to take away where it has not run yet. Gradients of the
# base model serve any batch: their inputs can be scored in random batches, which settles words.
GUESSED = {"transfer": 1.0, "aware": 0.95, "fresh": 0.9, "fixed": 0.8}
OTHERWISE = 0.7
ONE_STEP = 0.4
# Where an operator hides the gradient: attacks that smooth it, and others.
SMOOTHED, HIDDEN = 0.95, 0.3
IN_ANY_BATCH = 3.0
MOST_RANDOM_BATCHES = 600
CLEAN_RANDOM_BATCHES = 100
CLEAN_SHARE = 1 / 6  # of the table's time, beyond which clean inputs get fewer
MANY_BATCHES = 40
# Where nothing else settles a network's verdict: at most so many ReLUs times images, 100,000 of which
# take about a minute (benchmarks/hard_images.md). Counts: rates are not kept where everything was to run.
RECOMBINED, MOST_RELUS = presets.RECOMBINED, 200_000
# How far below the bar what is left has to be, for random batches to settle a word.
ROOM = 0.8


@dataclass(frozen=True)
class Scope:
    """What an evaluation is asked for.

    Attributes:
        verdict_seconds: forecast time for attacks on open verdicts, beyond the first attack on each; None for
            no limit.
        table_seconds: for these and the table; None for every row on every example, 0 for no table.
    """

    verdict_seconds: float | None
    table_seconds: float | None


class Queue:
    """The order of one evaluation.

    Args:
        run: what has been begun, and how more of it is run.
        scope: how much of it.

    Attributes:
        spent: forecast seconds of what was begun for verdicts.
    """

    def __init__(self, run: evaluation.Evaluation, scope: Scope):
        self.run, self.scope = run, scope
        self.config, self.prepared = run.config, run.prepared
        self.extents = run.prepared.extents
        self.spent = 0.0
        self._random: dict[PlannedCase, int] = {}
        self._asked: dict[str, int] = {"submit": 0, "check": 0}
        self._late: dict[PlannedCase, float] = {}
        self._late_examples = 0.0
        self._filled = False
        self._costs = forecast.RowCosts(self.prepared, run.seconds)
        self._lanes = Lanes(run, self._costs)
        first = 1
        if self.extents is not None:
            whole = scope.table_seconds is None
            first = len(self.extents.ends) if whole else self.extents.first
        run.reached = dict.fromkeys(self._lanes.judged, first)
        run.begin([case for case in run.planned if case.attack == CLEAN], rounds=first)
        run.lay_out()

    def work(self) -> None:
        """Runs everything, in order."""
        whole = self.scope.table_seconds is None
        self.run.run()
        self._lanes.close()
        steps: list[Callable[[], bool]] = []
        for victims in (False, True):
            steps.append(partial(self._attack, victims=victims))
            steps.append(partial(self._random_batches, victims=victims))
        later = [self._submit, self._check, self._recombine, self._widen]
        # What checks and submissions go by is the whole table, where all of it runs.
        steps += [self._fill, *later] if whole else [*later, self._fill]
        while any(step() for step in steps):
            self.run.run()
            self._lanes.close()

    def outlook(self) -> list[Outlook]:
        """What further commands would do, and how long they would take."""
        found = []
        if self.extents is not None:
            last = len(self.extents.ends)
            rest = sum(
                self._costs.of(case, last) - self._costs.of(case, self._lanes.run_in(case))
                for case in self._table()
            )
            if rest > 0:
                found.append(Outlook(purpose="all", option="--all", seconds=round(rest, 1)))
        late = sum(self._late.values()) + self._late_examples
        if late:
            minutes = max(1, ceil((self.spent + late) / 60))
            found.append(Outlook(purpose="settle", option=f"--time {minutes}m", seconds=round(late, 1)))
        return found

    # Open verdicts: what may change them, the most for its cost first.

    def _attack(self, *, victims: bool) -> bool:
        """The next attack on each open lane, of whole batches or of single victims."""
        chosen = [
            case
            for lane in self._lanes.ordered(victims)
            if self._promising(lane) is None and (case := self._next(lane)) is not None
        ]
        return self._begin(chosen)

    def _next(self, lane: Lane) -> PlannedCase | None:
        """The attack on a lane that is expected to do most damage for its cost; of equals the one planned
        first.
        """
        waiting = [
            case
            for case in self._lanes.cases[lane]
            if (case not in self.run.begun or case in self.run.for_table) and case not in self._late
        ]
        begun = any(case in self.run.begun for case in self._lanes.cases[lane])
        for case in sorted(waiting, key=self._damage, reverse=True):
            cost = self._lanes.likely(case, self.run.reached[lane]) - self._lanes.likely(
                case, self._lanes.run_in(case)
            )
            if not begun or self._fits(cost):
                self.spent += max(cost, 0.0)
                return case
            self._late[case] = cost
        return None

    def _damage(self, case: PlannedCase) -> float:
        """Accuracy that an attack is expected to take away, for each second."""
        name, lane = naming.parse(case.attack), lane_of(case)
        seen = []
        for other, cases in self._lanes.cases.items():
            if other.inputs != lane.inputs or other.subject == lane.subject:
                continue
            for one in cases:
                share = self._lanes.share(one) if one.attack == case.attack else None
                if share is not None:
                    seen.append(1 - share / max(self._lanes.clean(other), share, 1e-9))
        guess = ONE_STEP if name.algorithm == presets.ONE_STEP else GUESSED.get(name.estimator, OTHERWISE)
        if case.subject.hides_gradient and name.differentiates and name.estimator != "transfer":
            guess = SMOOTHED if name.relaxed else HIDDEN
        expected = sum(seen) / len(seen) if seen else guess
        if case.subject.batch_dependent and name.estimator == "transfer" and not seen:
            expected *= IN_ANY_BATCH
        return expected / max(self._costs.of(case, self.run.reached[lane]), 1e-9)

    def _random_batches(self, *, victims: bool) -> bool:
        """Random batches for the attacks that are likely to have settled a word; more of them while it is
        open.
        """
        new = False
        for lane in self._lanes.ordered(victims):
            case = self._promising(lane)
            if case is None:
                continue
            before = self._random.get(case, 0)
            tail = intervals.TAIL / (1 if self.extents is None else self.extents.looks)
            needed = (
                anytime.values_needed(self._lanes.share(case) or 0.0, self._lanes.bar(lane), tail)
                or MOST_RANDOM_BATCHES
            )
            count = min(max(needed, 2 * before), MOST_RANDOM_BATCHES)
            units = run_unit.random_units(case, self.run.maker, count)
            cost = sum(map(self.run.seconds.of, units)) / self._costs.workers
            # Those that should settle a word have as much time as all else for verdicts; more of them what
            # is left of it.
            if not self._fits(cost, self.spent if before else 0.0):
                self._late[case], self._random[case] = cost, MOST_RANDOM_BATCHES
                continue
            self._random[case] = MOST_RANDOM_BATCHES if case.threat.one_victim else count
            self.spent += cost
            self.run.score_in_random_batches(case, units)
            new = True
        return new

    def _promising(self, lane: Lane) -> PlannedCase | None:
        """The attack whose inputs are likely to settle a word in (more) random batches; None without one.

        Of attacks on one victim those that also ran on whole batches, where every image was perturbed.
        """
        if not lane.subject.batch_dependent or lane.inputs not in ("batch", "victim"):
            return None
        # What is broken may also gain nothing, which says more.
        unclear = (VerdictWord.NOT_SETTLED, VerdictWord.BROKEN)
        if all(self._lanes.word(setting) not in unclear for setting in self._lanes.judged[lane]):
            return None
        bar = ROOM * self._lanes.bar(lane)
        shares = {}
        for case in self._lanes.cases[lane] + self._lanes.submitted(lane):
            everywhere = not lane.one_victim or run_unit.on_whole_batches(case) in self.run.begun
            if case.threat.draw_known or not everywhere or case not in self.run.begun:
                continue
            share = self._lanes.share(case)
            if self._lanes.run_in(case) >= self.run.reached[lane] and share is not None and share <= bar:
                shares[case] = share
        free = {case: share for case, share in shares.items() if not run_unit.depends_on_batch(case)}
        if lane.one_victim:
            shares = free
        chosen = min(free or shares, key=lambda case: shares[case], default=None)
        if chosen is None or self._random.get(chosen, 0) >= MOST_RANDOM_BATCHES:
            return None
        return chosen

    def _submit(self) -> bool:
        """Perturbed inputs submitted elsewhere, again while something else becomes the strongest."""
        if self._asked["submit"] > self._asked["check"]:
            return False
        self._asked["submit"] += 1
        known = {case.case for case in self.run.begun}
        lanes = [lane for lane in self._lanes.open if lane.inputs == "batch"]
        most = max((self.run.reached[lane] for lane in lanes), default=0)
        cases = [case for case in self.run.plan.rows if self._lanes.run_in(case) >= most]
        if self.extents is not None and not lanes:
            return False
        measured = measured_attacks(cases, self.run.plan.units, self.run.done.metadata)
        hidden = hidden_sources(self.prepared.context, cases)
        rows = resubmissions(measured, hidden, self._costs.maker(most), self.prepared.context.levels)
        rows = [case for case in rows if case.case not in known]
        if self.extents is not None:
            rows = [case for case in rows if lane_of(case) in self._lanes.open]
        return self._begin(rows)

    def _check(self) -> bool:
        """The attacks that checks ask for."""
        if not self.config.checks or self._asked["check"] >= ROUNDS or not self._lanes.open:
            return False
        self._asked["check"] += 1
        of_lanes = {(lane.subject, lane.inputs) for lane in self._lanes.open}
        planned = [case for case in self.run.planned if case in self.run.begun]
        judgements = self.run.judgements.values()
        # What would run on all examples is not compared with what ran on the first of them.
        maker = self._costs.maker(max(self.run.reached[lane] for lane in self._lanes.open))
        rows, left_out = follow_up(judgements, self.run.plan.rows, maker, planned)
        self.run.remark(left_out)
        chosen = []
        for case in rows:
            if (case.subject, case.threat.inputs) not in of_lanes:
                continue
            cost = self._lanes.likely(case, self._lanes.rounds_of_open(case))
            if self._fits(cost):
                self.spent += cost
                chosen.append(case)
            else:
                self._late[case] = cost
        return self._begin(chosen)

    def _recombine(self) -> bool:
        """Crossover where nothing else settles the verdict of a small network on few images."""
        chosen, context = [], self.prepared.context
        for lane in self._lanes.open if self.config.checks and self.config.norm != "l0" else ():
            settings = self._lanes.judged[lane]
            stuck = VerdictWord.NOT_SETTLED in map(self._lanes.word, settings)
            if lane.subject.spec != STANDARD or not stuck or any(map(self._lanes.by_interval, settings)):
                continue
            like = next(case for case in self._lanes.cases[lane] if case in self.run.begun)
            case = like.of_attack(RECOMBINED)
            cost = self._lanes.likely(case, self._lanes.rounds_of_open(case))
            if case in self.run.begun or not self._fits(cost):
                continue
            x = context.data.batch([0])[0].to(context.device)
            with accelerator.random_states_kept():  # a network may sample
                relus = crossover.relus(context.model(lane.subject.checkpoint), x)
            if 0 < relus * self.prepared.examples_planned(like) <= MOST_RELUS:
                self.spent += cost
                chosen.append(case)
        return self._begin(chosen)

    def _widen(self) -> bool:
        """Twice the examples for what is still open, its base model, and what it is compared with.

        Where every attack, check and submission has run, any other word than `not settled` stands.
        """
        for lane in [lane for lane in self._lanes.judged if lane in self._lanes.open]:
            if all(
                self._lanes.word(setting) != VerdictWord.NOT_SETTLED for setting in self._lanes.judged[lane]
            ):
                self._lanes.stop(lane)
        if self.extents is None or not self._lanes.open:
            return False
        last = len(self.extents.ends)
        wider: list[PlannedCase] = []
        for lane in [lane for lane in self._lanes.judged if lane in self._lanes.open]:
            rounds = self.run.reached[lane] + 1
            late = any(case in self._late for case in self._lanes.cases[lane])
            if rounds > last or late or not any(map(self._lanes.by_interval, self._lanes.judged[lane])):
                continue
            lanes = [lane, *([base] if (base := self._lanes.base(lane)) is not None else [])]
            cases = [
                case
                for case in self.run.begun
                if case.submission is None
                and case not in self.run.for_table
                and self._lanes.run_in(case) < rounds
                and any(self._lanes.goes_with(case, one) for one in lanes)
            ]
            cost = sum(
                self._lanes.likely(case, rounds) - self._lanes.likely(case, self._lanes.run_in(case))
                for case in cases
            )
            if not self._fits(cost):
                self._late_examples += cost
                continue
            self.spent += cost
            wider += cases
            for one in lanes:
                self.run.reached[one] = max(self.run.reached[one], rounds)
            self.run.drop([case for case in self.run.begun if case.submission and lane_of(case) in lanes])
        if not wider:
            self._lanes.open.clear()
            return False
        self._asked = dict.fromkeys(self._asked, 0)
        for case in dict.fromkeys(wider):
            reached = [n for lane, n in self.run.reached.items() if self._lanes.goes_with(case, lane)]
            self.run.begin([case], rounds=max(reached))
        self._random.clear()
        return True

    def _fill(self) -> bool:
        """The table, once."""
        if self._filled:
            return False
        self._filled = True
        seconds, table, new = self.scope.table_seconds, self._table(), False
        if seconds is None:
            new = self._begin_for_table(
                {case: len(self.extents.ends) if self.extents else 1 for case in table}
            )
        elif seconds:
            assert self.extents is not None
            begun = {case: self._lanes.run_in(case) for case in table}
            left = max(0.0, seconds - self.spent)
            # Every attack has a batch, the cheapest first, while these take no longer than all of that; the
            # others are left to --all.
            first = {
                case: 0.0 if begun[case] or case.attack in CONTROLS else self._lanes.likely(case, 1)
                for case in table
            }
            ordered = sorted(table, key=lambda case: first[case])
            sums = accumulate(first[case] for case in ordered)
            kept = {case for case, total in zip(ordered, sums, strict=True) if total <= seconds}
            rows = [case for case in table if case in kept]
            new = self._begin_for_table(fill(rows, begun, self.extents.ends, self._lanes.likely, left))
        for case in table if seconds != 0 else ():
            few = (
                case.subject.batch_dependent
                and self._costs.batches(case, self._lanes.run_in(case)) < MANY_BATCHES
            )
            if case.attack == CLEAN and few:  # which say little of the clean accuracy
                units = run_unit.random_units(case, self.run.maker, CLEAN_RANDOM_BATCHES)
                if seconds is not None:
                    each = self.run.seconds.of(units[0]) / self._costs.workers
                    units = units[: max(1, int(CLEAN_SHARE * seconds / each))]
                self.run.score_in_random_batches(case, units)
                new = True
        return new

    def _begin_for_table(self, rounds: dict[PlannedCase, int]) -> bool:
        new = False
        for case, number in rounds.items():
            if case not in self.run.begun:
                self.run.for_table.add(case)
            new |= self.run.begin([case], rounds=number)
        return new

    def _table(self) -> list[PlannedCase]:
        """The rows of the table: what was asked for, but for attacks that run only on open verdicts."""
        return [case for case in self.run.planned if in_table(self.config, case)]

    def _begin(self, cases: Sequence[PlannedCase]) -> bool:
        """Rows for verdicts, as far as their lanes have come."""
        new = False
        for case in cases:
            self.run.for_table.discard(case)
            new |= self.run.begin([case], rounds=self._lanes.rounds_of_open(case))
        return new

    def _fits(self, cost: float, spent: float | None = None) -> bool:
        """Whether verdicts have the time for it after what was spent, or ``spent``."""
        limit = self.scope.verdict_seconds
        return limit is None or (self.spent if spent is None else spent) + cost <= limit


def in_table(config: EvalConfig, case: PlannedCase) -> bool:
    """Whether a row runs whatever the others find; not attacks of presets that only open verdicts need."""
    if case.attack not in config.second_attacks or case.attack == config.claim_attack:
        return True
    return case.threat.collateral or (case.attack == presets.FOLLOWS_SHOWN and case.subject.randomised)
