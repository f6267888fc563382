"""Ids of units are names of files: if one changes, every run that exists loses its outcomes."""

from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig, attack_options
from robustbench_coded.evaluation.planning.cases import (
    FORMAT_VERSION,
    PlannedCase,
    ProbedSubject,
    Unit,
    Victim,
    unit_id,
    unit_payload,
)
from robustbench_coded.results.run import load_manifest
from robustbench_coded.schema.case import ThreatModel
from robustbench_coded.session.evaluate import made_ready
from robustbench_coded.session.evaluation import make_plan

ROOT = Path(__file__).parents[2]
SUBJECT = ProbedSubject("erm", "rci:N=1.5K", "rci", 128, 192, True, True, True, 192)
CASE = PlannedCase(SUBJECT, ThreatModel("batch", "unknown"), "pgd-10", "linf", 8 / 255, "pixel", 2 / 255)
FIXED = {
    "seed": 0,
    "csrobust": "0.1.0",
    "checkpoints": {"erm": ["abc", None, (0.5,), (0.25,), "float32", True]},
}
UNIT = Unit(CASE, ((0, 1), (2,)), (), 1000, "")
VICTIMS = replace(
    UNIT,
    row=replace(CASE, threat=ThreatModel("victim", "known"), attack="aware-pgd-10", step_size=None),
    groups=(),
    victims=(Victim(0, 5), Victim(3, 127)),
)


@pytest.mark.parametrize(
    ("unit", "budget", "pinned"),
    [
        (UNIT, None, "035914c89587254f9aa9"),
        (UNIT, 400, "a445864ceffe54aa2385"),
        (VICTIMS, None, "1a51ac7432806ec9be82"),
        (
            replace(UNIT, row=replace(CASE, attack="clean", eps=0.0, step_size=None)),
            400,
            "60a292489df17f71ae29",
        ),
    ],
)
def test_ids_of_version_1_are_what_they_were(unit, budget, pinned):
    assert FORMAT_VERSION == 1
    assert unit_id(unit_payload(unit, FIXED, budget)) == pinned


def test_a_budget_decides_nothing_about_a_control():
    clean = replace(UNIT, row=replace(CASE, attack="clean"))
    assert unit_payload(clean, FIXED, 400) == unit_payload(clean, FIXED, None)
    assert unit_payload(UNIT, FIXED, 400) != unit_payload(UNIT, FIXED, None)


def test_cost_and_who_asked_decide_nothing():
    other = replace(UNIT, images=5, id="x", row=replace(CASE, for_check=True))
    assert unit_payload(other, FIXED, None) == unit_payload(UNIT, FIXED, None)


def test_units_of_a_committed_run_are_planned_again_under_their_names():
    run = ROOT / "reports" / "digits"
    config = EvalConfig(
        checkpoints=(("erm", str(ROOT / "checkpoints" / "digits-erm.safetensors")),),
        data="digits",
        defences=("rci:N=1.5K",),
        threads=1,
        workers=2,
        out=run,
        **attack_options(("paper",)),
    )
    committed = load_manifest(run)
    prepared, _ = made_ready(config)
    plan = make_plan(prepared.resumed_from(committed))
    known = {case.case: [unit.id for unit in case.units] for case in committed.rows}
    for case in plan.rows:
        assert [unit.id for unit in plan.units if unit.case == case] == known[case.case], case.case
