"""A budget of images makes attacks of two lengths equal: their comparison then shows nothing."""

import pytest

from robustbench_coded.results.judgements import _if_not_stopped
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.outcomes import RowKey

KEY = RowKey("erm", "rci", 16, 24, "batch/unknown", "ensemble", "linf", 0.3, "pixel", None)


def manifest(attack="pgd-40", *, stopped=True, k=16):
    row = {"checkpoint": "erm", "defence": "rci", "k": k, "n": 24, "attack": attack, "stopped": stopped}
    return {"rows": [row]}


def check(name="twice the steps", attacks=("pgd-20", "pgd-40"), outcome="passed"):
    return Check(name, outcome, "pgd-20 leaves 9.0% and pgd-40 9.0%.", {}, attacks)


def test_lengths_that_were_made_equal_prove_nothing():
    found = _if_not_stopped(check(), KEY, manifest())
    assert found.outcome == "not run" and found.next_step == "give more images (--budget)"
    assert found.finding.startswith("pgd-20 and pgd-40 were stopped at one cost")


@pytest.mark.parametrize(
    ("kept", "run"),
    [
        (check(), manifest(stopped=False)),
        (check(), manifest("pgd-10")),
        (check(), manifest(k=8)),
        (check("random search"), manifest()),
        (check(outcome="failed"), manifest()),
        (check(attacks=("pgd-40",)), manifest()),  # nothing is left for a longer one to find
    ],
)
def test_every_other_check_stays_as_it_is(kept, run):
    assert _if_not_stopped(kept, KEY, run) is kept
