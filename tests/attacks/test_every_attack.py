"""What must hold for every attack with a name, whatever it does.

On the smallest and the largest batches, for two classes, for images that are not square and for one channel,
under chance and coupling and without.
"""

import pytest
import torch
from msgspec import structs

from attacks.attack import GRAMMAR, examples, read_attack
from attacks.estimators import estimator_for
from attacks.perturbation_budget import PerturbationBudget
from attacks.presets import PRESETS
from attacks.solver import solver_for
from robustbench_coded import attack

OURS = dict.fromkeys(
    [
        *(name for name in (*examples(), *GRAMMAR) if read_attack(name).package is None),
        *(name for names in PRESETS.values() for name in names),
        "apgd-ce-10+restarts=2",
        "transfer-square-100",
        "fixed-square-100",
        "aware-fgsm",
    ]
)

# Norm, K, classes, shape of an image, what ties the batch together.
TARGETS = [
    ("l2", 4, 2, (1, 6, 3), {"noise": 0.3, "mixing": 0.5}),
    ("linf", 5, 3, (3, 4, 5), {}),
    ("l2", 7, 10, (1, 5, 4), {"mixing": 1.0}),
    ("linf", 512, 2, (1, 3, 2), {"noise": 0.3}),
    ("l2", 1, 4, (3, 5, 2), {}),
]


def short(text: str) -> str:
    """The name with so few steps that it runs in an instant."""
    attack = read_attack(text)
    if attack.steps is None:
        return text
    few = {"crossover": 2, "aa": 20}.get(attack.algorithm)
    least = max(attack.declared.fewest_steps, 12 if attack.declared.asks_answers_alone else 4)
    init = attack.init and read_attack(short(str(attack.init)))
    return str(structs.replace(attack, steps=few or least, init=init))


def budget_of(text: str, norm: str, eps: float) -> PerturbationBudget:
    """In the norm, or in l0 where the attack knows that alone: a pixel for each tenth of eps."""
    known = read_attack(text).declared.norms
    return PerturbationBudget("l0", round(10 * eps)) if known == ("l0",) else PerturbationBudget(norm, eps)


def perturbed(problem, text: str, budget: PerturbationBudget, seed: int = 0, *, early_stop: bool = False):
    generators = [torch.Generator().manual_seed(seed + g) for g in range(len(problem.x))]
    return solved(problem, read_attack(text), budget, generators, early_stop=early_stop)


def solved(problem, attack, budget: PerturbationBudget, generators, *, early_stop: bool = False):
    def base(x):
        return x.flatten(1) @ problem.oracle.weights.T

    start = None if attack.init is None else solved(problem, attack.init, budget, generators)
    known = problem.oracle.draws(9)
    estimator = estimator_for(attack, problem.oracle, base=base, known=known, max_images=2048)
    solver = solver_for(attack, early_stop=early_stop)
    return solver.perturb(problem.x, problem.y, estimator, budget, generators, start)


@pytest.mark.parametrize("text", OURS)
def test_stays_in_ball_and_box_repeats_by_seed_and_leaves_everything_else_alone(linear, text):
    text = short(text)
    for norm, k, classes, shape, options in TARGETS:
        k = min(k, 64) if "exact" in text else k  # K backward passes a step
        problem = linear(batches=1 if k > 100 else 2, k=k, classes=classes, shape=shape, **options)
        clean = problem.x.clone()
        state = torch.get_rng_state()
        budget = budget_of(text, norm, 0.1)
        x = perturbed(problem, text, budget)
        assert x.shape == clean.shape and x.dtype == clean.dtype and not x.requires_grad
        assert x.min() >= 0 and x.max() <= 1
        assert 0 < budget.around(clean).distance(x).max() <= 1 + 1e-9
        if k < 100:
            assert torch.equal(perturbed(problem, text, budget), x)
            assert torch.equal(perturbed(problem, text, budget_of(text, norm, 0.0)), clean)
        assert torch.equal(problem.x, clean) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("text", OURS)
def test_another_seed_is_another_attack(linear, text):
    """Where it draws random numbers; switch draws a few of many moves that it compares."""
    problem, attack = linear(k=4, classes=5, noise=0.3), read_attack(short(text))
    own, other, unused = (torch.Generator().manual_seed(seed) for seed in (0, 1, 0))
    results = [solved(problem, attack, budget_of(text, "l2", 0.1), [each]) for each in (own, other)]
    drew = not torch.equal(own.get_state(), unused.get_state())
    assert drew != torch.equal(*results) or attack.algorithm == "switch"


@pytest.mark.parametrize("text", OURS)
@pytest.mark.parametrize(("noise", "early_stop"), [(0.3, False), (0.0, True)])
def test_what_one_batch_gets_does_not_depend_on_the_others_of_its_group(linear, text, noise, early_stop):
    budget, results = budget_of(text, "linf", 0.1), []
    for batches in (3, 1):
        problem = linear(batches=batches, k=8, classes=5, noise=noise)
        results.append(perturbed(problem, short(text), budget, early_stop=early_stop)[:1])
    torch.testing.assert_close(*results, atol=1e-12, rtol=0)


@pytest.mark.parametrize("text", OURS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_logits_may_have_another_precision_than_inputs(linear, monkeypatch, text, dtype):
    problem = linear(k=4, classes=5, dtype=torch.float32)
    exact = problem.oracle.logits
    monkeypatch.setattr(problem.oracle, "logits", lambda x, draws: exact(x, draws).to(dtype))
    x = perturbed(problem, short(text), budget_of(text, "linf", 0.1))
    assert x.dtype == torch.float32 and not torch.equal(x, problem.x)


@pytest.mark.parametrize("text", OURS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_networks_and_inputs_may_have_half_precision(linear, text, dtype):
    problem = linear(k=4, classes=5, dtype=dtype)
    budget = budget_of(text, "l2", 0.3)
    x = perturbed(problem, short(text), budget)
    assert x.dtype == dtype and x.min() >= 0 and x.max() <= 1
    assert 0 < budget.around(problem.x).distance(x).max() <= 1 + 1e-6


@pytest.mark.parametrize("text", OURS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_logits_and_the_layout_of_inputs_may_be_any(linear, text, scale):
    problem, budget = linear(k=4, classes=5), budget_of(text, "l2", 0.1)
    problem.oracle.weights = scale * problem.oracle.weights
    x = perturbed(problem, short(text), budget)
    flat = scale > 1 and read_attack(text).declared.loss == "ce"  # which is exactly 0 at the clean input
    assert 0 <= budget.around(problem.x).distance(x).max() <= 1 + 1e-6
    assert flat or not torch.equal(x, problem.x)
    problem.x = problem.x.transpose(-1, -3).contiguous().transpose(-1, -3)
    assert not problem.x.is_contiguous()
    torch.testing.assert_close(perturbed(problem, short(text), budget), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("text", OURS)
def test_each_image_may_have_a_target_of_its_own_and_the_memory_of_a_channels_last_tensor(text):
    norm, eps = ("l0", 6) if read_attack(text).declared.norms == ("l0",) else ("linf", 0.3)
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(5, 60, generator=generator)
    x = torch.rand(8, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last)

    def network(z):
        return z.flatten(1) @ weights.T

    y = network(x).argmax(1)
    targets = (y + torch.arange(8) % 4 + 1) % 5
    found = attack(network, x, y, short(text), eps, norm=norm, target=targets, seed=0, base=network)
    assert found.min() >= 0 and found.max() <= 1
    moved = (found - x).abs()
    size = (moved.amax(1) > 0).sum((1, 2)) if norm == "l0" else moved.amax((1, 2, 3))
    assert 0 < size.max() <= eps * (1 + 1e-6)
