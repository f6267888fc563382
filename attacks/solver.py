"""The interface of every attack, and how attacks tell which of two results is the better one."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.attack import AnyAttack, Attack
from attacks.estimators import Estimator
from attacks.losses import BY_NAME, margin_loss
from attacks.perturbation_budget import PerturbationBudget


def wide(per_example: Tensor) -> Tensor:
    """``[G, K]`` as ``[G, K, 1, 1, 1]``."""
    return per_example[:, :, None, None, None]


class Problem(NamedTuple):
    """The problem that an attack solves.

    Attributes:
        x: clean inputs ``[G, K, C, H, W]``, floating point, in [0, 1]; not modified.
        y: true classes ``[G, K]``, int64.
        estimator: answers the attack's queries and counts them.
        budget: where the result must lie.
        generators: a CPU generator a batch, for random starts and directions.
        start: another attack's result to continue from, like x, projected first; None for the attack's own
            start.
    """

    x: Tensor
    y: Tensor
    estimator: Estimator
    budget: PerturbationBudget
    generators: Sequence[torch.Generator]
    start: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Searches for perturbations of G batches of K inputs that maximise a loss.

    Attributes:
        early_stop: stop on an example once it is misclassified inside the ball. Only for deterministic
            targets that classify inputs independently; some attacks ignore it (``Algorithm.may_stop``).
    """

    early_stop: bool = False

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """Also the interface of users' own attacks; ``Problem`` explains the arguments."""
        return self.solve(Problem(x, y, estimator, budget, generators, start))

    def solve(self, problem: Problem) -> Tensor:
        """Perturbed inputs like x, inside the budget and the box."""
        raise NotImplementedError


def solver_for(attack: AnyAttack, *, early_stop: bool = False) -> Solver:
    """The solver of an attack's problems; the caller runs its ``init`` and passes the result as ``start``.

    Args:
        early_stop: stop on examples already answered wrongly; only for a deterministic target that answers
            inputs one by one. A transfer attack never stops early: it does not see the target's answers.

    Raises:
        ValueError: it is another package's, which an adapter runs.
    """
    if not isinstance(attack, Attack):
        raise ValueError(f"expected an attack of this package, got {attack}")
    algorithm = attack.declared.written
    assert algorithm.solver is not None
    stated = {part: getattr(attack, part) for part in algorithm.takes}
    given = algorithm.fixed | {part: value for part, value in stated.items() if value is not None}
    if "loss" in signature(algorithm.solver).parameters:
        given["loss"] = BY_NAME[attack.loss or algorithm.loss or "margin"]
    if algorithm.may_stop:
        given["early_stop"] = early_stop and attack.knows != "transfer"
    solver: Solver = algorithm.solver(**given)
    return solver


def better_of(estimator: Estimator, y: Tensor, first: Tensor, second: Tensor, times: int = 1) -> Tensor:
    """For each example the point of the larger margin loss, compared under the same draws.

    Where an answer depends on its batch, points of two batches were never answered together: there the better
    batch is the result.

    Args:
        y: true classes ``[G, K]``.
        first, second: ``[G, K, C, H, W]``;
        times: how often both are asked; the mean loss decides.
    """
    gain = torch.zeros(y.shape, device=y.device)
    for _ in range(times):
        before, after = (estimate.loss for estimate in estimator.compare([first, second], y, margin_loss))
        gain = gain + (after - before)
    return torch.where(wide(larger(estimator, gain, torch.zeros_like(gain))), second, first)


def larger(estimator: Estimator, loss: Tensor, other: Tensor) -> Tensor:
    """``[G, K]``, where ``loss`` ``[G, K]`` is larger than ``other``: by batch where batches are coupled."""
    if estimator.coupled:
        loss, other = (of.mean(1, keepdim=True).expand_as(of) for of in (loss, other))
    return loss > other
