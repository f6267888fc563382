"""Other threads and processes see nothing of a relaxed attack, and nothing of it is left."""

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from torch import nn

from attacks.accelerator import process_lock
from robustbench_coded import attack
from tests.evaluation.conftest import labelled

ORIGINALS = torch.autograd.grad, torch.autograd.backward, torch.inference_mode.__enter__


class Tripled(torch.autograd.Function):
    """The identity, whose gradient is three times as large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad


class Half(Tripled):
    """The same in the newer form."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    vjp = Tripled.backward
    backward = torch.autograd.Function.backward


OWN = vars(Tripled)["forward"], vars(Tripled)["backward"]


def rounding(x):
    row = 8 * ((15 * Tripled.apply(x[:, 0, 0])).round() / 15 - 0.5).mean(-1)
    return torch.stack([-row, row], 1)


def relaxed(eps):
    return attack(rounding, *labelled(), "relaxed-pgd-5", eps, seed=0)


def as_before():
    now = torch.autograd.grad, torch.autograd.backward, torch.inference_mode.__enter__
    return now == ORIGINALS and (vars(Tripled)["forward"], vars(Tripled)["backward"]) == OWN


def test_attacks_in_four_threads_find_what_they_find_one_by_one():
    sizes = [0.02, 0.05, 0.1, 0.2]
    expected = [relaxed(eps) for eps in sizes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(relaxed, sizes))
    assert all(map(torch.equal, found, expected)) and as_before()
    assert torch.equal(relaxed(0.2), expected[-1]) and len(rounding(expected[-1]).argmax(1).unique()) == 2


def gradients():
    x = torch.ones(2, requires_grad=True)
    loss = (x * x.detach()).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    with torch.inference_mode():
        cut = (2 * x).is_inference()
    tripled, half = (torch.autograd.grad(each.apply(x).sum(), x)[0].tolist() for each in (Tripled, Half))
    return x.grad.tolist(), tripled, half, torch.autograd.grad(x.round().sum(), x)[0].tolist(), cut


def test_a_thread_beside_an_attack_has_the_gradients_of_torch():
    seen = []

    def beside(x):
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(gradients).result())
        return rounding(x)

    attack(beside, *labelled(), "relaxed-pgd-2", 0.1, seed=0)
    assert len(seen) > 2 and all(each == ([1, 1], [3, 3], [3, 3], [0, 0], True) for each in seen)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_left_of_an_attack_that_is_interrupted(error):
    def stops(x):
        if x.requires_grad:
            raise error
        return rounding(x)

    with pytest.raises(error):
        attack(stops, *labelled(), "relaxed-pgd-2", 0.1, seed=0)
    assert as_before()


def test_a_network_may_attack_another_one_whenever_it_is_asked():
    inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def purified(x):
        y = inner(x).argmax(1).detach()
        return inner(x + (attack(inner, x.detach(), y, "pgd-1", 0.02, seed=0) - x).detach())

    x, y = labelled()
    assert (attack(purified, x, y, "relaxed-pgd-2", 0.1, seed=0) - x).abs().max() > 0.05


def test_a_process_that_is_forked_beside_an_attack_waits_for_nobody():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(process_lock().acquire).result()
        child = get_context("fork").Process(target=lambda: os._exit(not process_lock().acquire(timeout=5)))
        child.start()
        child.join()
        pool.submit(process_lock().release).result()
    assert child.exitcode == 0
