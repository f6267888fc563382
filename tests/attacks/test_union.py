"""Unions of norms: their names, and that an attack's result is the worst of its members' for each input."""

import pytest
import torch
from torch import nn

from attacks.norms import members_of, norm_named
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded import attack, evaluate
from robustbench_coded.errors import InputError

UNION = "linf:0.04+l2:0.15"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("Linf", "linf"),
        (2, "l2"),
        ("inf-low8", "linf-low8"),
        ("L2_low16", "l2-low16"),
        ("Linf:8/255 + 2:0.5", "linf:8/255+l2:0.5"),
        ("l1:12+linf-low4:0.1", "l1:12+linf-low4:0.1"),
    ],
)
def test_a_norm_by_its_usual_names(given, named):
    assert norm_named(given) == named == norm_named(named)


@pytest.mark.parametrize(
    "given", ["l3", "l1-low8", "linf-low0", "linf-low", "linf+l2", "linf:0", "linf:x+l2:1", "l0:3+l2:1", True]
)
def test_what_is_no_norm(given):
    with pytest.raises(ValueError, match=r"expected (norm|radii)"):
        norm_named(given)


def test_members():
    budget = PerturbationBudget("linf:8/255+l2-low2:0.5", 0.5)
    assert [(member.norm, member.eps) for member in budget.members] == [
        ("linf", pytest.approx(4 / 255)),
        ("l2-low2", 0.25),
    ]
    assert members_of("l2") == (("l2", 1.0),)


def test_the_ball_is_the_union():
    x0 = torch.full((1, 3, 1, 8, 8), 0.5)
    ball = PerturbationBudget(UNION, 1.0).around(x0)
    spike, ramp, both = x0.clone(), x0 + 0.04, x0 + 0.04
    spike[..., 0, 0] += 0.14  # of l2 alone
    both[..., 0, 0] += 0.14  # of neither
    assert (ball.distance(spike) < 1).all() and (ball.distance(ramp) <= 1 + 1e-5).all()
    assert (ball.distance(both) > 1).all()
    projected = ball.project_(both.clone())
    assert (ball.distance(projected) <= 1 + 1e-6).all()
    generators = [torch.Generator().manual_seed(0)]
    signs = ball.random_sign(generators)
    assert (ball.distance(signs) <= 1 + 1e-6).all()


@pytest.fixture(scope="module")
def problem():
    """Of three classes two differ in two pixels, and are nearest in l2; the third is nearest in linf."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)).eval()
    everywhere, here = 0.1 * torch.randn(64), torch.zeros(64)
    here[10], here[50] = 1, -1
    network[1].weight.data[:] = torch.stack([everywhere, everywhere + here, -everywhere])
    x = torch.rand(96, 1, 8, 8)
    return network, x, network(x).argmax(1)


@pytest.mark.parametrize("name", ["fgsm", "pgd-5", "apgd-ce-10", "square-40", "pgd-5+init=fgsm"])
def test_an_input_stands_where_it_stands_in_every_member(problem, name):
    network, x, y = problem
    stands = [
        network(attack(network, x, y, name, eps, norm=norm, seed=3)).argmax(1) == y
        for norm, eps in (("linf", 0.04), ("l2", 0.15))
    ]
    union = network(attack(network, x, y, name, 1, norm=UNION, seed=3)).argmax(1) == y
    assert torch.equal(union, stands[0] & stands[1])
    assert union.sum() < min(int(each.sum()) for each in stands)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": "linf:0.1+l1:3", "attacks": "rays-100"}, "rays-100 knows linf and l2; for l1 there are"),
        ({"norm": "linf-low2", "attacks": "fab-20"}, "fab-20 knows linf and l2 and l1; for linf-low2"),
        ({"norm": "linf-low2", "attacks": "autoattack:standard"}, "knows linf and l2 and l1; for linf-low2"),
        ({"norm": "linf-low9", "attacks": "fgsm"}, "images of 8x8 have fewer frequencies"),
        ({"norm": "linf-low2", "attacks": "fgsm", "certify": True}, "bounds are not available in linf-low2"),
        ({"norm": UNION, "attacks": "fgsm", "eps": 30}, "linf 1.2 is larger than all pixels"),
        ({"norm": "linf:8/255+l3:0.5"}, "is not known; choose linf"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(problem, options, said):
    network, x, y = problem
    with pytest.raises(InputError) as raised:
        evaluate(network, (x[:4], y[:4]), **options)
    assert said in str(raised.value) and "\n" not in str(raised.value)
