"""A defence as attacks may query it: the attacker's draws and answers to groups of batches."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from robustbench_coded.defences.protocol import Defence, logits_grouped
from robustbench_coded.evaluation.streams import Purpose, stream


def draws_of(
    defence: Defence, k: int, seed: int, batches: Sequence[int], purpose: Purpose, index: int
) -> list[Any]:
    """The ``index``-th draw of ``purpose`` for each batch; None each for a deterministic defence."""
    if not defence.randomised:
        return [None] * len(batches)
    return [defence.sample(stream(seed, batch, purpose, index), k) for batch in batches]


def images_of(defence: Defence, k: int) -> int:
    """Images through the network for one answered batch of ``k``."""
    images = getattr(defence, "images", None)
    return int(images(k)) if callable(images) else k


class Target:
    """The defence behind one group of batches, seen from the attacker's side (an ``attacks`` oracle)."""

    def __init__(self, defence: Defence, k: int, seed: int, batches: Sequence[int]):
        self.randomised = defence.randomised
        self.independent = not defence.randomised and not defence.batch_dependent
        self._defence = defence
        self._k = k
        self._seed = seed
        self._batches = batches

    def draws(self, index: int) -> list[Any]:
        """The attacker's ``index``-th draw for each of the G batches."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "attack", index)

    def known_draws(self, index: int) -> list[Any]:
        """The ``index``-th scoring draw, for an attacker who knows it."""
        return draws_of(self._defence, self._k, self._seed, self._batches, "scoring", index)

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """Answers x [G, K, C, H, W] with [G, K, classes]; differentiable."""
        if self.independent:  # any inputs in any company; some of a group's may have been dropped
            return self._defence.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])
        return logits_grouped(self._defence, x, draws)

    def images(self, x: Tensor) -> int:
        """Images through the network for one forward of x [G, K, ...]."""
        return x.shape[0] * images_of(self._defence, x.shape[1])
