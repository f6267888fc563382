"""A plan may be cut into any pieces and run in any order: the outcomes are the same."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_coded.evaluation.execution.run_unit import UnitResult, execute
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.setup.prepare import prepare
from tests.run_folders import make_plan

GROUP_IMAGES = 12
KEY = ["purpose", "draw", "batch", "slot"]


def combined(results: list[UnitResult]):
    """Outcomes and costs by row of the summary, however many units they came from."""
    frames, costs = {}, {}
    for result in results:
        row = result.unit.case
        frames.setdefault(row, []).append(result.rows.to_pandas())
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
        inputs=("batch", "victim"),
        limit=18,
        batch_size=(4,),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 5)
        prepared = prepare(chosen)
    setup = replace(prepared.setup, group_images=GROUP_IMAGES)
    units = make_plan(replace(prepared, setup=setup)).units
    assert max(len(unit.groups) for unit in units) >= 3
    return setup, units, combined([execute(_bench(prepared, setup), unit) for unit in units]), prepared


def _bench(prepared, setup):
    context = WorkerContext(setup)
    context.preload(prepared.context.data, {"erm": prepared.context.model("erm")})
    return context


def forwards_of(unit):
    """The unit in its smallest pieces: one forward each."""
    return [replace(unit, groups=(group,)) for group in unit.groups]


def joined(forwards):
    """Successive forwards of one unit as one piece."""
    groups = tuple(group for forward in forwards for group in forward.groups)
    return replace(forwards[0], groups=groups)


@st.composite
def cuts(draw, units):
    """The units cut anywhere between two forwards, from whole to single forwards, in any order."""
    pieces = []
    for unit in units:
        forwards = forwards_of(unit)
        ends = draw(st.sets(st.integers(1, max(1, len(forwards) - 1)))) | {len(forwards)}
        bounds = [0, *sorted(ends)]
        pieces += [joined(forwards[a:b]) for a, b in pairwise(bounds)]
    return draw(st.permutations(pieces))


def check_cut(plan, data, most_rows):
    """Some rows of the plan, cut somehow and shared out among workers, give what their whole units gave."""
    setup, units, whole, prepared = plan
    rows = data.draw(
        st.lists(st.sampled_from(sorted(whole, key=str)), min_size=1, max_size=most_rows, unique=True)
    )
    order = data.draw(cuts([unit for unit in units if unit.case in rows]))
    workers = [_bench(prepared, setup) for _ in range(data.draw(st.integers(1, 3)))]
    results = [execute(workers[i % len(workers)], piece) for i, piece in enumerate(order)]
    found = combined(results)
    assert set(found) == set(rows)
    for row, (frame, costs) in found.items():
        pd.testing.assert_frame_equal(frame, whole[row][0], check_exact=True)
        assert costs == whole[row][1]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pieces_in_any_order_give_the_outcomes_of_the_whole(plan, data):
    check_cut(plan, data, most_rows=3)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_cuts_of_all_rows(soak, plan, data):
    if not soak:
        pytest.skip("only with --soak")
    check_cut(plan, data, most_rows=99)
