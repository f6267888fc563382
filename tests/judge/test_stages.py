"""A positive verdict needs every stage of the protocol, whatever list named its attacks."""

import numpy as np
import pytest

from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.protocol.rungs import stages_of
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judgements import judgements_of
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject
from robustbench_coded.schema.manifest import DataFacts, Identity, RunManifest
from robustbench_coded.schema.words import BESIDE, STANDARD

EPS = 8 / 255
STAGED = ("pgd-100", "apgd-mt-20", "parts-60")  # one of each stage
ANSWERED = ("apgd-mt-40", "mosaic-8", "square-1000", "random-1000")  # asked for by checks
ALONE = {"randomised": False, "batch_dependent": False}


def judged(evaluation, ran, *, beside=True, eps=EPS):
    """The verdict on a defence around a checkpoint that every attack leaves at 80%."""
    right = (np.arange(400) < 320)[:, None]
    made, key = evaluation(), {"has_base": False, **ALONE}
    made.add("clean", np.ones((400, 1)), **key)
    for name in ran:
        made.add(name, right, eps=eps, **key)
    if beside:
        alone = {"defence": STANDARD, "k": None, "n": None, "eps": eps}
        made.add("pgd-100", right, **alone, **key)
    subject = ProbedSubject(Subject("erm", "rci", 16, 24), "rci", 16, False, False, False, 16)
    budget = Perturbation("linf", eps, "pixel")
    protocol = [planned_case(subject, WHOLE_BATCH, name, budget, 2 / 255) for name in STAGED * bool(eps)]
    outcomes, records = made.parts()
    manifest = RunManifest(
        identity=Identity(), data=DataFacts(), checkpoints=(), cases=tuple(records), notes=(), invocations=(),
        stages=stages_of(protocol, lambda subject: True),
    )  # fmt: skip
    found = judgements_of(case_results(outcomes, records), manifest)
    return next(j.verdict for j in found if j.subject.defence == "rci")


def test_a_verdict_is_positive_where_every_stage_ran(evaluation):
    assert judged(evaluation, (*STAGED, *ANSWERED)).name == "no failure found"


@pytest.mark.parametrize(
    ("missing", "stage"),
    [("pgd-100", "named rows"), ("apgd-mt-20", "adaptive"), ("parts-60", "before a positive verdict")],
)
def test_a_stage_that_did_not_run_is_what_the_verdict_says(evaluation, missing, stage):
    found = judged(evaluation, [name for name in (*STAGED, *ANSWERED) if name != missing])
    assert (found.name, found.brief) == ("not settled", f"{stage} did not run")
    assert stage in found.open_checks and f"{stage} did not run" in found.reason


def test_a_defence_around_a_checkpoint_needs_the_accuracy_of_that(evaluation):
    found = judged(evaluation, (*STAGED, *ANSWERED), beside=False)
    assert (found.name, found.open_checks, found.base) == ("not settled", (BESIDE,), None)
    assert judged(evaluation, (*STAGED, *ANSWERED)).base.estimate == 0.8


def test_where_nothing_may_be_moved_nothing_is_found(evaluation):
    found = judged(evaluation, (*STAGED, *ANSWERED), eps=0.0)
    assert (found.name, found.brief) == ("not settled", "at eps 0 nothing is attacked")
