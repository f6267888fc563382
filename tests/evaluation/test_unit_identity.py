"""Ids of units are names of files: if one changes, every run that exists loses its outcomes."""

from dataclasses import replace

import pytest

from robustbench_coded.evaluation.planning.batches import VICTIMS
from robustbench_coded.evaluation.planning.cases import (
    FORMAT_VERSION,
    ProbedSubject,
    Unit,
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
UNIT = Unit(CASE, ((0, 1), (2,)), 1000, "")
OF_VICTIMS = replace(
    UNIT,
    case=planned_case(SUBJECT, ThreatModel("victim", "known"), "aware-pgd-10", CASE.perturbation),
    groups=((VICTIMS + 5,), (VICTIMS + 127,)),
)


@pytest.mark.parametrize(
    ("unit", "pinned"),
    [
        (UNIT, "b721d76351297823b778"),
        (OF_VICTIMS, "b24899e2f80949c0ecac"),
        (
            replace(
                UNIT,
                case=planned_case(
                    SUBJECT, ThreatModel("batch", "unknown"), "clean", Perturbation("linf", 0.0, "pixel")
                ),
            ),
            "3cc09ca45512d24f65f8",
        ),
    ],
)
def test_ids_of_version_4_are_what_they_were(unit, pinned):
    assert FORMAT_VERSION == 4
    assert unit_id(unit, FIXED) == pinned


def test_cost_and_who_asked_decide_nothing():
    other = replace(UNIT, images=5, id="x")
    assert unit_id(other, FIXED) == unit_id(UNIT, FIXED)
