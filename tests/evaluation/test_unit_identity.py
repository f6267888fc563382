"""Ids of units are names of files: if one changes, every run that exists loses its outcomes."""

from dataclasses import replace

import pytest

from robustbench_coded.evaluation.planning.cases import (
    FORMAT_VERSION,
    ProbedSubject,
    Unit,
    Victim,
    planned_case,
    unit_id,
)
from robustbench_coded.schema.case import Perturbation, Subject, ThreatModel

SUBJECT = ProbedSubject(Subject("erm", "rci", 128, 192), "rci:N=1.5K", 128, True, True, True, 192)
CASE = planned_case(
    SUBJECT, ThreatModel("batch", "unknown"), "pgd-10", Perturbation("linf", 8 / 255, "pixel"), 2 / 255
)
FIXED = {
    "seed": 0,
    "csrobust": "0.1.0",
    "checkpoints": {"erm": ["abc", None, (0.5,), (0.25,), "float32", True]},
}
UNIT = Unit(CASE, ((0, 1), (2,)), (), 1000, "")
VICTIMS = replace(
    UNIT,
    case=planned_case(SUBJECT, ThreatModel("victim", "known"), "aware-pgd-10", CASE.perturbation),
    groups=(),
    victims=(Victim(0, 5), Victim(3, 127)),
)


@pytest.mark.parametrize(
    ("unit", "budget", "pinned"),
    [
        (UNIT, None, "64eb714572361543cbca"),
        (UNIT, 400, "9b10024518aa6a3ec838"),
        (VICTIMS, None, "f4e325b4d0e7625ed0a3"),
        (
            replace(UNIT, case=replace(CASE, case=CASE.case.of_attack("clean").at_eps(0.0))),
            400,
            "4caf5df0ba3649a78073",
        ),
    ],
)
def test_ids_of_version_2_are_what_they_were(unit, budget, pinned):
    assert FORMAT_VERSION == 2
    assert unit_id(unit, FIXED, budget) == pinned


def test_a_budget_decides_nothing_about_a_control():
    clean = replace(UNIT, case=CASE.of_attack("clean"))
    assert unit_id(clean, FIXED, 400) == unit_id(clean, FIXED, None)
    assert unit_id(UNIT, FIXED, 400) != unit_id(UNIT, FIXED, None)


def test_cost_and_who_asked_decide_nothing():
    other = replace(UNIT, images=5, id="x", case=replace(CASE, for_check=True))
    assert unit_id(other, FIXED, None) == unit_id(UNIT, FIXED, None)
