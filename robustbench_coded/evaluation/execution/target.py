"""A defence as attacks may query it: the attacker's draws and answers to groups of batches."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attacks.adapters.third_party import ThirdPartyView
from attacks.gradients import recorded
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.defences.protocol import Defence, logits_grouped, reject_class
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.answers import answers_or_nan
from robustbench_coded.evaluation.planning.streams import Purpose, stream


def draws_of(
    defence: Defence, k: int, seed: int, batches: Sequence[int], purpose: Purpose, index: int
) -> list[Any]:
    """The ``index``-th draw of ``purpose`` for each batch; None each for a deterministic defence."""
    if not defence.randomised:
        return [None] * len(batches)
    return [defence.sample(stream(seed, batch, purpose, index), k) for batch in batches]


def says_images(defence: Defence | torch.nn.Module) -> bool:
    """Whether it says how many images it forwards through the network."""
    return callable(getattr(defence, "images", None))


def images_of(defence: Defence | torch.nn.Module, k: int) -> int:
    """Images through the network for one answered batch of ``k``; a module without a say takes ``k``.

    Raises:
        InputError: it says that there are none.
    """
    if not says_images(defence):
        return k
    images = int(defence.images(k))  # type: ignore[union-attr, operator]
    if images < 1:
        name = getattr(defence, "name", type(defence).__name__)
        raise InputError(f"{name}: images({k}) is {images}; costs are counted in it, so it is at least 1")
    return images


class Target:
    """The defence behind one group of batches, seen from the attacker's side (an ``attacks`` oracle).

    Args:
        defence, k, seed, batches: who answers batches of which size, and what names its draws.
        clean: unperturbed inputs [G, K, C, H, W]. Where the defence answers them but raises an exception at
            perturbed ones, the answer to these is NaN; None lets the exception through.
    """

    def __init__(
        self, defence: Defence, k: int, seed: int, batches: Sequence[int], clean: Tensor | None = None
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

    def draws(self, index: int) -> list[Any]:
        """The attacker's ``index``-th draw for each of the G batches."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "attack", index)

    def only(self, position: int) -> "Target":
        """The same for one of the batches."""
        clean = None if self._clean is None else self._clean[position : position + 1]
        return Target(self._defence, self._k, self._seed, [self._batches[position]], clean)

    def answer(self, x: Tensor, index: int) -> Tensor:
        """Answers inputs [B, C, H, W] as a batch of B, under the ``index``-th draw for that size."""
        draw = draws_of(self._defence, len(x), self._seed, self._batches, "attack", index)[0]
        return self._defence.logits(x, draw)

    def known_draws(self, index: int) -> list[Any]:
        """The ``index``-th scoring draw, for an attacker who knows it."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "scoring", index)

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """Answers x [G, K, C, H, W] with [G, K, classes]; differentiable, where the defence is."""

        def answer(x: Tensor) -> Tensor:
            return answers_or_nan(self._asked, x, draws, self._clean, independent=self.independent)

        return recorded(answer, x)

    def _asked(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        # A copy: what a defence writes into its input is no business of the attack.
        x = x.clone() if self._clean is not None else x
        if self.independent:  # any inputs in any batch; some of a group's may have been dropped
            return self._defence.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])
        return logits_grouped(self._defence, x, draws)

    def images(self, x: Tensor) -> int:
        """Images through the network for one forward of x [G, K, ...]."""
        return x.shape[0] * images_of(self._defence, x.shape[1])


class RawView(ThirdPartyView):
    """One batch's defence as it comes: whatever inputs an attack shows together are answered together.

    An attack that goes on with the survivors alone then attacks other batches than the one that is scored.

    Args:
        target, x, budget, query_budget, y: as in ``attacks.adapters.third_party.ThirdPartyView``.
    """

    def __init__(
        self,
        target: Target,
        x: Tensor,
        budget: PerturbationBudget,
        query_budget: int | None = None,
        y: Tensor | None = None,
    ):
        super().__init__(target, x, budget, query_budget, y)
        self._target = target

    def forward(self, x: Tensor) -> Tensor:
        # Where the attack may be stopped, what it showed last in each slot is its result.
        return super().forward(x) if self.limited else self._as_it_comes(x)

    def _answer(self, x: Tensor, rounds: Tensor, slots: Tensor) -> Tensor:
        return self._as_it_comes(x)

    def _as_it_comes(self, x: Tensor) -> Tensor:
        images = self._target.images(x[None])
        self._pay(images, x)
        logits = self._target.answer(x, self._calls)
        self._calls += 1
        return self._counted(logits, images)
