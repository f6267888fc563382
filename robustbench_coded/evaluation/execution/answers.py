"""Answers of a defence that may fail at some inputs: what it raises becomes NaN for those inputs alone."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from attacks.gradients import is_machine_fault

Ask = Callable[[Tensor, Sequence[Any]], Tensor]  # x [B, K, C, H, W], B draws -> logits [B, K, classes]


def answers_or_nan(
    ask: Ask, x: Tensor, draws: Sequence[Any], clean: Tensor | None, *, independent: bool
) -> Tensor:
    """Logits [B, K, classes], NaN where the defence raises an exception; differentiable.

    Where answers depend on the batch or on a draw for it, the whole batch fails together.

    Args:
        ask: the defence.
        x: perturbed inputs [B, K, C, H, W].
        draws: one for each of the B batches.
        clean: unperturbed inputs of the same shape of batches, which it must answer: if it does not, the
            exception is not about perturbed inputs. None raises it in any case.
        independent: whether inputs are answered one by one.
    Raises:
        Exception: what the defence raised, if it raises it at clean inputs, too, if it answers where no graph
            is recorded, or if the machine is at fault.
    """
    try:
        return ask(x, draws)
    except (Exception, SystemExit) as error:
        if clean is None or is_machine_fault(error) or _answers_unrecorded(ask, x, draws):
            raise
        # Where a file system stalls, this fails, too; where it has stopped stalling, nothing is lost below.
        with torch.no_grad():
            classes = ask(clean[:1], draws[:1]).shape[-1]
        if independent:
            flat = _halves(lambda part: ask(part[None], draws[:1])[0], x.flatten(0, 1), classes)
            return flat.unflatten(0, x.shape[:2])
        return torch.cat([_whole(ask, x[i : i + 1], draws[i : i + 1], classes) for i in range(len(x))])


def _answers_unrecorded(ask: Ask, x: Tensor, draws: Sequence[Any]) -> bool:
    """Whether it is not the inputs at which it fails, but that a graph is recorded."""
    if not x.requires_grad or not torch.is_grad_enabled():
        return False
    with torch._C.DisableTorchFunction(), torch.no_grad(), suppress(Exception, SystemExit):
        ask(x.detach(), draws)
        return True
    return False


def _halves(ask: Callable[[Tensor], Tensor], x: Tensor, classes: int) -> Tensor:
    """Logits [n, classes] of inputs [n, C, H, W]: those at which it fails are found by halving."""
    try:
        return ask(x)
    except (Exception, SystemExit):
        if len(x) == 1:
            return _nothing(x, classes)
        middle = len(x) // 2
        return torch.cat([_halves(ask, x[:middle], classes), _halves(ask, x[middle:], classes)])


def _whole(ask: Ask, x: Tensor, draws: Sequence[Any], classes: int) -> Tensor:
    try:
        return ask(x, draws)
    except (Exception, SystemExit):
        return _nothing(x, classes)


def _nothing(x: Tensor, classes: int) -> Tensor:
    """NaN for every input x [..., C, H, W], tied to ``x`` by a gradient of 0."""
    tie = (0 * x).flatten(-3).sum(-1, keepdim=True)
    return torch.full((*x.shape[:-3], classes), torch.nan, device=x.device, dtype=x.dtype) + tie


class BaseOrNan(nn.Module):
    """A user's base model; NaN for inputs at which it raises an exception, which lead an attack nowhere.

    Args:
        base: [B, C, H, W] -> [B, classes].
        clean: unperturbed inputs [n, C, H, W], which it must answer.
    """

    def __init__(self, base: nn.Module, clean: Tensor):
        super().__init__()
        self.base, self.clean = base, clean

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, classes]"""
        return answers_or_nan(self._asked, x[None], [None], self.clean[None], independent=True)[0]

    def _asked(self, x: Tensor, _: Sequence[Any]) -> Tensor:
        return self.base(x.flatten(0, 1)).unflatten(0, x.shape[:2])
