"""More of an attack where margins are small: which examples are attacked again, and what is kept."""

from dataclasses import dataclass, field

import pytest
import torch

from attacks.closest import Closest
from attacks.estimators import FreshDraws
from attacks.losses import margin, margin_loss
from attacks.naming import parse
from attacks.perturbation_budget import PerturbationBudget
from attacks.registry import attack_for
from robustbench_coded.evaluation.planning.cost import queries_of

BUDGET = PerturbationBudget("linf", 0.05)


@dataclass
class Along:
    """Moves every input along its margin loss, by ``sign`` times eps; keeps what it was asked to attack."""

    problem: object
    sign: int
    asked: list = field(default_factory=list)

    def perturb(self, x, y, estimator, budget, generators, start=None):
        self.asked.append((x, y))
        w = self.problem.oracle.weights
        slope = torch.where((y == 0)[..., None], w[1] - w[0], w[0] - w[1]).sign().view_as(x)
        return budget.project(x + self.sign * budget.eps * slope, x)


class Stays:
    def perturb(self, x, y, estimator, budget, generators, start=None):
        return x.clone()


def run(problem, attack, budget=BUDGET):
    estimator = FreshDraws(problem.oracle)
    return attack.perturb(problem.x, problem.y, estimator, budget, problem.generators)


def margins(problem, x):
    return margin(problem.oracle.logits(x, [None]), problem.y)


def test_the_smallest_margins_of_each_batch_are_attacked_again(linear):
    problem = linear(batches=3, k=33)
    before, again = margins(problem, problem.x), Along(problem, 1)
    after = margins(problem, run(problem, Closest(Stays(), (again,))))
    ((some, _),) = again.asked
    assert some.shape[:2] == (3, 3)  # one in 16, rounded up
    standing = before.masked_fill(before < 0, torch.inf)
    nearest = standing <= standing.sort(1).values[:, 2:3]
    assert bool(nearest.any()) and torch.equal(after < before - 1e-9, nearest)


def test_what_a_later_run_does_not_improve_stays(linear):
    problem = linear(batches=2, k=32)
    first = margins(problem, run(problem, Along(problem, 1)))
    both = margins(problem, run(problem, Closest(Along(problem, 1), (Along(problem, -1),) * 2)))
    torch.testing.assert_close(both, first)


def test_examples_that_a_run_breaks_make_room_for_the_next_ones(linear):
    problem, all_of_it = linear(batches=1, k=64), PerturbationBudget("linf", 1.0)
    assert bool((margins(problem, run(problem, Along(problem, 1), all_of_it)) < 0).all())
    run(problem, Closest(Stays(), (again := Along(problem, 1),) * 2), all_of_it)
    (one, _), (two, _) = again.asked
    assert not bool((one[0][:, None] == two[0][None]).flatten(2).all(2).any())


def test_more_queries_are_spent_only_where_answers_do_not_depend_on_draws_or_batches():
    text = "square-40+closest=3"
    assert isinstance(attack_for(parse(text), early_stop=True), Closest)
    assert attack_for(parse(text)) == attack_for(parse("square-40"))
    mt = attack_for(parse("apgd-mt-20+closest=2"), early_stop=True)
    assert isinstance(mt, Closest) and len(mt.then) == 2 and mt.then[0].targets > mt.first.targets
    assert attack_for(parse("transfer-apgd-mt-20+closest=2"), early_stop=True) == attack_for(
        parse("transfer-apgd-mt-20")
    )


@pytest.mark.parametrize("text", ["square-160+closest=3", "apgd-mt-16+closest=2"])
def test_what_it_costs_is_forecast(linear, text):
    """On a linear target that no input of the ball breaks, all are attacked to the end."""
    problem = linear(batches=2, k=16, classes=12)
    name = parse(text)
    estimator = FreshDraws(problem.oracle)
    tiny = PerturbationBudget("linf", 1e-9)
    right = problem.oracle.logits(problem.x, [None]).argmax(-1)
    attack_for(name, early_stop=True).perturb(problem.x, right, estimator, tiny, problem.generators)
    spent = (estimator.forwards + estimator.backwards) / right.numel()
    assert spent == pytest.approx(sum(queries_of(name, randomised=False)), rel=0.1)


def test_the_loss_never_falls(linear):
    problem = linear(batches=2, k=16, classes=6)
    alone = attack_for(parse("apgd-mt-10"), early_stop=True)
    more = attack_for(parse("apgd-mt-10+closest=2"), early_stop=True)
    losses = [margin_loss(problem.oracle.logits(run(problem, a), [None]), problem.y) for a in (alone, more)]
    assert bool((losses[1] >= losses[0] - 1e-12).all())
