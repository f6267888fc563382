"""The l0 ball and the attacks in it, beside what is known in closed form; and a whole evaluation in it."""

import pytest
import torch
from torch import nn

from attacks.attack import EIGHT_BIT_LEVELS, read_attack
from attacks.estimators import estimator_for
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import rounded
from attacks.presets import in_norm
from attacks.solver import solver_for
from robustbench_coded import attack, evaluate
from robustbench_coded.errors import InputError, in_python
from robustbench_coded.extras.verification.verify_run import verify_run

PIXELS = 3
ATTACKS = ("spgd-u-60", "spgd-p-60", "sigma-zero-60", "sparse-rs-600", "random-600")


def generators(n: int = 2) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(g) for g in range(n)]


def points():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(2, 3, 3, 4, 5, generator=generator, dtype=torch.float64)
    return x0, x0 + torch.randn(x0.shape, generator=generator, dtype=torch.float64)


def moved(x, x0):
    return (x != x0).any(-3).flatten(-2).sum(-1)


def test_the_projection_is_the_nearest_point_with_so_few_pixels_changed():
    x0, x = points()
    found = PerturbationBudget("l0", PIXELS).around(x0).project_(x.clone())
    assert (moved(found, x0) == PIXELS).all() and found.min() >= 0 and found.max() <= 1
    # Of all choices of pixels, by their distances alone: each pixel is clipped or taken back.
    clipped = (x - x.clamp(0, 1)).square().sum(2).flatten(2)
    back = (x - x0).square().sum(2).flatten(2)
    least = back.sum(-1) - (back - clipped).topk(PIXELS, -1).values.sum(-1)
    torch.testing.assert_close((x - found).square().sum((2, 3, 4)), least)


def test_every_slot_has_its_own_number_of_pixels():
    x0, x = points()
    factors = torch.tensor([[0.0, 1.0, torch.inf], [1.0, 0.0, 1.0]])
    budget = PerturbationBudget("l0", PIXELS, eps_scale=factors)
    most = torch.where(factors.isinf(), 20, PIXELS * factors.nan_to_num(posinf=0))
    ball = budget.around(x0)
    stepped = ball.step_(x0.clone(), x - x0, 2)
    for found in (
        ball.uniform(generators()),
        ball.random_sign(generators()),
        ball.project_(x.clone()),
        stepped,
    ):
        assert found.min() >= 0 and found.max() <= 1 and (moved(found, x0) <= most).all()
    assert (moved(ball.uniform(generators()), x0) == most).all()
    assert (moved(stepped, x0) == most.clamp(max=2)).all()
    # In units of what a slot may move; a channel alone makes a pixel count.
    one = x0.clone()
    one[:, 1:, 2, 0, 0] += 0.01
    assert torch.equal(budget.around(x0).distance(one)[:, 2], torch.tensor([1 / 20, 1 / 3], dtype=x0.dtype))


def test_rounding_leaves_the_other_pixels_alone():
    x0, x = points()
    budget = PerturbationBudget("l0", PIXELS)
    found = rounded(budget.around(x0).project_(x.clone()), x0, budget, EIGHT_BIT_LEVELS)
    assert (moved(found, x0) <= PIXELS).all()
    changed = found[found != x0] * 255
    torch.testing.assert_close(changed, changed.round())


def linear_problem():
    """A linear network, inputs, gaps of its logits, and by how much each pixel can move them, in order."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 2)).double().eval()
    network[1].bias.data[1] += 0.6  # gaps on either side of what can be reached
    x = torch.rand(40, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        logits = network(x)
    y = logits.argmax(1)
    slope = (network[1].weight[1] - network[1].weight[0]).detach().view(3, 6, 6)
    slope = torch.where(y == 0, 1.0, -1.0).view(-1, 1, 1, 1) * slope
    gains = torch.maximum(slope * (1 - x), -slope * x).sum(1).flatten(1).sort(1, descending=True).values
    return network, x, y, (logits[:, 0] - logits[:, 1]).abs(), gains


@pytest.mark.parametrize(
    ("name", "within", "share"),
    [
        ("spgd-u-60", 1.1, 1.0),
        ("spgd-u-60+loss=margin", 1.1, 1.0),
        ("sigma-zero-60", 1.1, 1.0),
        ("sparse-rs-1000", 1.25, 0.9),
    ],
)
def test_on_a_linear_network_exactly_what_can_be_reached_is_broken(name, within, share):
    network, x, y, gap, gains = linear_problem()
    reach = gains[:, :PIXELS].sum(1)
    found = attack(network, x, y, name, PIXELS, norm="l0", seed=0)
    assert (moved(found, x) <= PIXELS).all() and found.min() >= 0 and found.max() <= 1
    wrong = network(found).argmax(1) != y
    assert 0 < wrong.sum() < len(y)
    assert not wrong[reach < gap].any()
    certain = wrong[reach > within * gap]
    assert len(certain) > 10 and certain.double().mean() >= share


def test_sigma_zero_changes_as_few_pixels_as_are_needed():
    network, x, y, gap, gains = linear_problem()
    needed = (gains.cumsum(1) < gap[:, None]).sum(1) + 1
    found = attack(network, x, y, "sigma-zero-200", 36, norm="l0", seed=0)
    assert (network(found).argmax(1) != y).all()
    more = moved(found, x) - needed
    assert (more >= 0).all() and (more <= 1).double().mean() > 0.9 and needed.max() > 3


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("target", [{}, {"noise": 0.3}, {"mixing": 1.0}])
def test_no_attack_changes_more_pixels(linear, name, target):
    problem = linear(batches=2, k=4, classes=5, shape=(3, 4, 5), **target)
    budget = PerturbationBudget("l0", PIXELS)
    estimator = estimator_for(read_attack(name), problem.oracle)
    found = solver_for(read_attack(name)).perturb(problem.x, problem.y, estimator, budget, generators())
    assert (moved(found, problem.x) <= PIXELS).all() and found.min() >= 0 and found.max() <= 1
    right = problem.oracle.logits(found, problem.oracle.draws(9)).argmax(-1) == problem.y
    assert right.double().mean() < 0.8


class Trigger(nn.Module):
    """Right everywhere but where one pixel is nearly white: a fault that only l0 looks for."""

    def forward(self, x):
        right = x[:, 0, :2, 0].mean(1)
        return torch.stack([right + 0.5, 3 * x[:, 0, 3, 2]], 1)


@pytest.mark.parametrize("name", ["spgd-u-40", "spgd-p-40", "sigma-zero-40", "sparse-rs-400"])
def test_a_planted_pixel_is_found(name):
    x = torch.full((16, 1, 6, 6), 0.2)
    y = torch.zeros(16, dtype=torch.int64)
    found = attack(Trigger().eval(), x, y, name, 1, norm="l0", seed=0)
    assert (Trigger().eval()(found).argmax(1) == 1).all()
    assert (found != x).nonzero()[:, 2:].unique(dim=0).tolist() == [[3, 2]]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("pgd-20", "spgd-u-20"),
        ("eot10-pgd-20+loss=margin", "eot10-spgd-u-20+loss=margin"),
        ("aware-pgd-20+init=transfer-pgd-10", "aware-spgd-u-20+init=transfer-spgd-u-10"),
        ("apgd-mt-20+target=2", "spgd-u-20+loss=margin+target=2"),
        ("square-1000", "sparse-rs-1000"),
        ("random-100", "random-100"),
        ("fgsm", "spgd-u-20"),
        ("autoattack:standard", "autoattack:standard"),
    ],
)
def test_other_attacks_have_one_of_their_kind(given, wanted):
    assert in_norm([given], "l0") == (wanted,) and in_norm([given], "l1") == (given,)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eps": 0.5}, "--norm l0 counts pixels; --eps 0.5 is no whole number from 1 on"),
        ({"eps": 0}, "--eps 0 is no whole number"),
        ({}, "give one, for example --eps 10"),
        ({"eps": 2, "eps_space": "normalized"}, "leave --eps-space out"),
        ({"eps": 2, "attacks": "pgd-10"}, "for l0 there are"),
        ({"eps": 2, "attacks": "torchattacks:PGD"}, "torchattacks:PGD knows linf and l2; for l0 there are"),
    ],
)
def test_what_makes_no_sense_in_l0_is_refused_in_one_line(options, said):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(InputError) as raised:
        evaluate(model, (torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])), norm="l0", **options)
    assert in_python(said) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.long
def test_an_evaluation_of_rci_in_l0_goes_from_the_options_to_the_verdict(tmp_path):
    run = evaluate(
        "checkpoints/digits-pgd-at.safetensors", "digits", defences="rci:N=1.5K", norm="l0", eps=4,
        batch_size=16, limit=32, draws=2, save_adversarials=True,
        attacks=["spgd-u-20", "spgd-p-10+loss=margin", "sigma-zero-20", "sparse-rs-100", "aware-spgd-u-10"],
        out=tmp_path / "run",
    )  # fmt: skip
    rows = run.summary.set_index(["defence", "attack", "threat"]).accuracy
    for defence in ("standard", "rci"):
        left = rows[defence]
        assert left["ensemble", "batch/unknown"] < left["spgd-u-20", "batch/unknown"] + 1e-9
        assert left["spgd-u-20", "batch/unknown"] < left["random-sign", "batch/unknown"] - 0.1
    assert run.judgements and all(j.perturbation.norm == "l0" for j in run.judgements)
    verified = verify_run(tmp_path / "run")
    assert verified and all(row.outside == 0 and row.furthest <= 1 and not row.problem for row in verified)
