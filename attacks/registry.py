"""Builds the attack that a name describes, and the estimator that the attack queries."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from attacks.apgd import Apgd, ApgdTargeted
from attacks.apgd_mt import ApgdMultiTargeted
from attacks.attack import Attack
from attacks.carlini_wagner import CarliniWagner
from attacks.ddn import Ddn
from attacks.estimators import Bpda, CollectedDraws, EotAuto, FixedDraw, FreshDraws, KnownDraw, Transfer
from attacks.estimators.averaging import AveragingEstimator
from attacks.fgsm import Fgsm
from attacks.fmn import Fmn
from attacks.gmsa import Gmsa
from attacks.hopskipjump import HopSkipJump
from attacks.losses import BY_NAME
from attacks.naming import MINIMAL_NORM, AttackName
from attacks.objective import GradientMode, Objective
from attacks.oracle import Oracle
from attacks.pgd import Pgd
from attacks.random_search import RandomSearch
from attacks.rays import Rays
from attacks.relaxation import Relaxation
from attacks.restarts import Restarts
from attacks.spsa import Spsa
from attacks.square import Square


class _Shared(TypedDict):
    max_images: int
    objective: Objective


def attack_for(name: AttackName, *, early_stop: bool = False) -> Attack:
    """The attack behind a name of this package.

    Args:
        name: as parsed; the caller runs its ``init`` and passes the result as ``start``.
        early_stop: stop on examples already answered wrongly; only for a deterministic target that answers
            inputs one by one. A transfer attack never stops early: it does not see the target's answers.

    Raises:
        ValueError: a third-party attack, which an adapter runs.
    """
    if name.third_party is not None:
        raise ValueError(f"expected an attack of this package, got {name.text}")
    attack = _algorithm(name, early_stop=early_stop and name.estimator != "transfer")
    return Gmsa(attack, name.rounds) if name.estimator in ("gmsaavg", "gmsamin") else attack


def _algorithm(name: AttackName, *, early_stop: bool) -> Attack:
    if name.algorithm == "fgsm":
        return Fgsm(name.step_size)
    assert name.steps is not None
    options = dict(name.options)
    if name.algorithm == "pgd":
        pgd = Pgd(
            name.steps,
            name.step_size,
            BY_NAME[options.get("loss", "ce")],
            early_stop=early_stop,
            momentum=float(options.get("momentum", 0)),
        )
        restarts = int(options.get("restarts", 1))
        return Restarts(pgd, restarts, early_stop=early_stop) if restarts > 1 else pgd
    if name.algorithm == "apgd-mt":
        return ApgdMultiTargeted(name.steps, int(options.get("targets", 3)), early_stop=early_stop)
    if name.algorithm == "apgd-t":
        return ApgdTargeted(name.steps, int(options.get("targets", 9)), early_stop=early_stop)
    if name.algorithm in ("apgd-ce", "apgd-dlr"):
        loss = BY_NAME[name.algorithm.removeprefix("apgd-")]
        return Apgd(name.steps, loss, int(options.get("restarts", 1)), early_stop=early_stop)
    if name.algorithm == "square":
        return Square(name.steps, early_stop=early_stop)
    if name.algorithm == "random":
        return RandomSearch(name.steps, early_stop=early_stop)
    if name.algorithm in MINIMAL_NORM:
        kinds: dict[str, Callable[[int], Attack]] = {"fmn": Fmn, "ddn": Ddn, "cw": CarliniWagner}
        return kinds[name.algorithm](name.steps)
    if name.algorithm == "rays":
        return Rays(name.steps, early_stop=early_stop)
    if name.algorithm == "hopskipjump":
        return HopSkipJump(name.steps, early_stop=early_stop)
    if name.algorithm == "spsa":
        return Spsa(name.steps, name.step_size)
    raise ValueError(f"expected a known algorithm, got {name.algorithm}")


def estimator_for(
    name: AttackName,
    oracle: Oracle,
    *,
    base: Callable[[Tensor], Tensor] | None = None,
    known: Sequence[Any] | None = None,
    weights: Tensor | None = None,
    generators: Sequence[torch.Generator] | None = None,
    max_images: int = 512,
    query_budget: int | None = None,
) -> AveragingEstimator:
    """The estimator through which the named attack sees the target.

    Args:
        name: as parsed.
        oracle: the target.
        base: ``[B, C, H, W]`` -> ``[B, classes]``, for ``transfer`` and ``bpda``.
        known: the scored draw of each batch, for ``aware``.
        weights: ``[G, K]``, whose losses the attack maximises (``attacks.roles``); None for each slot's own.
        generators: a CPU generator a batch, for the option ``own=signs``.
        max_images: images that one forward may hold.
        query_budget: images that may be forwarded and differentiated, in total; then the attack ends with
            what it has.

    Raises:
        ValueError: the name needs a base model or scored draws that are not given.
    """
    if name.uses_base and base is None:
        raise ValueError(f"expected a base model for {name.text}, got None")
    if name.estimator == "aware" and known is None:
        raise ValueError(f"expected the scored draws for {name.text}, got None")
    mode: GradientMode = dict(name.options).get("own", "summed")  # type: ignore[assignment]
    shared: _Shared = {"max_images": max_images, "objective": Objective(weights, mode, generators)}
    estimator = _estimator(name, oracle, base, known, shared)
    estimator.query_budget = query_budget
    estimator.relaxation = Relaxation() if name.relaxed else None
    return estimator


def _estimator(
    name: AttackName,
    oracle: Oracle,
    base: Callable[[Tensor], Tensor] | None,
    known: Sequence[Any] | None,
    shared: _Shared,
) -> AveragingEstimator:
    match name.estimator:
        case "transfer":
            assert base is not None
            return Transfer(base, **shared)
        case "bpda":
            assert base is not None
            return Bpda(oracle, base, draws=name.draws, **shared)
        case "aware":
            assert known is not None
            return KnownDraw(oracle, known, **shared)
        case "fixed":
            return FixedDraw(oracle, **shared)
        case "gmsaavg":
            return CollectedDraws(oracle, combine="avg", **shared)
        case "gmsamin":
            return CollectedDraws(oracle, combine="min", **shared)
        case "eotauto":
            return EotAuto(oracle, **shared)
        case "fresh":
            return FreshDraws(oracle, draws=name.draws, **shared)
