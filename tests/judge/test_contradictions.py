import numpy as np
import pytest

from robustbench_coded.judge.certified import contradictions
from robustbench_coded.judge.combined import case_results
from robustbench_coded.runs.certificates import Certificate
from robustbench_coded.schema.case import Perturbation, Subject
from robustbench_coded.schema.words import NAIVE_MIN

NOISE = {"defence": "noise", "k": None, "n": None, "batch_dependent": False, "eps": 0.1}
HOLDS = np.array([[False, True]] * 8)  # the bound: every example, in the second draw


def certificate(right, *, chance=False):
    return Certificate(
        subject=Subject("erm", "noise", None, None),
        perturbation=Perturbation("linf", 0.1, "pixel"),
        inputs=("batch",),
        randomness=("unknown",),
        chance=chance,
        example=tuple(range(8)),
        batch=(0,) * 8,
        draw=(0,) if chance else (0, 1),
        right=right,
    )


def results(evaluation, *attacks):
    made = evaluation()
    for number, right in enumerate(attacks):
        made.add(f"pgd-{number + 2}", right, right, **NOISE)
    return case_results(*made.parts())


def contradicted(found):
    return {(one.attack.attack, one.example) for one in found}


def test_naive_min_contradicts_nothing_as_its_draws_are_of_several_attacks(evaluation):
    bound = certificate(tuple(map(tuple, HOLDS.astype(float))))
    rows = results(evaluation, HOLDS, HOLDS)
    (naive,) = (row for row in rows if row.case.attack == NAIVE_MIN)
    assert not naive.cell.correct[:, 1].all()  # its second column has the first draw of the second attack
    assert contradicted(contradictions(bound, rows)) == set()


@pytest.mark.parametrize("attack", ["pgd-3", "strongest", "ensemble"])
def test_one_wrong_answer_in_a_certified_draw_does(evaluation, attack):
    broken = HOLDS.copy()
    broken[5, 1] = False
    bound = certificate(tuple(map(tuple, HOLDS.astype(float))))
    found = contradicted(contradictions(bound, results(evaluation, HOLDS | True, broken)))
    assert (attack, 5) in found
    assert {example for _, example in found} == {5}


def test_naive_min_is_no_evidence_against_a_probability(evaluation):
    # 80 attacks that take one of 16 draws each: every attack leaves 15/16, a try of each next to nothing.
    rng = np.random.default_rng(0)
    taken = [np.arange(16) != rng.integers(16, size=(8, 1)) for _ in range(80)]
    rows = results(evaluation, *taken)
    (naive,) = (row for row in rows if row.case.attack == NAIVE_MIN)
    assert naive.cell.correct.mean() < 0.05
    assert contradicted(contradictions(certificate(((0.85,),) * 8, chance=True), rows)) == set()
