"""A defence as attacks may query it: the attacker's draws, answers to groups of batches, failures at
some inputs as NaN; and a defence seen as one of two classes, for targeted attacks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attacks import gradients
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped, reject_class
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import Purpose, stream

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
        if clean is None or gradients.is_machine_fault(error) or _answers_unrecorded(ask, x, draws):
            raise
        # Where a file system stalls, this fails, too; where it has stopped stalling, nothing is lost below.
        with torch.no_grad():
            classes = ask(clean[:1], draws[:1]).shape[-1]
        if independent:
            flat = _halves(lambda part: ask(part[None], draws[:1])[0], x.flatten(0, 1), classes)
            return flat.unflatten(0, x.shape[:2])
        each = (
            _halves(lambda part, draw=draw: ask(part, [draw]), batch, classes)  # type: ignore[misc]
            for batch, draw in zip(x.split(1), draws, strict=True)
        )
        return torch.cat([*each])


def _answers_unrecorded(ask: Ask, x: Tensor, draws: Sequence[Any]) -> bool:
    """True if it is not the inputs at which it fails, but that a graph is recorded."""
    if not x.requires_grad or not torch.is_grad_enabled():
        return False
    try:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            ask(x.detach(), draws)
    except (Exception, SystemExit) as error:
        gradients.raise_machine_fault(error)
        return False
    return True


def _halves(ask: Callable[[Tensor], Tensor], x: Tensor, classes: int) -> Tensor:
    """Logits [n, classes] of n inputs, or [n, K, classes] of n batches: halving locates what it fails at."""
    try:
        return ask(x)
    except (Exception, SystemExit) as error:
        gradients.raise_machine_fault(error)
        if len(x) == 1:
            tie = (0 * x).flatten(-3).sum(-1, keepdim=True)  # so that NaN has a gradient, which is 0
            return torch.full((*x.shape[:-3], classes), torch.nan, device=x.device, dtype=x.dtype) + tie
        middle = len(x) // 2
        return torch.cat([_halves(ask, x[:middle], classes), _halves(ask, x[middle:], classes)])


def draws_of(
    defence: Defence, k: int, seed: int, batches: Sequence[int], purpose: Purpose, index: int
) -> list[Any]:
    """The ``index``-th draw of ``purpose`` for each batch; None each for a deterministic defence."""
    if not defence.randomised:
        return [None] * len(batches)
    return [defence.sample(stream(seed, batch, purpose, index), k) for batch in batches]


def images_of(defence: Defence | torch.nn.Module, k: int, *, victim: bool = False) -> int:
    """Images through the network for one answered batch of ``k``; a module without a say takes ``k``.

    Args:
        victim: for the answer to one input of the batch, where that takes fewer.

    Raises:
        InputError: it says that there are none.
    """
    declared = getattr(defence, "images_at", None) if victim else None
    declared = declared or getattr(defence, "images", None)
    if not callable(declared):
        return k
    images = int(declared(k))
    if images < 1:
        name = getattr(defence, "name", type(defence).__name__)
        raise InputError(f"{name}: images({k}) is {images}; costs are counted in it, so it is at least 1")
    return images


def has_logits_at(defence: Any) -> bool:
    """True if it answers one input of a batch by itself (``Coded.logits_at``)."""
    return callable(getattr(defence, "logits_at", None))


class Target:
    """The defence as an attacker queries it with one group of batches (an ``attacks`` oracle).

    Args:
        defence, k: the defence and its batch size; seed, batches: the names of its draws.
        clean: unperturbed inputs [G, K, C, H, W]. If the defence classifies them but raises an exception at
            perturbed ones, their logits are NaN; None lets the exception through.
        victims: the one position in each batch whose prediction counts; empty if all count.
        dtype: of the inputs that the defence is given; None for that of the query.
    """

    def __init__(
        self,
        defence: Defence,
        k: int,
        seed: int,
        batches: Sequence[int],
        clean: Tensor | None = None,
        victims: Sequence[int] = (),
        dtype: torch.dtype | None = None,
    ):
        self.randomised = defence.randomised
        self.coupled = defence.batch_dependent
        self.independent = not defence.randomised and not defence.batch_dependent
        self.reject = reject_class(defence)
        self._defence = defence
        self._k = k
        self._seed = seed
        self._batches = batches
        self._clean = clean
        self._dtype = dtype
        # What is asked of user code is its whole answer.
        self._victims = victims if clean is None and has_logits_at(defence) else ()

    def draws(self, index: int) -> list[Any]:
        """The attacker's ``index``-th draw for each of the G batches."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "attack", index)

    def only(self, position: int) -> "Target":
        """The same for one of the batches."""
        part = slice(position, position + 1)
        clean = None if self._clean is None else self._clean[part]
        batches, victims = self._batches[part], self._victims[part]
        return Target(self._defence, self._k, self._seed, batches, clean, victims, self._dtype)

    def answer(self, x: Tensor, index: int) -> Tensor:
        """Answers inputs [B, C, H, W] as a batch of B, under the ``index``-th draw for that size."""
        draw = draws_of(self._defence, len(x), self._seed, self._batches, "attack", index)[0]
        return self._defence.logits(x.to(self._dtype or x.dtype), draw)

    def known_draws(self, index: int) -> list[Any]:
        """The ``index``-th scoring draw, for an attacker who knows it."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "scoring", index)

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """Answers x [G, K, C, H, W] with [G, K, classes]; differentiable, where the defence is."""
        answer = partial(
            answers_or_nan, self._query, draws=draws, clean=self._clean, independent=self.independent
        )
        logits = gradients.recorded(answer, x.to(self._dtype or x.dtype))
        # In half precision losses would be, too, and many would tie.
        return logits if logits.dtype == x.dtype else logits.to(torch.promote_types(logits.dtype, x.dtype))

    def _query(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        # A copy: what a defence writes into its input is no business of the attack.
        x = x.clone() if self._clean is not None else x
        if self.independent:  # any inputs in any batch; some of a group's may have been dropped
            # User code is asked no larger batches than it is scored in.
            size = self._k if self._clean is not None else x.shape[0] * x.shape[1]
            parts = [self._defence.logits(part, None) for part in x.flatten(0, 1).split(size)]
            return torch.cat(parts).unflatten(0, x.shape[:2])
        if self._victims:
            return self._answers_of_victims(x, draws)
        return logits_grouped(self._defence, x, draws)

    def _answers_of_victims(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """Logits [G, K, classes], zeros at the positions that nobody asks for."""
        positions = torch.tensor(self._victims, device=x.device).repeat(len(x) // len(self._victims))
        logits = self._defence.logits_at(x, draws, positions)  # type: ignore[attr-defined]
        others = torch.zeros(*x.shape[:2], logits.shape[-1], device=x.device, dtype=logits.dtype)
        return others.index_put((torch.arange(len(x), device=x.device), positions), logits)

    def images(self, x: Tensor) -> int:
        """Images through the network for one forward of x [G, K, ...]."""
        return x.shape[0] * images_of(self._defence, x.shape[1], victim=bool(self._victims))


OTHERS = 0  # the label that all inputs have


class TargetedDefence:
    """A defence whose logits are the largest of the other classes' and the target's, [k, 2].

    Args:
        defence: what is attacked.
        target: index of the wanted class. A rejection counts as one of the others.
        base: its base model; None takes the one that the defence names.
    """

    def __init__(self, defence: Defence, target: int, base: nn.Module | None = None):
        self.defence, self.target = defence, target
        self.name, self.randomised = defence.name, defence.randomised
        self.batch_dependent = defence.batch_dependent
        self.abstain = None
        self.logits_at = self._logits_at if has_logits_at(defence) else None
        base = defence.base if base is None else base
        self.base: nn.Module | None = None if base is None else _Base(base, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["defence"], name)  # images, reset, fit, where it has them

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return self.defence.sample(generator, k)

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        return two_classes(self.defence.logits(x, draw), self.target)

    def logits_grouped(self, x: Tensor, draws: Sequence[Draw]) -> Tensor:
        return two_classes(logits_grouped(self.defence, x, draws), self.target)

    def _logits_at(self, x: Tensor, draws: Sequence[Draw], positions: Tensor) -> Tensor:
        return two_classes(self.defence.logits_at(x, draws, positions), self.target)  # type: ignore[attr-defined]


class _Base(nn.Module):
    def __init__(self, base: nn.Module, target: int):
        super().__init__()
        self.base, self.target = base, target

    def forward(self, x: Tensor) -> Tensor:
        return two_classes(self.base(x), self.target)


def two_classes(logits: Tensor, target: int) -> Tensor:
    """[..., classes] -> [..., 2].

    Raises:
        ValueError: there is no such class.
    """
    classes = logits.shape[-1]
    if not 0 <= target < classes:
        raise ValueError(f"expected targets from 0 to {classes - 1}, got {target}")
    others = torch.cat([logits[..., :target], logits[..., target + 1 :]], -1).amax(-1)
    return torch.stack([others, logits[..., target]], -1)
