"""What checks may ask for: nothing that the subject has no gradient for."""

from types import SimpleNamespace

import pytest

from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.follow_up import _asked_for
from robustbench_coded.schema.threat_model import ThreatModel
from robustbench_coded.schema.words import CheckName


@pytest.mark.parametrize(
    ("differentiable", "relaxable", "expected"),
    [
        (True, True, ["pgd-20", "relaxed-pgd-20", "transfer-pgd-20", "rays-400"]),
        (False, True, ["relaxed-pgd-20", "transfer-pgd-20", "rays-400"]),
        (False, False, ["transfer-pgd-20", "rays-400"]),
    ],
)
def test_an_attack_that_needs_a_gradient_is_asked_for_where_there_is_one(differentiable, relaxable, expected):
    subject = Subject(
        "m", "mine:build", "build", 32, None, False, False, True, 32, True, differentiable, relaxable
    )
    like = AttackCase(subject, ThreatModel("batch", "unknown"), "rays-400", "linf", 0.1, "pixel", None)
    asked = ("pgd-20", "relaxed-pgd-20", "transfer-pgd-20", "rays-400")
    check = SimpleNamespace(name=CheckName.ZERO_GRADIENTS, run_next=asked)
    found = _asked_for(check, SimpleNamespace(unbounded_eps=1.0), like, [like])
    assert [row.attack for row in found] == expected
