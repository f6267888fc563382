"""Builds the solver that an attack names, and the estimator that it queries."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from torch import Tensor

from attacks.attack import AnyAttack, Attack
from attacks.estimators import Bpda, FixedDraw, FreshDraws, KnownDraw, Transfer
from attacks.estimators.averaging import Estimator, Shared
from attacks.losses import BY_NAME
from attacks.objective import Objective
from attacks.oracle import Oracle
from attacks.relaxation import Relaxation
from attacks.solver import Solver


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


def estimator_for(
    attack: AnyAttack,
    oracle: Oracle,
    *,
    base: Callable[[Tensor], Tensor] | None = None,
    known: Sequence[Any] | None = None,
    weights: Tensor | None = None,
    max_images: int = 512,
) -> Estimator:
    """The estimator through which an attack sees the target.

    Args:
        oracle: the target.
        base: ``[B, C, H, W]`` -> ``[B, classes]``, for ``transfer`` and ``bpda``.
        known: the scored draw of each batch, for ``aware``.
        weights: ``[G, K]``, whose losses the attack maximises (``attacks.objective``); None for each slot's
            own.
        max_images: images that one forward may hold.

    Raises:
        ValueError: the attack needs a base model or scored draws that are not given.
    """
    if attack.uses_base and base is None:
        raise ValueError(f"expected a base model for {attack}, got None")
    shared: Shared = {"max_images": max_images, "objective": Objective(weights)}
    estimator: Estimator
    if attack.knows == "transfer":
        assert base is not None
        estimator = Transfer(base, **shared)
    elif attack.knows == "bpda":
        assert base is not None
        estimator = Bpda(oracle, base, draws=attack.draws, **shared)
    elif attack.knows == "aware":
        if known is None:
            raise ValueError(f"expected the scored draws for {attack}, got None")
        estimator = KnownDraw(oracle, known, **shared)
    elif attack.knows == "fixed":
        estimator = FixedDraw(oracle, **shared)
    else:
        estimator = FreshDraws(oracle, draws=attack.draws, **shared)
    estimator.relaxation = Relaxation() if attack.relaxed else None
    return estimator
