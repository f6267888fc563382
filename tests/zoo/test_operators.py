"""The operator family: what its truths rest on, and that the default sees through every operator."""

import pytest
import torch
from scipy.stats import binom

from benchmarks.errors.zoo_judged import judge_entry
from zoo import operators
from zoo.operators import probability_of_one
from zoo.registry import ZOO

OPERATORS = {name: entry for name, entry in ZOO.items() if entry.family == "operators"}
BROKEN = [name for name, entry in OPERATORS.items() if entry.broken]
GOOD = [name for name, entry in OPERATORS.items() if not entry.broken]
# Where no operator is relaxed: queries break them.
UNSEEN = ("op-python", "op-vmap", "op-majority", "op-two-bounds")
QUICK = {"draws": 2, "inputs": ("batch",)}
MONOTONE = (
    operators.softmax, operators.sigmoid, operators.tanh, operators.clamp, operators.one_hot_votes,
    operators.winners, operators.median_filter, operators.ranks, operators.pooled_ties, operators.sign,
    operators.floor, operators.where, operators.assigned, operators.in_place, operators.thermometer,
    operators.nearest_code, operators.bit_depth, operators.gathered_code, operators.placed,
    operators.majorities, operators.two_bounds, operators.mapped, operators.in_python,
    operators.silent_backward, operators.lying_backward, operators.detached, operators.without_graph,
    operators.through_numpy,
)  # fmt: skip


@pytest.mark.parametrize("score", MONOTONE, ids=lambda score: score.__name__)
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_no_score_falls_as_a_pixel_grows(score, share):
    """What makes the corner the worst point: a few, many and all pixels raised, from around the boundary."""
    generator = torch.Generator().manual_seed(0)
    u = (0.15 * torch.randn(2000, 64, generator=generator)).clamp(-0.4, 0.4)
    raised = 0.1 * torch.rand(u.shape, generator=generator)
    raised = raised * (torch.rand(u.shape, generator=generator) < share)
    rise = score(u + raised) - score(u)
    assert rise.min() >= -1e-6
    if share == 1:
        assert rise.max() > 0


@pytest.mark.parametrize("score", [operators.bernoulli, operators.gumbel, operators.compared])
def test_no_bit_turns_off_as_its_pixel_grows_whatever_the_draw(score):
    generator = torch.Generator().manual_seed(0)
    u = 0.1 * torch.randn(500, 64, generator=generator)
    raised = 0.1 * torch.rand(u.shape, generator=generator)
    found = []
    for pixels in (u, u + raised):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            found.append(score(pixels))
    assert (found[1] - found[0]).min() >= 0
    assert (found[1] > found[0]).any()


def test_the_chance_that_most_bits_are_on_is_a_binomial_tail_where_all_are_alike():
    p = torch.tensor([0.2, 0.5, 0.55, 0.9], dtype=torch.float64)
    found = probability_of_one(p[:, None].expand(4, 64))
    assert found.tolist() == pytest.approx([binom.sf(32, 64, float(one)) for one in p], abs=1e-12)
    # Bits that differ: one that is always on and one that never is change nothing but the count.
    mixed = p[2].repeat(1, 64)
    mixed[0, :2] = torch.tensor([0.0, 1.0])
    assert float(probability_of_one(mixed)) == pytest.approx(binom.sf(31, 62, 0.55), abs=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in BROKEN if name not in UNSEEN])
def test_smooth_operators_break_it(name, tmp_path):
    (found, *_) = judge_entry(name, tmp_path / "run", n=32, attacks=["relaxed-pgd-20+momentum=1"], **QUICK)
    assert found.threat == "batch/unknown"
    assert found.estimate <= 0.01


@pytest.mark.parametrize("name", [UNSEEN[0], *(pytest.param(n, marks=pytest.mark.long) for n in UNSEEN[1:])])
def test_where_nothing_has_a_gradient_the_default_with_its_checks_breaks_it_without_one(name, tmp_path):
    (found, *_) = judge_entry(name, tmp_path / "run", n=64, draws=2)
    assert found.verdict == "broken"
    assert found.estimate <= 0.1


@pytest.mark.parametrize("name", ["op-softmax", "op-lying-backward", "op-numpy"])
def test_the_default_notices_the_operator_and_breaks_it(name, tmp_path):
    (found, *_) = judge_entry(name, tmp_path / "run", n=128, draws=2)
    assert found.verdict == "broken"


@pytest.mark.long
@pytest.mark.parametrize("name", GOOD)
def test_what_is_robust_keeps_its_accuracy(name, tmp_path):
    attacks = ["relaxed-pgd-20+momentum=1", "square-1000"]
    (found, *_) = judge_entry(name, tmp_path / "run", n=64, attacks=attacks, **QUICK)
    assert found.estimate == pytest.approx(found.truth.low, abs=0.02)
    assert found.sense != "negative"
