"""From an attack's name to the attack, and to the estimator it asks."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from attacks.apgd import Apgd, ApgdTargeted
from attacks.attack import Attack
from attacks.estimators import Bpda, Collected, EotAuto, Estimator, Fixed, Fresh, Known, Transfer
from attacks.fgsm import Fgsm
from attacks.gmsa import Gmsa
from attacks.losses import BY_NAME
from attacks.naming import AttackName
from attacks.oracle import Oracle
from attacks.pgd import Pgd
from attacks.spsa import Spsa
from attacks.square import Square


def attack_for(name: AttackName, *, drop: bool = False) -> Attack:
    """The attack behind a name of this package.

    Args:
        name: as parsed; its ``init`` is the caller's to run, and to hand over as ``start``.
        drop: stop on examples already answered wrongly; only for a deterministic target that answers inputs
            one by one. A transfer attack never stops, for it does not see the target's answers.

    Raises:
        ValueError: a peer's attack, which an adapter runs.
    """
    if name.peer is not None:
        raise ValueError(f"expected an attack of this package, got {name.text}")
    attack = _algorithm(name, drop=drop and name.estimator != "transfer")
    return Gmsa(attack, name.rounds) if name.estimator in ("gmsaavg", "gmsamin") else attack


def _algorithm(name: AttackName, *, drop: bool) -> Attack:
    if name.algorithm == "fgsm":
        return Fgsm(name.step_size)
    assert name.steps is not None
    if name.algorithm == "pgd":
        return Pgd(name.steps, name.step_size, drop=drop)
    options = dict(name.options)
    if name.algorithm == "apgd-t":
        return ApgdTargeted(name.steps, int(options.get("targets", 9)), drop=drop)
    if name.algorithm in ("apgd-ce", "apgd-dlr"):
        loss = BY_NAME[name.algorithm.removeprefix("apgd-")]
        return Apgd(name.steps, loss, int(options.get("restarts", 1)), drop=drop)
    if name.algorithm == "square":
        return Square(name.steps, drop=drop)
    if name.algorithm == "spsa":
        return Spsa(name.steps, name.step_size)
    raise ValueError(f"expected a known algorithm, got {name.algorithm}")


def estimator_for(
    name: AttackName,
    oracle: Oracle,
    *,
    base: Callable[[Tensor], Tensor] | None = None,
    known: Sequence[Any] | None = None,
    max_images: int = 512,
) -> Estimator:
    """What the attacker of that name sees of the target.

    Args:
        name: as parsed.
        oracle: the target.
        base: ``[B, C, H, W]`` -> ``[B, classes]``, for ``transfer`` and ``bpda``.
        known: the scored draw of each batch, for ``aware``.
        max_images: images that one forward may hold.

    Raises:
        ValueError: the name needs a base or known draws and there are none.
    """
    if name.uses_base and base is None:
        raise ValueError(f"expected a base model for {name.text}, got None")
    if name.estimator == "aware" and known is None:
        raise ValueError(f"expected the scored draws for {name.text}, got None")
    match name.estimator:
        case "transfer":
            assert base is not None
            return Transfer(base, max_images=max_images)
        case "bpda":
            assert base is not None
            return Bpda(oracle, base, draws=name.draws, max_images=max_images)
        case "aware":
            assert known is not None
            return Known(oracle, known, max_images=max_images)
        case "fixed":
            return Fixed(oracle, max_images=max_images)
        case "gmsaavg":
            return Collected(oracle, combine="avg", max_images=max_images)
        case "gmsamin":
            return Collected(oracle, combine="min", max_images=max_images)
        case "eotauto":
            return EotAuto(oracle, max_images=max_images)
        case "fresh":
            return Fresh(oracle, draws=name.draws, max_images=max_images)
