"""A linear model under RCI with a known permutation has a closed-form worst case; PGD reaches it.

With encoder E, decoder D and the permutation as a matrix P, the decoded inputs are xhat = M x, M = P^T D E P.
For the sum of the margins w_i . xhat_i and inputs away from the box, no perturbation within eps (linf) lowers
it by more than eps * sum_j || sum_i M_ij w_i ||_1.
"""

import pytest
import torch
from torch import nn

from attacks.attack import read_attack
from attacks.estimators import estimator_for
from attacks.losses import margin_loss
from attacks.oracle import co_batch, one_victim
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from robustbench_coded.defences.rci import RCI
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.streams import stream

EPS = 0.05


class Linear(nn.Module):
    """Two classes; the margin of class 1 is w . x."""

    def __init__(self, pixels: int):
        super().__init__()
        w = torch.randn(pixels, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.weight = nn.Parameter(torch.stack([-w / 2, w / 2]), requires_grad=False)

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize(("k", "n"), [(8, 12), (16, 16), (12, 30)])
def test_whole_batch_pgd_reaches_the_closed_form_optimum(k, n):
    model = Linear(2 * 3 * 4)
    defence = RCI(model, k, n)
    x = 0.5 + 0.2 * torch.rand(1, k, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.randint(0, 2, (1, k), generator=torch.Generator().manual_seed(1))
    target = Target(defence, k, seed=5, batches=[0])
    draws = target.known_draws(0)

    estimator = estimator_for(read_attack("aware-pgd-30"), target, known=draws)
    attack = Pgd(30, EPS / 10, loss=margin_loss)
    adversarial = attack.perturb(x, y, estimator, PerturbationBudget("linf", EPS), [stream(5, 0, "start")])

    perm = draws[0]
    slots = torch.eye(k, dtype=torch.float64)[perm]  # P: slot s holds input perm[s]
    codec = defence.codec_for(k)
    encoder, decoder = codec.encoder(dtype=torch.float64), codec.decoder(dtype=torch.float64)
    mixing = slots.T @ decoder @ encoder @ slots
    w = (model.weight[1] - model.weight[0])[None] * (2 * y[0, :, None] - 1)  # each input's margin
    worst = EPS * (mixing.T @ w).abs().sum()

    def margins(inputs):
        return -margin_loss(defence.logits(inputs[0], perm), y[0]).sum()

    assert margins(x) - margins(adversarial) == pytest.approx(float(worst), rel=1e-6)


def test_a_wrong_permutation_does_not_reach_it():
    """The test above can fail: knowing another permutation leaves the attacker short of the optimum."""
    k, n = 12, 12
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 6, bias=False)).double().requires_grad_(False)
    model[1].weight.copy_(torch.randn(6, 24, generator=generator))
    y = torch.randint(0, 6, (1, k), generator=generator)
    defence = RCI(model, k, n)
    x = torch.full((1, k, 2, 3, 4), 0.5, dtype=torch.float64)
    target = Target(defence, k, seed=5, batches=[0])
    found = []
    for draw in (0, 1):
        estimator = estimator_for(read_attack("aware-pgd-30"), target, known=target.known_draws(draw))
        attack = Pgd(30, EPS / 10, loss=margin_loss)
        found.append(
            attack.perturb(x, y, estimator, PerturbationBudget("linf", EPS), [stream(5, 0, "start")])
        )
    scored = target.known_draws(0)[0]
    right, wrong = (-margin_loss(defence.logits(a[0], scored), y[0]).sum() for a in found)
    assert right < wrong - 1e-3


@pytest.mark.parametrize("k", [4, 7, 32])
def test_copies_of_one_input_are_answered_as_the_base_model_answers(k):
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 5)).double()
    defence = RCI(model, k, 2 * k + 1)
    x = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw = defence.sample(stream(0, 0, "scoring"), k)
    answers = defence.logits(x.expand(k, -1, -1, -1), draw)
    torch.testing.assert_close(answers, model(x).expand(k, -1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("slot", [0, 5])
def test_a_victim_loses_as_much_as_can_be_with_clean_and_with_free_co_batched_inputs(slot, free):
    """The victim's margin is w . (M x): its own pixels move it by at most eps |M w| each.

    Each pixel of a co-batched input that may go anywhere goes to the corner of the box that lowers it.
    """
    k, model = 8, Linear(2 * 3 * 4)
    defence = RCI(model, k, 12)
    x = 0.5 + 0.2 * torch.rand(1, k, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.randint(0, 2, (1, k), generator=torch.Generator().manual_seed(1))
    roles = (co_batch if free else one_victim)(torch.tensor([slot]), k)
    target = Target(defence, k, seed=5, batches=[0])
    draws = target.known_draws(0)

    estimator = estimator_for(read_attack("aware-pgd-30"), target, known=draws, weights=roles.weights)
    attack = Pgd(30, EPS / 10, loss=margin_loss)
    budget = PerturbationBudget("linf", EPS, eps_scale=roles.eps_scale)
    adversarial = attack.perturb(x, y, estimator, budget, [stream(5, 0, "start")])
    others = torch.arange(k) != slot
    assert free or torch.equal(adversarial[0, others], x[0, others])

    perm = draws[0]
    slots = torch.eye(k, dtype=torch.float64)[perm]
    codec = defence.codec_for(k)
    mixing = slots.T @ codec.decoder(dtype=torch.float64) @ codec.encoder(dtype=torch.float64) @ slots
    w = (model.weight[1] - model.weight[0]) * (2 * y[0, slot] - 1)
    slope, clean = mixing[slot, :, None] * w, x[0].flatten(1)
    worst = torch.where(slope > 0, clean, 1 - clean) if free else torch.zeros_like(clean)
    worst[slot] = EPS

    def margin(inputs):
        return -margin_loss(defence.logits(inputs[0], perm), y[0])[slot]

    lost = margin(x) - margin(adversarial)
    assert lost == pytest.approx(float((slope.abs() * worst).sum()), rel=1e-6) and lost > 0
