"""Dispatching units to a pool of scripted workers with a simulated clock."""

import heapq
import itertools
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.evaluation.engine.run import UNIT_SECONDS as LIMIT
from robustbench_coded.evaluation.engine.run import Died, Dispatch, EngineError, Finished, Ready
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.planning.cases import ProbedSubject, Unit, planned_case
from robustbench_coded.schema.case import Perturbation, Subject, ThreatModel
from robustbench_coded.user_code import TimeIsUp


def unit(name):
    subject = ProbedSubject(Subject("a", "standard", None, None), "standard", 4, False, False, True, 4)
    row = planned_case(
        subject, ThreatModel("batch", "unknown"), "fgsm", Perturbation("linf", 0.1, "pixel"), 0.1
    )
    return Unit(row, ((0,),), 100, name)


class Clockwork:
    """Workers that do what a script says: ``script(unit, attempt)`` -> (deed, seconds)."""

    def __init__(self, script, starts=None):
        self.now = 0.0
        self.alive = set()
        self.most_alive = 0
        self.given = []
        self.closed = False
        self._script = script
        self._starts = starts or (lambda number: True)
        self._events = []
        self._numbers = itertools.count()

    def start(self):
        number = next(self._numbers)
        self.alive.add(number)
        self.most_alive = max(self.most_alive, len(self.alive))
        self._later(2.0, Ready(number) if self._starts(number) else Died(number, "no luck"))
        return number

    def assign(self, worker, unit):
        assert worker in self.alive
        self.given.append(unit.id)
        deed, seconds = self._script(unit, self.given.count(unit.id))
        if deed == "ok":
            self._later(seconds, Finished(worker, UnitResult(unit, None, {}, {})))
        elif deed == "fail":
            self._later(seconds, Finished(worker, UnitFailure(unit, "ValueError: no", 1)))
        elif deed == "spoil":
            self._later(seconds, Finished(worker, UnitFailure(unit, "CUDA error", 1, process_unusable=True)))
        elif deed == "die":
            self._later(seconds, Died(worker, "killed"))
        else:
            assert deed == "hang"

    def wait(self, seconds):
        assert seconds is None or seconds >= 0
        if not self._events or (seconds is not None and self._events[0][0] > self.now + seconds):
            assert seconds is not None, "waits for ever"
            self.now += seconds
            return []
        self.now = max(self.now, self._events[0][0])
        happened = []
        while self._events and self._events[0][0] <= self.now:
            event = heapq.heappop(self._events)[2]
            if isinstance(event, Died):
                self.stop(event.worker)
            happened.append(event)
        return happened

    def stop(self, worker):
        self.alive.remove(worker)
        self._events = [entry for entry in self._events if entry[2].worker != worker]
        heapq.heapify(self._events)

    def close(self):
        self.closed = True
        self.alive.clear()

    def _later(self, seconds, event):
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))


def run(pool, units, workers=2, idle=None):
    idle = set() if idle is None else idle
    return list(Dispatch(pool, idle, deque(units), workers, lambda: pool.now).run())


DEEDS = st.sampled_from(["ok", "ok", "ok", "fail", "die", "hang", "spoil"])


@settings(max_examples=300, deadline=None)
@given(
    deeds=st.lists(st.tuples(DEEDS, DEEDS), max_size=12),
    seconds=st.lists(st.integers(0, 20), min_size=24, max_size=24),
    workers=st.integers(1, 5),
    bad_starts=st.sets(st.integers(0, 8), max_size=3),
    cut=st.integers(0, 12),
)
def test_each_unit_is_reported_once_whatever_happens_to_its_workers(deeds, seconds, workers, bad_starts, cut):
    units = [unit(str(i)) for i in range(len(deeds))]

    def script(unit, attempt):
        number = int(unit.id)
        return deeds[number][attempt - 1], float(seconds[2 * number + attempt - 1])

    pool = Clockwork(script, starts=lambda number: number not in bad_starts)
    idle = set()
    outcomes = [o for part in (units[:cut], units[cut:]) for o in run(pool, part, workers, idle)]
    assert sorted(o.unit.id for o in outcomes) == sorted(u.id for u in units)
    for outcome in outcomes:
        first, second = deeds[int(outcome.unit.id)]
        tries = 1 if first in ("ok", "fail") else 2
        assert pool.given.count(outcome.unit.id) == tries
        assert isinstance(outcome, UnitResult) == ((first if tries == 1 else second) == "ok")
        if isinstance(outcome, UnitFailure):
            assert outcome.attempts == tries
    assert pool.most_alive <= workers
    assert pool.alive == idle and not pool.closed


def test_idle_workers_take_the_units_of_the_next_call_and_dead_ones_are_replaced():
    pool, idle = Clockwork(lambda unit, attempt: ("ok", 1.0)), set()
    run(pool, [unit("a"), unit("b")], idle=idle)
    first = set(idle)
    run(pool, [unit("c"), unit("d")], idle=idle)
    assert idle == first and len(first) == 2
    dead = min(first)
    pool._later(0.0, Died(dead, "killed"))
    outcomes = run(pool, [unit("e")], idle=idle, workers=1)
    outcomes += run(pool, [unit("f"), unit("g"), unit("h")], idle=idle)
    assert all(isinstance(o, UnitResult) for o in outcomes) and len(outcomes) == 4
    assert dead not in idle and len(idle) == 2


def test_the_units_of_a_dead_worker_go_to_another_with_its_reason_kept():
    pool = Clockwork(lambda unit, attempt: ("die", 1.0) if unit.id == "bad" else ("ok", 1.0))
    outcomes = {o.unit.id: o for o in run(pool, [unit("a"), unit("bad"), unit("b")])}
    assert isinstance(outcomes["a"], UnitResult) and isinstance(outcomes["b"], UnitResult)
    assert outcomes["bad"].error == "its worker died: killed"


def test_a_hanging_unit_costs_its_time_limit_and_no_more():
    pool = Clockwork(lambda unit, attempt: ("hang", 0) if attempt == 1 else ("ok", 5.0))
    (outcome,) = run(pool, [unit("a")])
    assert isinstance(outcome, UnitResult)
    assert pool.now == pytest.approx(2 + LIMIT + 2 + 5)


def test_what_runs_when_the_time_is_up_is_dropped_and_what_is_through_is_handed_out():
    pool = Clockwork(lambda unit, attempt: ("hang", 0) if unit.id == "b" else ("ok", 10.0))
    waiting = deque(unit(i) for i in "abcd")
    outcomes = Dispatch(pool, set(), waiting, 2, clock=lambda: pool.now, deadline=23.0).run()
    # workers start in 2 s: a and c are through after 12 and 22
    assert [next(outcomes).unit.id, next(outcomes).unit.id] == ["a", "c"]
    with pytest.raises(TimeIsUp):
        next(outcomes)
    assert pool.now == pytest.approx(23) and pool.closed and not pool.alive


def test_no_worker_waits_while_another_one_starts_or_hangs():
    pool = Clockwork(lambda unit, attempt: ("hang", 0) if unit.id == "0" else ("ok", 10.0))
    run(pool, [unit(str(i)) for i in range(10)], workers=2)
    # Nine units of 10 s fit beside one that hangs; its second try, by the other worker, is the end.
    assert pool.now == pytest.approx(2 + LIMIT + LIMIT)


def test_workers_that_never_start_end_the_run():
    pool = Clockwork(lambda unit, attempt: ("ok", 1.0), starts=lambda number: False)
    with pytest.raises(EngineError, match="no luck"):
        run(pool, [unit("a")])
    assert pool.closed


def test_idle_workers_are_refilled_before_an_outcome_is_handed_out_and_leaving_early_ends_all():
    pool = Clockwork(lambda unit, attempt: ("ok", 1.0))
    waiting = deque(unit(str(i)) for i in range(9))
    outcomes = Dispatch(pool, set(), waiting, 3, lambda: pool.now).run()
    next(outcomes)
    assert len(pool.given) == 6  # three are through, three more are under way
    outcomes.close()
    assert pool.closed and not pool.alive
