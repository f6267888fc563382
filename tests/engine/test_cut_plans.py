"""A plan may be cut into any pieces and run in any order: the outcomes are the same."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_coded.engine.results import UnitResult
from robustbench_coded.evaluation.evaluate import make_plan
from robustbench_coded.evaluation.execute import execute
from robustbench_coded.evaluation.prepare import prepare
from robustbench_coded.evaluation.workbench import Workbench

GROUP_IMAGES = 12
KEY = ["purpose", "draw", "batch", "slot"]


def combined(results: list[UnitResult]):
    """Outcomes and costs by row of the summary, however many units they came from."""
    frames, costs = {}, {}
    for result in results:
        row = result.unit.row
        frames.setdefault(row, []).append(result.rows)
        costs.setdefault(row, Counter()).update(
            {name: value for name, value in result.metadata.items() if isinstance(value, int)}
        )
    return {
        row: (pd.concat(parts).sort_values(KEY, kind="stable", ignore_index=True), costs[row])
        for row, parts in frames.items()
    }


@pytest.fixture(scope="module")
def plan(config):
    """Rows of every kind in many groups, and the outcomes of each unit on a workbench of its own."""
    chosen = config(
        attacks=("pgd-2", "aware-pgd-1", "transfer-pgd-1"),
        victim_attacks=("transfer-pgd-1",),
        victims=5,
        limit=18,
        batch_sizes=(4,),
    )
    prepared = prepare(chosen)
    setup = replace(prepared.setup, group_images=GROUP_IMAGES)
    units = make_plan(chosen, replace(prepared, setup=setup)).units
    assert max(len(unit.groups) for unit in units) >= 3 and max(len(unit.victims) for unit in units) == 5
    return setup, units, combined([execute(_bench(prepared, setup), unit) for unit in units]), prepared


def _bench(prepared, setup):
    bench = Workbench(setup)
    bench.preload(prepared.bench.data, {"erm": prepared.bench.model("erm")})
    return bench


def pieces_of(unit, size):
    """The unit in pieces of at most ``size`` forwards."""
    groups = [unit.groups[i : i + size] for i in range(0, len(unit.groups), size)]
    together = size * (GROUP_IMAGES // unit.row.subject.images)
    victims = [unit.victims[i : i + together] for i in range(0, len(unit.victims), together)]
    return [replace(unit, groups=g, victims=()) for g in groups] + [
        replace(unit, groups=(), victims=v) for v in victims
    ]


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pieces_in_any_order_give_the_outcomes_of_the_whole(plan, data):
    setup, units, whole, prepared = plan
    sizes = [data.draw(st.integers(1, 4)) for _ in units]
    pieces = [piece for unit, size in zip(units, sizes, strict=True) for piece in pieces_of(unit, size)]
    order = data.draw(st.permutations(pieces))
    workers = [_bench(prepared, setup) for _ in range(data.draw(st.integers(1, 3)))]
    results = [execute(workers[i % len(workers)], piece) for i, piece in enumerate(order)]
    found = combined(results)
    assert set(found) == set(whole)
    for row, (frame, costs) in found.items():
        pd.testing.assert_frame_equal(frame, whole[row][0], check_exact=True)
        assert costs == whole[row][1]
