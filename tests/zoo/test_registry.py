"""Every entry of the zoo against its own truth: the best perturbation reaches it, and no attack beats it."""

import subprocess
import sys

import pytest
import torch

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.per_batch import per_batch
from robustbench_coded.defences.plugin import build_defence
from robustbench_coded.defences.probe import contradictions, probe
from zoo.attack_aware import CORNERS
from zoo.known import Truth
from zoo.linear import PIXELS, pattern
from zoo.registry import ZOO

THREATS = ("batch/unknown", "batch/known", "victim/unknown")
N = 128
DRAWS = 60
FOUR_SIGMA = (
    4 * 0.5 / (N * DRAWS) ** 0.5
)  # outcomes of a batch and of an example's draws are independent here


def sign(known):
    """Of the lower bit: where there are four classes, the upper one cannot be turned."""
    return (2 * (known.y % 2) - 1).view(-1, 1, 1, 1)


def straight(row):
    """The perturbation against the margin of a model along one pattern, of the budget's full size."""

    def perturb(known, entry):
        size = entry.eps if entry.norm == "linf" else entry.eps / PIXELS**0.5
        return (known.x - size * sign(known) * pattern(row)).clamp(0, 1)

    return perturb


def against_one_member(known, entry):
    # Opposed members: the perturbation that fools the first raises the second.
    return known.x - entry.eps * sign(known) * (pattern(11) + 3 * pattern(22)).sign()


def hidden(known, entry):
    return known.x + entry.eps * pattern(28)


def around_the_corners(known, entry):
    x = straight(35)(known, entry)
    x.flatten(1)[:, CORNERS] = known.x.flatten(1)[:, CORNERS]
    return x


def of_eight_bits(row):
    def perturb(known, entry):
        steps = int(255 * entry.eps) * sign(known) * pattern(row)
        return (known.x * 255 - steps).round().clamp(0, 255) / 255

    return perturb


# The pattern along which the best perturbation of an entry goes, as its derivation gives it.
PATTERNS = {
    9: "coin-flip",
    10: "wrong-base-weak wrong-base-strong",
    12: "abstain-unsure abstain-always abstain-off-manifold",
    13: "ensemble-decoys",
    18: "noise-wide noise-narrow",
    19: "alternating",
    20: "says-randomised hidden-noise nan-when-unsure raises-when-unsure edits-input",
    22: "coarse-rounding",
    27: "median-of-noise",
    34: "sampling-module",
    35: "edge-wide off-manifold grad-mode call-count",
    37: "refit-mean refit-mean-narrow",
    38: "running-mean",
    40: "half-batch",
    41: "heavy-noise random-slope",
    45: "rci-linear rci-linear-wide",
    54: "label-leak leak-above-16",
    56: "answer-memory memory-reset memory-false-reset",
    63: "rounding saturated misleading-gradient shattered nan-gradient "
    "lifted saturated-wide shattered-wide one-hot-wide",
}
# The best perturbation under batch/unknown.
OPTIMAL = {
    **{name: straight(row) for row, names in PATTERNS.items() for name in names.split()},
    **{name: straight(63) for name, entry in ZOO.items() if entry.family == "operators"},
    "hidden-direction": hidden,
    "ensemble-opposed": against_one_member,
    "constant": lambda known, entry: (known.x + entry.eps).clamp(0, 1),
    "edge-only": around_the_corners,
    "off-grid": of_eight_bits(35),
    "abstain-off-grid": of_eight_bits(12),
}


# Torch has no gradient for them; tests/zoo/test_operators.py attacks them.
WITHOUT_GRADIENT = ("op-bit-depth-wide", "op-top-k-wide", "op-bernoulli-wide", "op-gumbel-wide")
# Asked for the first time: whatever has been asked before was of another defence.
FRESH = ("answer-memory", "memory-false-reset")
# What contradicts its own declaration, or is found out by asking enough.
SUSPECT = ("lying", "stateful", "attack-aware")


@pytest.fixture(scope="module")
def loaded():
    return {name: entry.load(N) for name, entry in ZOO.items()}


def accuracy(known, x):
    """Under the protocol, and as rejections count: the answer to the clean input takes their place."""
    defence, reject = per_batch(known.defence), getattr(known.defence, "abstain", None)
    generator = torch.Generator().manual_seed(0)
    right = []
    with torch.no_grad():
        for _ in range(DRAWS if defence.randomised else 1):
            draw = defence.sample(generator, N)
            found = defence.logits(x.clone(), draw).argmax(1)
            if reject is not None:
                clean = defence.logits(known.x, draw).argmax(1)
                found = torch.where((found == reject) | (clean == reject), clean, found)
            right.append(found == known.y)
    return torch.stack(right).double().mean().item()


def test_every_family_has_broken_entries_and_good_ones():
    broken, good = ({entry.family for entry in ZOO.values() if entry.broken == b} for b in (True, False))
    assert broken == good


def test_names_need_no_torch():
    code = "import sys; from zoo.registry import ZOO; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("name", ZOO)
def test_an_entry_is_what_the_tables_say(name, loaded):
    entry, known = ZOO[name], loaded[name]
    assert known.defence.name == name == parse_defence(name).label
    assert build_defence(name, torch.nn.Identity(), 8).name == name
    assert known.x.shape == (N, 1, 8, 8)
    assert known.x.dtype == torch.float32
    of_digits = entry.source.startswith(("trained", "encodings")) or name == "coarse-rounding"
    levels = 16 if of_digits else 255
    torch.testing.assert_close(known.x * levels, (known.x * levels).round(), atol=1e-4, rtol=0)
    assert ((known.x >= 0) & (known.x <= 1)).all()
    if not entry.broken or entry.family not in SUSPECT:
        defence = per_batch(known.defence)
        result = probe(defence, known.x[:16], torch.Generator().manual_seed(0))
        assert contradictions(defence, result) == []
    robust = {threat: known.truth(threat) for threat in THREATS}
    assert robust["batch/known"].low <= robust["batch/unknown"].high
    assert robust["batch/unknown"].low <= robust["victim/unknown"].high
    assert robust["batch/unknown"].high <= known.clean.high
    if entry.broken and known.beside is None and name != "constant":
        # A constant answer keeps a quarter of the ensembles' four classes.
        floor = 0.25 if entry.family == "random ensembles" else 0.05
        assert robust["batch/unknown"].high <= floor


@pytest.mark.parametrize("name", ZOO)
def test_clean_accuracy_is_the_one_derived(name, loaded):
    known = loaded[name]
    assert known.clean.low - FOUR_SIGMA <= accuracy(known, known.x) <= known.clean.high + FOUR_SIGMA


@pytest.mark.parametrize("name", OPTIMAL)
def test_the_best_perturbation_reaches_the_truth(name, loaded):
    entry, known = ZOO[name], loaded[name]
    if name in FRESH:
        known = entry.load(N)
    x = OPTIMAL[name](known, entry)
    assert (x - known.x).abs().max() <= entry.eps + 1e-6
    assert ((x >= 0) & (x <= 1)).all()
    truth = known.truth("batch/unknown")
    assert truth.low - FOUR_SIGMA <= accuracy(known, x) <= truth.high + FOUR_SIGMA


@pytest.mark.parametrize(
    "name", [name for name, entry in ZOO.items() if not entry.broken and name not in WITHOUT_GRADIENT]
)
def test_no_attack_beats_the_truth(name, loaded):
    """Steps along the gradient averaged over draws, from the defence and from its base."""
    entry, known = ZOO[name], loaded[name]
    defence, generator = per_batch(known.defence), torch.Generator().manual_seed(1)

    def by_defence(x):
        draws = [defence.sample(generator, N) for _ in range(4 if defence.randomised else 1)]
        return torch.stack([defence.logits(x, draw) for draw in draws])

    targets = [by_defence]
    if defence.base is not None:
        targets.append(lambda x: defence.base(x)[None])
    for target in targets:
        x = known.x
        for _ in range(12):
            x = x.detach().requires_grad_()
            logits = target(x)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), known.y.repeat(len(logits)))
            x = step(entry, x.detach(), torch.autograd.grad(loss, x)[0], known.x)
        assert accuracy(known, x) >= known.truth("batch/unknown").low - FOUR_SIGMA


def step(entry, x, grad, x0):
    if entry.norm == "linf":
        return (x + entry.eps / 4 * grad.sign()).clamp(x0 - entry.eps, x0 + entry.eps).clamp(0, 1)
    unit = grad / grad.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    moved = x + entry.eps / 4 * unit - x0
    size = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (x0 + moved * (entry.eps / size.clamp(min=entry.eps))).clamp(0, 1)


def test_truths_out_of_order_are_refused():
    with pytest.raises(ValueError, match="low <= high"):
        Truth(0.6, 0.5)
