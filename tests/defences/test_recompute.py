"""A chain of steps that is computed again: the loop's values, gradients and draws, in less memory."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from robustbench_coded import recompute

WIDTH = 64


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, WIDTH, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(WIDTH, 1, 3, padding=1)
    )


def noisy(net):
    """A step that draws from the global generator and depends on its time."""
    return lambda x, t: x + 0.1 * net(x) / (1 + t) + 0.01 * torch.randn_like(x)


def loop(step, x, times):
    for t in range(times):
        x = step(x, t)
    return x


def found(chain, times):
    """The answer, its gradient in x and in the first weights, and the generator's state afterwards."""
    net, x = network(), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.manual_seed(7)
    answer = chain(noisy(net), x, times)
    slopes = torch.autograd.grad(answer.square().sum(), [x, net[0].weight])
    return [answer.detach(), *slopes, torch.get_rng_state()]


@pytest.mark.parametrize("times", [0, 1, 2, 10, 23])
def test_values_gradients_and_draws_are_the_loops_to_the_last_bit(times):
    if not times:
        x = torch.rand(1, 1, 2, 2)
        assert recompute(noisy(network()), x, 0) is x
        return
    assert all(map(torch.equal, found(recompute, times), found(loop, times)))


def kept(chain, times):
    """Bytes that autograd keeps of the forward pass, every storage once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    net, x = network(), torch.rand(2, 1, 8, 8).requires_grad_()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = chain(noisy(net), x, times)
    assert answer.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def test_a_hundred_steps_keep_ten_images_and_no_activations():
    image = 2 * 8 * 8 * 4
    assert kept(recompute, 100) <= 10 * image < WIDTH * image < kept(loop, 10)


def test_steps_run_once_and_keep_nothing_where_no_gradient_is_asked_for():
    seen = []
    answer = recompute(lambda x, t: seen.append(t) or t * x, torch.ones(2), [2, 3, 4])
    assert answer.tolist() == [24.0, 24.0] and seen == [2, 3, 4] and not answer.requires_grad
