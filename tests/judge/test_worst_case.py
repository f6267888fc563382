"""The worst case beside the attacks that it is made of, all of them as attacked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.intervals import TAIL
from robustbench_coded.judge.paired import in_own_batches
from robustbench_coded.judge.summary import summary_rows
from robustbench_coded.run import load_run
from robustbench_coded.schema.words import ENSEMBLE

REPORTS = Path(__file__).parents[2] / "reports"
WITH_OUTCOMES = sorted(path.parent.name for path in REPORTS.glob("*/run.json"))


def luck_is_granted(worst):
    """Whether the choice is made on other draws than those that it is scored on."""
    return worst.randomised and not worst.case.threat.draw_known


def above_a_member(results):
    """Worst cases above a member: at all where nothing is random to the attacker, else with certainty."""
    rows = {result.case: result for result in results if result.cell is not None}
    for worst in (row for row in rows.values() if row.case.attack == ENSEMBLE):
        members = [rows[case] for case in worst.sources]
        for member in members:
            more = in_own_batches(worst, member, TAIL / len(members))
            if (more.low if luck_is_granted(worst) else more.estimate) > 0:
                yield worst.case, member.case.attack, more


def planted(results):
    """The results, each worst case of which is as weak as unperturbed inputs."""
    ensembles = (r for r in results if r.case.attack == ENSEMBLE and r.clean is not None)
    cells = {
        r.case: r.clean for r in ensembles if not r.case.threat.one_victim
    }  # victims are too few to tell
    return [replace(r, cell=cells[r.case]) if r.case in cells else r for r in results], cells


@pytest.mark.parametrize(
    "name", [name if name == "lwta" else pytest.param(name, marks=pytest.mark.long) for name in WITH_OUTCOMES]
)
def test_no_worst_case_of_a_committed_run_is_certainly_above_a_member(name):
    results = load_run(REPORTS / name).results
    assert not list(above_a_member(results))
    weak, cells = planted(results)
    assert cells and {case for case, _, _ in above_a_member(weak)} == {*cells}
    for row in summary_rows(results, {}):
        own = row.interval and row.interval.own
        assert (own is not None) == (row.unit == "batch" and row.accuracy is not None)


ATTACKS = ("pgd-10", "pgd-100", "transfer-pgd-20", "square-1000")
KINDS = {
    "deterministic": {"randomised": False, "batch_dependent": False},
    "random": {"batch_dependent": False},
    "batch-dependent": {},
    "known": {"threat": "batch/known"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_choice_on_other_draws_is_above_a_member_by_luck_alone_and_then_says_so(evaluation, kind):
    """Attacks that leave of each image as much as the others, on few images and draws."""
    lower = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        draws = 1 if kind == "deterministic" else 2
        run = evaluation().add(
            "clean", np.ones((96, draws), bool), **KINDS[kind] | {"threat": "batch/unknown"}
        )
        left = rng.beta(0.5, 0.5, (96, 1))
        for attack in ATTACKS:
            right, seen = rng.random((2, 96, draws)) < left
            run.add(attack, right, seen, **KINDS[kind])
        results = case_results(*run.parts())
        assert not list(above_a_member(results))
        assert list(above_a_member(planted(results)[0]))
        rows = {row.attack: row for row in summary_rows(results, {})}
        least = min(ATTACKS, key=lambda attack: rows[attack].interval.as_attacked)
        above = rows[ENSEMBLE].interval.as_attacked > rows[least].interval.as_attacked
        assert rows[ENSEMBLE].lower_member == (least if above else "")
        lower += above
    assert (lower > 0) == (kind in ("random", "batch-dependent"))
