"""Attacks in turn, and more of them where margins are small: which examples they get, and what is kept."""

from dataclasses import dataclass, field

import pytest
import torch

from attacks.attack import read_attack
from attacks.estimators import FreshDraws
from attacks.losses import margin, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import COMPARISONS, AttackSequence, Pgd
from attacks.solver import solver_for

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
        return budget.around(x).project_(x + self.sign * budget.eps * slope)


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
    after = margins(problem, run(problem, AttackSequence((Stays(),), (again,))))
    ((some, _),) = again.asked
    assert some.shape[:2] == (3, 3)  # one in 16, rounded up
    standing = before.masked_fill(before < 0, torch.inf)
    nearest = standing <= standing.sort(1).values[:, 2:3]
    assert bool(nearest.any()) and torch.equal(after < before - 1e-9, nearest)


def test_what_a_later_run_does_not_improve_stays(linear):
    problem = linear(batches=2, k=32)
    first = margins(problem, run(problem, Along(problem, 1)))
    both = margins(problem, run(problem, AttackSequence((Along(problem, 1),), (Along(problem, -1),) * 2)))
    torch.testing.assert_close(both, first)


def test_examples_that_a_run_breaks_make_room_for_the_next_ones(linear):
    problem, all_of_it = linear(batches=1, k=64), PerturbationBudget("linf", 1.0)
    assert bool((margins(problem, run(problem, Along(problem, 1), all_of_it)) < 0).all())
    run(problem, AttackSequence((Stays(),), (again := Along(problem, 1),) * 2), all_of_it)
    (one, _), (two, _) = again.asked
    assert not bool((one[0][:, None] == two[0][None]).flatten(2).all(2).any())


TEXTS = "square-160 aa-16 apgd-t-16 apgd-t-16+targets=2 apgd-mt-16+targets=5"


@pytest.mark.parametrize("text", [*TEXTS.split(), "apgd-ce-16+restarts=3", "pgd-16+restarts=3"])
def test_what_it_costs_is_forecast(linear, text):
    """On a linear target that no input of the ball breaks, all are attacked to the end."""
    problem = linear(batches=2, k=16, classes=12)
    name = read_attack(text)
    estimator = FreshDraws(problem.oracle)
    tiny = PerturbationBudget("linf", 1e-9)
    right = problem.oracle.logits(problem.x, [None]).argmax(-1)
    solver_for(name, early_stop=True).perturb(problem.x, right, estimator, tiny, problem.generators)
    spent = (estimator.forwards + estimator.backwards) / right.numel()
    assert spent == pytest.approx(sum(name.queries(randomised=False)), rel=0.1)


@pytest.mark.parametrize("steps", range(1, 40))
def test_twice_the_steps_of_aa_are_within_twice_its_cost(steps):
    """Else an evaluation would leave them to the user, and could not finish a check of its own preset."""
    once, twice = (read_attack(f"aa-{number}").queries(randomised=False) for number in (steps, 2 * steps))
    assert all(more <= 2 * cost for more, cost in zip(twice, once, strict=True))


def test_each_attack_gets_what_those_before_it_left(linear):
    problem, budget = linear(batches=3, k=12), PerturbationBudget("linf", 0.2)
    once = margins(problem, run(problem, Along(problem, 1), budget))
    first, second = Along(problem, 1), Along(problem, -1)
    found = run(problem, AttackSequence((first, second)), budget)
    torch.testing.assert_close(margins(problem, found), once)
    assert len({int(number) for number in (once > 0).sum(1)}) > 1  # not as many in every batch
    left = sorted(x.sum().item() for x in problem.x[once > 0])
    asked = sorted(x.sum().item() for x, _ in second.asked for x in x.flatten(0, 1))
    assert 0 < len(left) < once.numel() and asked == pytest.approx(left)


def test_without_early_stops_every_attack_gets_all_and_the_better_point_is_kept(linear):
    problem = linear(batches=2, k=8)
    worse, better = Along(problem, -1), Along(problem, 1)
    found = run(problem, AttackSequence((worse, better), (again := Along(problem, 1),), early_stop=False))
    assert not again.asked and [x.shape for x, _ in better.asked] == [problem.x.shape]
    torch.testing.assert_close(margins(problem, found), margins(problem, run(problem, Along(problem, 1))))


def test_on_random_targets_results_are_compared_under_several_draws(linear):
    def share_kept(comparisons):
        problem = linear(batches=2, k=64, noise=6.0)
        attack = AttackSequence(
            (Along(problem, -1), Along(problem, 1)), early_stop=False, comparisons=comparisons
        )
        found = run(problem, attack)
        return (found == run(problem, Along(problem, 1))).flatten(2).all(2).double().mean()

    assert share_kept(1) < 0.9 < share_kept(COMPARISONS) == 1


def test_aa_averages_over_draws_on_random_targets_and_stops_early_on_others():
    random, deterministic = solver_for(read_attack("aa-8")), solver_for(read_attack("aa-8"), early_stop=True)
    *same, averaging = random.attacks
    assert [type(attack) for attack in same] == [type(attack) for attack in deterministic.attacks]
    assert averaging == Pgd(8, loss=margin_loss, momentum=1.0)
    assert not random.closest and deterministic.closest and random.comparisons > 1
