"""Settings that a public call makes and restores: torch's defaults, networks and random numbers.

Some of them belong to the process, so that one thread at a time is within such a call (``process_lock``).
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from attacks.accelerator import process_lock, random_states_kept
from robustbench_coded.models.in_memory import networks_in
from robustbench_coded.threads import subnormals_flushed

P = ParamSpec("P")
R = TypeVar("R")

NETWORKS = ("model", "models", "defences", "base")  # arguments that hold networks, beside the first one
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def guarded(call: Callable[P, R]) -> Callable[P, R]:
    """``call`` under `torch_defaults` in any context, after which the caller's state is as before.

    Kept are, of every network among the arguments: modes, buffers, hooks and gradients; and the global random
    generators of torch, numpy and Python, the number of threads, whether subnormal numbers are flushed, and
    the grad mode. Parameters that a defence itself updates are not copied.
    """

    @wraps(call)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        networks = networks_in([*args[:1], *(kwargs.get(name) for name in NETWORKS)])
        for network in networks:
            _warn_of_parts_in_training(network)
        with torch_defaults(), _process_restored(), networks_restored(networks):
            return call(*args, **kwargs)

    return within


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Gradients, float32, the CPU and no autocast by default, as in a new process; put back afterwards."""
    with process_lock(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as outer:
        dtype, accelerator = torch.get_default_dtype(), torch.accelerator.current_accelerator()
        for kind in ("cpu", *([] if accelerator is None else [accelerator.type])):
            if torch.is_autocast_enabled(kind):
                outer.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # entered, it slows every call of torch
            outer.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def _process_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        with random_states_kept(), subnormals_flushed():
            yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def networks_restored(networks: list[nn.Module]) -> Iterator[None]:
    """Afterwards their modes, hooks, buffers and gradients are as before."""
    modules = {id(module): module for network in networks for module in network.modules()}.values()
    modes = [(module, module.training) for module in modules]
    hooks = [(stored, dict(stored)) for module, _ in modes for stored in (getattr(module, h) for h in HOOKS)]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module, _ in modes
        for name, buffer in module._buffers.items()
    ]
    weights = [
        (weight, weight.requires_grad, weight.grad, None if weight.grad is None else weight.grad.clone())
        for network in networks
        for weight in network.parameters()
    ]
    try:
        yield
    finally:
        with torch.inference_mode():  # where tensors made under inference_mode can be written, too
            for module, name, buffer, content in buffers:
                module._buffers[name] = buffer
                if buffer is not None and content is not None and not torch.equal(buffer, content):
                    buffer.copy_(content)
            for _, _, grad, content in weights:
                if grad is not None and content is not None and not torch.equal(grad, content):
                    grad.copy_(content)
        for weight, requires, grad, _ in weights:
            weight.grad = grad
            if weight.requires_grad != requires:
                weight.requires_grad_(requires)
        for stored, before in hooks:
            stored.clear()
            stored.update(before)
        for module, training in modes:
            module.training = training


def _warn_of_parts_in_training(network: nn.Module) -> None:
    if network.training:
        return
    parts = [f"{name} ({type(part).__name__})" for name, part in network.named_modules() if part.training]
    if parts:
        warnings.warn(
            f"in training mode within a {type(network).__name__} in evaluation mode: {', '.join(parts[:3])}; "
            "call eval() unless this is the defence",
            stacklevel=_outside(),
        )


def _outside() -> int:
    """How many calls above whoever asks the caller's own code begins: where a warning points to."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("robustbench_coded."):
        frame, level = frame.f_back, level + 1
    return level
