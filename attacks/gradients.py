"""Differentiates targets. An exception of the target or of torch means that there is no gradient.

Exceptions that say something about the machine alone (no memory, a fault of the device), or about csrobust,
are told apart.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# torch's CPU allocator, CUDA's libraries and MPS have no exception of their own; nor have lost devices.
_NO_MEMORY = ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED", "MPS backend out of memory")
_FAULTS = ("CUDA error", "DEVICE_LOST")


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out, on the device or on the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY)


def makes_process_unusable(error: BaseException) -> bool:
    """After a fault of CUDA, or a device that is lost, every later call in the process fails."""
    fault = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FAULTS)
    return fault and not is_out_of_memory(error)


OWN_FAULT = "a fault of csrobust, not of the network; please report it"  # a note of such an exception


def is_machine_fault(error: BaseException) -> bool:
    """True if an exception is about the machine alone, or is noted to be a fault of csrobust."""
    own = OWN_FAULT in getattr(error, "__notes__", ())
    return own or is_out_of_memory(error) or makes_process_unusable(error)


def raise_machine_fault(error: BaseException) -> None:
    """Raises ``error`` again where it is about the machine or csrobust: it says nothing about a defence.

    Every place that takes any exception for an answer of a defence begins with this.
    """
    if is_machine_fault(error):
        raise error


class NoGradient(RuntimeError):
    """A gradient was asked for, and there is none.

    Attributes:
        why: a clause, without a full stop.
        raised: whether an exception stopped it; else no graph leads from the answer back to the input.
    """

    def __init__(self, error: Exception | None = None):
        self.raised = error is not None
        self.why = "its answer has no graph back to its input"
        if error is not None:
            reason = " ".join(str(error).split()).partition(". ")[0]
            self.why = f"torch cannot differentiate its answer ({type(error).__name__}: {reason[:160]})"
        super().__init__(
            f"the target has no gradient: {self.why}; relaxed- before an attack's name smooths operators "
            "that cut the graph, and square-1000 needs no gradient"
        )


def recorded(answer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``answer(x)`` with its graph, or without one where it fails only because a graph is recorded.

    Under relaxed operators what is raised goes to ``Relaxation.attempt``, which then relaxes less.

    Raises:
        Exception: what ``answer`` raises without a graph, too.
    """
    relaxing = torch._C._len_torch_function_stack() > 0
    if not x.requires_grad or not torch.is_grad_enabled() or relaxing:
        return answer(x)
    try:
        return answer(x)
    except Exception as error:
        raise_machine_fault(error)
        with torch.no_grad():
            return answer(x.detach())


def gradient(of: Tensor, x: Tensor, *, retain: bool = False) -> Tensor:
    """The gradient of the number ``of``, like the leaf ``x``.

    Args:
        retain: whether the same graph is differentiated once more.
    Raises:
        NoGradient: nothing connects them (a graph that leads to something else, to parameters, is none), or
            torch cannot differentiate what does.
    """
    if not of.requires_grad:
        raise NoGradient
    try:
        (grad,) = torch.autograd.grad(of, x, retain_graph=retain, allow_unused=True)
    except Exception as error:  # the target may bring operators and backward passes of its own
        raise_machine_fault(error)
        raise NoGradient(error) from error
    if grad is None:
        raise NoGradient
    return grad


def gradient_or_zero(of: Tensor, x: Tensor, *, retain: bool = False, strict: bool = False) -> Tensor:
    """The same; 0 where there is none.

    Args:
        strict: let NoGradient through where something was raised.
    """
    try:
        return gradient(of, x, retain=retain)
    except NoGradient as error:
        if strict and error.raised:
            raise
        return torch.zeros_like(x)


def slope(answer: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of the number ``loss(answer(x))``, like ``x``.

    Raises:
        NoGradient: there is none.
    """
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        # A copy: the target may write into its input, which a leaf does not allow.
        return gradient(loss(recorded(answer, leaf.clone())), leaf)
