"""Builds the attack that a name describes, and the estimator that the attack queries."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from attacks.attack import Attack
from attacks.attack_name import AttackName
from attacks.catalogue import CATALOGUE
from attacks.estimators import Bpda, FixedDraw, FreshDraws, KnownDraw, Transfer
from attacks.estimators.averaging import Estimator, Shared
from attacks.losses import BY_NAME
from attacks.objective import Objective
from attacks.oracle import Oracle
from attacks.relaxation import Relaxation
from attacks.surrogate import Surrogate, SurrogateTarget


def attack_for(name: AttackName, *, early_stop: bool = False) -> Attack:
    """The attack behind a name of this package.

    Args:
        name: as parsed; the caller runs its ``init`` and passes the result as ``start``.
        early_stop: stop on examples already answered wrongly; only for a deterministic target that answers
            inputs one by one. A transfer or surrogate attack never stops early: it does not see the target's
            answers at its steps.

    Raises:
        ValueError: a third-party attack, which an adapter runs; or one that is no longer run.
    """
    if name.third_party is not None:
        raise ValueError(f"expected an attack of this package, got {name.text}")
    algorithm = CATALOGUE[name.algorithm]
    if not algorithm.module:
        raise ValueError(f"expected an attack that can be run, got {name.text}, which no longer is")
    arguments = algorithm.arguments(name)
    if "loss" in arguments:
        arguments["loss"] = BY_NAME[arguments["loss"]]
    if algorithm.stops_early:
        arguments["early_stop"] = early_stop and name.estimator not in ("transfer", "surrogate")
    attack = getattr(import_module(f"attacks.{algorithm.module}"), algorithm.name)(**arguments)
    return Surrogate(attack) if name.estimator == "surrogate" else attack


def estimator_for(
    name: AttackName,
    oracle: Oracle,
    *,
    base: Callable[[Tensor], Tensor] | None = None,
    known: Sequence[Any] | None = None,
    weights: Tensor | None = None,
    max_images: int = 512,
) -> Estimator:
    """The estimator through which the named attack sees the target.

    Args:
        name: as parsed.
        oracle: the target.
        base: ``[B, C, H, W]`` -> ``[B, classes]``, for ``transfer`` and ``bpda``.
        known: the scored draw of each batch, for ``aware``.
        weights: ``[G, K]``, whose losses the attack maximises (``attacks.objective``); None for each slot's
            own.
        max_images: images that one forward may hold.

    Raises:
        ValueError: the name needs a base model or scored draws that are not given.
    """
    if name.uses_base and base is None:
        raise ValueError(f"expected a base model for {name.text}, got None")
    if name.estimator == "aware" and known is None:
        raise ValueError(f"expected the scored draws for {name.text}, got None")
    shared: Shared = {"max_images": max_images, "objective": Objective(weights)}
    estimator: Estimator
    match name.estimator:
        case "transfer":
            assert base is not None
            estimator = Transfer(base, **shared)
        case "bpda":
            assert base is not None
            estimator = Bpda(oracle, base, draws=name.draws, **shared)
        case "submitted":
            raise ValueError(
                f"expected an attack, got perturbed inputs that were made elsewhere: {name.text}"
            )
        case "surrogate":
            estimator = taught = SurrogateTarget(oracle, draws=name.draws, **shared)
            taught.base = base
        case "aware":
            assert known is not None
            estimator = KnownDraw(oracle, known, **shared)
        case "fixed":
            estimator = FixedDraw(oracle, **shared)
        case "fresh":
            estimator = FreshDraws(oracle, draws=name.draws, **shared)
    estimator.relaxation = Relaxation() if name.relaxed else None
    return estimator
