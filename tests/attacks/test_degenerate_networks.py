"""No attack gives a result that can't be scored, whatever a network answers: NaN images, or ones outside eps.

The network answers each image in one of five ways, by its first pixel: with a constant; with equal logits,
which differ between images; by ReLUs that are dead or nearly; by a softmax that is 0 or 1 exactly; by square
roots, whose slopes are infinite at a black pixel.
"""

import pytest
import torch

from attacks.attack import read_attack
from attacks.estimators import estimator_for
from attacks.minimum_norm import level
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import inside, outside, projected
from attacks.solver import solver_for
from tests.attacks.conftest import Deterministic
from tests.attacks.test_every_attack import OURS, budget_of, short

K, CLASSES, SHAPE = 8, 4, (1, 5, 5)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(1, K, *SHAPE, generator=GENERATOR)
X[:, :, 0, 0, 0] = torch.arange(K) % 5 / 5 + 1 / 10
X[:, :, 0, 1] = 0
WEIGHTS = torch.randn(CLASSES, 25, generator=GENERATOR)


class Degenerate(Deterministic):
    def network(self, x):
        flat = x.flatten(1)
        logits = flat @ WEIGHTS.T
        ways = [
            0 * logits + torch.arange(CLASSES),
            flat.mean(1, keepdim=True).expand_as(logits),
            torch.relu(logits - 7) * (logits.amax(1, keepdim=True) > 0),
            (1e4 * logits).softmax(1),
            flat.sqrt() @ WEIGHTS.T,
        ]
        way = (5 * flat[:, :1]).long().clamp(0, 4)
        return sum(torch.where(way == i, answer, 0) for i, answer in enumerate(ways))

    def logits(self, x, draws):
        return self.network(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def perturbed(text, budget):
    name, oracle = read_attack(text), Degenerate()
    start = None if name.init is None else perturbed(str(name.init), budget)
    estimator = estimator_for(name, oracle, base=oracle.network, known=[None], max_images=2048)
    attack = solver_for(name, early_stop=True)
    return attack.perturb(X, Y, estimator, budget, [torch.Generator().manual_seed(0)], start)


Y = Degenerate().logits(X, [None]).argmax(-1)  # what is answered wrongly anyway is left alone
NAMES = dict.fromkeys(short(name) for name in OURS)
OF_MORE_NORMS = [
    name for name in NAMES if read_attack(name).declared.family == "nearest" and "sigma" not in name
]


@pytest.mark.parametrize(
    ("text", "norm"),
    [*((name, "linf") for name in NAMES), *((name, norm) for name in OF_MORE_NORMS for norm in ("l2", "l1"))],
)
def test_every_result_is_finite_and_in_ball_and_box(text, norm):
    budget = budget_of(text, norm, 0.1)
    found = perturbed(text, budget)
    assert not outside(found, X, budget).any()


@pytest.mark.parametrize("width", [0.0, 1e-42, 1e-30, 1e-3, 1e30])
def test_no_spread_of_logits_is_none_to_divide_by(width):
    scale = level(width * torch.tensor([[0.0, 0.5, 1.0]]), 8.0)
    assert scale.isfinite().all() and scale.square().isfinite().all()
    assert (scale == 1).all() if width < 1e-12 else torch.allclose(scale * width, torch.tensor(8.0))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_what_is_no_perturbed_input_is_told_from_what_is(norm):
    budget = PerturbationBudget(norm, 2 if norm == "l0" else 0.1)
    x = torch.full((1, 6, *SHAPE), 0.5)
    x[0, 5] = 0.02
    found = x.clone()
    found[0, 1, 0, 2, 2] = torch.nan
    found[0, 2, 0, 2, 2] = torch.inf
    found[0, 3] += 0.4  # outside the ball
    found[0, 4] = 0.5  # nothing has moved
    found[0, 5] = -1e-3  # inside most balls, and outside the box
    assert outside(found, x, budget).tolist() == [[False, True, True, True, False, True]]
    moved = projected(found, x, budget)
    assert moved.isnan().flatten(2).all(-1).tolist() == [[False, True, True, False, False, False]]
    assert not outside(moved, x, budget)[0, [0, 3, 4, 5]].any()
    assert torch.equal(inside(found, x, budget)[0, [0, 4]], x[0, [0, 4]])
