"""A budget of images makes attacks of two lengths equal: their comparison then shows nothing."""

import pytest

from robustbench_coded.results.judgements import _if_not_stopped
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.evaluated import DataFacts, Identity
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.planned_case import PlannedCase
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.check import Check

KEY = CaseKey("erm", "rci", 16, 24, WHOLE_BATCH, "ensemble", "linf", 0.3, "pixel", None)


def manifest(attack="pgd-40", *, stopped=True, k=16):
    case = PlannedCase(
        **KEY._replace(k=k, attack=attack).as_columns(),
        stopped=stopped,
        randomised=True,
        batch_dependent=True,
        examples_planned=64,
        draws=2,
    )
    return RunManifest(
        identity=Identity(), data=DataFacts(), checkpoints=(), rows=(case,), notes=(), invocations=()
    )


def check(name="twice the steps", attacks=("pgd-20", "pgd-40"), outcome="passed"):
    return Check(CheckName(name), CheckOutcome(outcome), "pgd-20 leaves 9.0% and pgd-40 9.0%.", {}, attacks)


def test_lengths_that_were_made_equal_prove_nothing():
    found = _if_not_stopped(check(), KEY.subject, manifest())
    assert found.outcome == "not run" and str(found.next_step) == "give more images (--budget)"
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
    assert _if_not_stopped(kept, KEY.subject, run) is kept
