"""Derivations that the zoo rests on, each against a search or a calculation done another way."""

from itertools import combinations, permutations, product

import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import norm

from robustbench_coded.coding.codec import Codec
from zoo import certified as certified_module
from zoo import coupled, ensembles, masked_gradients, noisy
from zoo import masked_gradients as masked_gradients_module
from zoo.linear import along, pattern, planted_margins
from zoo.registry import ZOO


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("k", "n"), [(4, 4), (5, 5), (5, 8)])
def test_rci_bounds_hold_for_every_permutation_and_corner(k, n, seed):
    """Exhaustive: all orders of k inputs, all of their scores moved by -eps, 0 or eps."""
    eps, codec, model = 0.1, Codec(k, n), along(pattern(45))
    generator = torch.Generator().manual_seed(seed)
    distances = eps * torch.tensor([0.8, 0.95, 1.05, 1.2, 2.0])[torch.randint(5, (k,), generator=generator)]
    x, y = planted_margins(distances, pattern(45), texture=0.05)
    scores, signs = model.score(x.double()), 2 * y - 1
    batch = coupled.bounds(codec, model, x, y, eps, co_batched_eps=eps)
    victim = coupled.bounds(codec, model, x, y, eps, co_batched_eps=0.0)
    d, e = codec.decoder(dtype=torch.float64), codec.encoder(dtype=torch.float64)
    moves = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=k)), dtype=torch.float64)
    alone = torch.eye(k, dtype=torch.float64)
    for perm in permutations(range(k)):
        p = torch.eye(k, dtype=torch.float64)[list(perm)]
        m = p.T @ d @ e @ p
        right = (scores + eps * moves) @ m.T * signs > 0
        assert right.double().mean(1).min() >= batch.low
        assert (m @ (scores - eps * signs) * signs > 0).double().mean() <= batch.high
        # Row i has input i attacked and answered, the others clean.
        each = ((scores - eps * signs * alone) @ m.T).diagonal() * signs > 0
        assert victim.low <= each.double().mean() <= victim.high


def test_rci_bounds_meet_on_the_entrys_own_data_and_not_on_any():
    known = coupled.known_rci_linear(n=40)
    assert known.truth("batch/known").low == known.truth("batch/known").high == pytest.approx(0.7)
    loose = coupled.known_rci_linear(n=40, n_coded=128)
    assert loose.truth("batch/known").low < loose.truth("batch/known").high


def test_no_perturbation_fools_both_opposed_members():
    """Each set of members is a linear programme: is there a perturbation that fools all of it?"""
    eps = 0.05
    known = noisy.known_opposed(n=8, eps=eps)
    members = [member.fine for member in known.defence.members]
    for x, y in zip(known.x.double(), known.y):
        sign = 2 * int(y % 2) - 1
        lower, upper = (x - eps).clamp(min=0).flatten().tolist(), (x + eps).clamp(max=1).flatten().tolist()

        def feasible(chosen, sign=sign, lower=lower, upper=upper):
            a = [(sign * m.w.double()).flatten().tolist() for m in chosen]
            b = [-sign * m.bias for m in chosen]
            return linprog([0] * 64, A_ub=a, b_ub=b, bounds=list(zip(lower, upper)), method="highs").success

        assert feasible(members[:1])
        assert feasible(members[1:])
        assert not feasible(members)


def test_the_member_drawn_falls_once_it_is_known():
    eps = 0.05
    known = noisy.known_opposed(n=40, eps=eps)
    sign = (2 * (known.y % 2) - 1).view(-1, 1, 1, 1)
    for drawn, member in enumerate(known.defence.members):
        x = known.x - eps * sign * member.fine.w.sign()
        everywhere = torch.full((40,), drawn)
        assert (known.defence.logits(x, everywhere).argmax(1) != known.y).all()
        assert (known.defence.logits(x, 1 - everywhere).argmax(1) == known.y).all()
    assert known.truth("batch/known").high == 0


def test_decoys_mislead_an_attack_on_one_member_but_not_on_the_mean():
    eps = 0.1
    known = noisy.known_decoys(n=16, eps=eps)
    members, base = known.defence.members, known.defence.base
    sign = (2 * known.y - 1).view(-1, 1, 1, 1)

    def standing(model_attacked):
        x = known.x - eps * sign * model_attacked.w.sign()
        return [(m(x).argmax(1) == known.y).double().mean().item() for m in members]

    assert standing(members[0]) == [0] + [1] * 7
    assert standing(base) == [1] * 8


def test_the_vote_probability_is_the_normal_mass_of_the_stripes():
    known = certified_module.known_smoothing(n=16)
    defence = known.defence
    t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    found = certified_module.share_of_votes(defence, t, torch.ones(9, dtype=torch.int64))
    width, sigma = defence.model.width, defence.sigma
    for position, share in zip(t.tolist(), found.tolist()):
        ones = sum(
            norm.cdf((2 * i + 1) * width, position, sigma) - norm.cdf(2 * i * width, position, sigma)
            for i in range(-5, 5)
        )
        assert share == pytest.approx(ones, abs=1e-12)


def test_votes_of_the_defence_follow_that_probability():
    known = certified_module.known_smoothing(n=8)
    defence = known.defence
    x = known.x[:1].expand(400, -1, -1, -1)
    votes = defence.logits(x, 3)[:, 1].mean().item() / 10
    position = defence.model.position(x[:1].double())
    share = certified_module.share_of_votes(defence, position, torch.ones(1, dtype=torch.int64)).item()
    assert votes == pytest.approx(share, abs=4 * 0.5 / (400 * defence.votes) ** 0.5)


def test_the_certificate_lies_below_the_truth():
    eps = 0.25
    known = certified_module.known_smoothing(eps=eps)
    defence = known.defence
    p = certified_module.share_of_votes(defence, defence.model.position(known.x.double()), known.y)
    p = torch.special.ndtr(torch.special.ndtri(p) - eps / defence.sigma)
    certified = certified_module._majority(defence, p)
    truth = known.truth("batch/unknown")
    assert 0.5 < certified <= truth.low
    assert truth.high - truth.low < 0.002
    assert truth.low < known.clean.low


def test_the_worst_point_of_a_stripe_is_found_by_the_defence_too():
    # The nearer edge is the worse way to go: moving there leaves the accuracy that the truth says.
    eps = 0.25
    known = certified_module.known_smoothing(n=400, eps=eps)
    defence, u = known.defence, known.defence.model.u
    middle = (2 * known.y - 1) * defence.model.width / 2
    way = torch.sign(defence.model.position(known.x) - middle)
    x = known.x + (eps * way).view(-1, 1, 1, 1) * u
    right = torch.stack([defence.logits(x, draw).argmax(1) == known.y for draw in range(20)])
    assert right.double().mean().item() == pytest.approx(known.truth("batch/unknown").high, abs=0.012)


def test_the_network_moves_no_more_than_its_input():
    known = certified_module.known_lipschitz(n=64)
    model = known.defence.model.double()
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0):
        x = known.x.double()
        moved = x + size * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        change = (model.score(moved) - model.score(x)).abs()
        assert (change <= (moved - x).flatten(1).norm(dim=1) * (1 + 1e-6)).all()
    truth = known.truth("batch/unknown")
    assert 0.4 < truth.low <= truth.high < truth.low + 0.05


def test_a_leaking_neighbour_protects_an_input_attacked_alone():
    eps = 0.1
    known = coupled.known_label_leak(n=16, eps=eps)
    sign = (2 * known.y - 1).view(-1, 1, 1, 1)
    attacked = known.x - eps * sign * pattern(54)
    assert (known.defence.logits(attacked, None).argmax(1) != known.y).all()
    for victim in range(16):
        x = known.x.clone()
        x[victim] = attacked[victim]
        assert known.defence.logits(x, None).argmax(1)[victim] == known.y[victim]


def test_a_leaking_neighbour_of_a_random_batch_has_the_label_by_chance():
    known = coupled.known_label_leak(n=16, eps=0.1)
    right = []
    for victim in range(16):
        for company in range(16):
            if company != victim:
                pair = torch.tensor([victim, company])
                answer = known.defence.logits(known.x[pair], None).argmax(1)[0]
                right.append((answer == known.y[victim]).item())
    assert known.truth("victim/unknown").low == pytest.approx(sum(right) / len(right))


def test_each_mask_hides_the_gradient_in_its_own_way():
    def slope(known, logits_to_loss):
        x = known.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(logits_to_loss(known.defence.logits(x, None)), x)
        return grad

    def cross_entropy(logits):
        return torch.nn.functional.cross_entropy(logits, known.y)

    for known in (masked_gradients.known_rounding(n=8), ZOO["saturated"].load(8)):
        assert (slope(known, cross_entropy) == 0).all()
    assert (slope(masked_gradients.known_rounding(n=8), lambda logits: logits[:, 1].sum()) == 0).all()
    assert (slope(ZOO["saturated"].load(8), lambda logits: logits[:, 1].sum()) != 0).all()
    known = ZOO["misleading-gradient"].load(8)
    misled = slope(known, cross_entropy)
    x = known.x.clone().requires_grad_()
    (honest,) = torch.autograd.grad(cross_entropy(known.defence.base(x)), x)
    torch.testing.assert_close(misled, -honest)


def test_random_signs_find_what_gradients_do_not():
    eps = 0.1
    known = masked_gradients_module.known_hidden_direction(n=640, eps=eps)
    generator = torch.Generator().manual_seed(0)
    fooled = []
    for _ in range(20):
        signs = torch.randint(2, known.x.shape, generator=generator) * 2 - 1
        fooled.append(known.defence.logits(known.x + eps * signs, None).argmax(1) != known.y)
    share = torch.stack(fooled).double().mean().item()
    assert share == pytest.approx(2 * norm.cdf(-1.5), abs=0.015)
    x = known.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(known.defence.logits(x, None)[:, 1].sum(), x)
    assert (grad * pattern(28)).mean().abs() < 1e-6


@pytest.mark.parametrize("name", ["together", "apart"])
def test_which_members_fall_together_is_what_a_linear_programme_says(name):
    """Each set of members is a linear programme: is there a perturbation that fools all of it?"""
    eps, members = 0.05, range(5)
    known = getattr(ensembles, f"known_{name}")(n=4, eps=eps)
    for x, y in zip(known.x.double(), known.y):
        sign = 2 * int(y % 2) - 1
        fine = [member.fine for member in known.defence.members]
        bounds = list(zip((x - eps).clamp(0).flatten().tolist(), (x + eps).clamp(max=1).flatten().tolist()))

        def fall(chosen, sign=sign, fine=fine, bounds=bounds):
            a = [(sign * fine[i].w.double()).flatten().tolist() for i in chosen]
            return linprog(
                [0.0] * len(bounds), a, [-sign * fine[i].bias for i in chosen], bounds=bounds
            ).success

        most = max(len(c) for size in members for c in combinations(members, size + 1) if fall(c))
        assert 1 - most / 5 == pytest.approx(known.truth("batch/unknown").low)
