"""What the derivations of the newer entries rest on, each against a search or a planted fault."""

from itertools import product

import pytest
import torch

from robustbench_coded.defences.per_batch import per_batch
from zoo import abstaining, coupled, lying
from zoo import masked_gradients as masked_gradients_module
from zoo.linear import along, pattern, planted_margins
from zoo.registry import ZOO

EPS = 0.05


def sign(known):
    return (2 * (known.y % 2) - 1).view(-1, 1, 1, 1)


def right(known, x):
    with torch.no_grad():
        return per_batch(known.defence).logits(x, None).argmax(1) == known.y


def test_half_of_every_batch_stands_and_nobody_can_play_the_better_half():
    known = coupled.known_half_batch(n=64, eps=EPS, k=64)
    fooled = known.x - 0.8 * EPS * sign(known) * pattern(coupled.FRAGILE)
    ways = [right(known, fooled + way * 0.2 * EPS * pattern(coupled.SIGN)) for way in (1, -1)]
    assert [way.double().mean().item() for way in ways] == [0.5, 0.5]
    assert not (ways[0] & ways[1]).any()
    assert known.truth("batch/unknown").low == known.truth("batch/unknown").high == 0.5


@pytest.mark.parametrize("name", ["half-batch", "ensemble-opposed"])
def test_the_half_that_stands_by_design_is_more_than_a_constant_answer_keeps(name):
    known = ZOO[name].load(64)
    assert known.y.bincount().tolist() == [16] * 4
    assert known.truth("batch/unknown").low == 0.5
    # An attacker gains nothing at the upper bit: there, half a pattern more would be needed.
    for row in (coupled.COARSE, 36):
        upper = (2 * (known.y // 2) - 1).view(-1, 1, 1, 1)
        x = (known.x - 0.99 * EPS * upper * pattern(row)).clamp(0, 1)
        answers = per_batch(known.defence).logits(x, torch.zeros(64, dtype=torch.int64)).argmax(1)
        assert (answers == known.y).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_refit_bounds_hold_for_every_corner(seed, share):
    """Exhaustive: all scores of a batch of seven moved by -eps, 0 or eps."""
    k, model = 7, along(pattern(37))
    generator = torch.Generator().manual_seed(seed)
    distances = EPS * torch.tensor([0.1, 0.3, 1.5, 2.2, 3.0])[torch.randint(5, (k,), generator=generator)]
    x, y = planted_margins(distances, pattern(37), texture=0.05)
    truth = coupled.truths(model, x, y, EPS, k, share)
    scores, signs = model.score(x.double()), 2 * y - 1
    moves = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=k)), dtype=torch.float64)

    def standing(moved):
        return ((moved - share * moved.mean(-1, keepdim=True)) * signs > 0).double()

    assert standing(scores + EPS * moves).mean(1).min() >= truth["batch"].low - 1e-9
    assert standing(scores - EPS * signs).mean() <= truth["batch"].high + 1e-9
    alone = standing(scores - EPS * signs * torch.eye(k, dtype=torch.float64)).diagonal().mean()
    assert truth["victim"].low <= alone <= truth["victim"].high


def test_the_refit_entries_have_exact_truths():
    for name in ("refit-mean", "refit-mean-narrow", "running-mean"):
        for threat in ("batch/unknown", "victim/unknown"):
            truth = ZOO[name].load(256).truth(threat)
            assert truth.low == truth.high


def test_coarse_rounding_answers_alike_all_over_the_ball():
    known = masked_gradients_module.known_coarse_rounding(n=64, eps=0.1)
    generator = torch.Generator().manual_seed(0)
    clean = right(known, known.x)
    for _ in range(20):
        signs = 2 * torch.randint(2, known.x.shape, generator=generator) - 1
        assert torch.equal(right(known, known.x + 0.1 * signs), clean)
    # The model without the rounding falls everywhere.
    fooled = known.x - 0.1 * sign_of_answers(known) * pattern(22)
    assert not torch.equal(right(known, known.x), known.defence.base(fooled).argmax(1) == known.y)
    assert (known.defence.base(fooled).argmax(1) != known.defence.base(known.x).argmax(1)).all()
    with pytest.raises(ValueError, match=r"eps below 0\.125"):
        masked_gradients_module.known_coarse_rounding(n=8, eps=0.2)


def sign_of_answers(known):
    return (2 * known.defence.base(known.x).argmax(1) - 1).view(-1, 1, 1, 1)


def test_gradients_that_are_no_numbers_come_with_answers_that_are():
    known = ZOO["nan-gradient"].load(8)
    x = known.x.clone().requires_grad_()
    logits = known.defence.logits(x, None)
    assert torch.equal(logits, known.defence.answer.model(x))
    assert torch.autograd.grad(logits.sum(), x)[0].isnan().all()


def test_a_memory_protects_whoever_asked_before_and_nobody_after_a_reset():
    protected = ZOO["answer-memory"].load(64)
    fooled = protected.x - 0.1 * sign(protected) * pattern(56)
    assert right(protected, protected.x).all()
    assert right(protected, fooled).all()
    assert not right(ZOO["answer-memory"].load(64), fooled).any()
    for name, stands in (("memory-reset", 0.0), ("memory-false-reset", 1.0)):
        known = ZOO[name].load(64)
        right(known, known.x)
        assert right(known, fooled).double().mean() == stands


def test_what_happens_in_large_batches_alone():
    leak = lying.known_leak(n=64)
    small, large = (leak.defence.logits(leak.x[:k], None)[:16] for k in (16, 32))
    torch.testing.assert_close(large.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), small)
    silent = ZOO["nan-when-unsure"].load(64)
    near = silent.x - 0.5 * silent.defence.answer.model.score(silent.x).view(-1, 1, 1, 1) * pattern(20)
    near = near - 0.5 * silent.defence.answer.model.score(silent.x).view(-1, 1, 1, 1) * pattern(20)
    assert silent.defence.logits(near, None).isnan().all()
    assert silent.defence.logits(near[:16], None).isfinite().all()
    assert silent.defence.logits(silent.x, None).isfinite().all()
    with pytest.raises(ArithmeticError):
        ZOO["raises-when-unsure"].load(64).defence.logits(near, None)
    edits = lying.known_edits(n=64)
    handed = edits.x + 0.01
    edits.defence.logits(handed, None)
    assert torch.equal(handed, (4 * handed).round() / 4)


def test_no_perturbation_crosses_the_band_of_rejection():
    known = abstaining.known_unsure(n=64, eps=0.1)
    answered = known.defence.logits(known.x, None).argmax(1) == known.y
    fooled = known.x - 0.1 * sign(known) * pattern(12)
    answers = known.defence.logits(fooled, None).argmax(1)
    assert answered.any()
    assert ((answers == known.y) | (answers == abstaining.REJECT))[answered].all()
    thinner = abstaining.Unsure(along(pattern(12)), 0.2 * 0.1)  # the planted fault: narrower than eps
    assert (thinner(fooled).argmax(1) == 1 - known.y).any()


def test_the_slope_leads_where_inputs_are_rejected():
    known = abstaining.known_off_manifold(n=64, eps=0.1)
    led = stepped(known, 0.1)
    assert (known.defence.logits(led, None).argmax(1) == abstaining.REJECT).all()


@pytest.mark.parametrize("name", ["edge-only", "off-manifold", "off-grid", "grad-mode", "train-mode"])
def test_what_is_noticed_protects_and_can_be_avoided(name):
    known = ZOO[name].load(64)
    gate = known.defence.answer.noticed
    assert not gate(known.x).any() or name in ("grad-mode", "train-mode")
    with torch.enable_grad():
        led = stepped(known, 0.1) - (0.0005 if name == "off-grid" else 0)
        answers = known.defence.logits(led.requires_grad_(), None).argmax(1)
    assert (answers == known.y).all()  # gradient signs, which notice nothing of the gate, fool nobody
    assert known.truth("batch/unknown").high == 0


def stepped(known, eps):
    x = known.x.clone().requires_grad_()
    logits = known.defence.logits(x, None)
    gap = (
        logits[:, :2].gather(1, known.y[:, None]).sum() - logits[:, :2].gather(1, 1 - known.y[:, None]).sum()
    )
    return (x - eps * torch.autograd.grad(gap, x)[0].sign()).detach().clamp(0, 1)
