"""The algorithms by name, one entry each: naming, registry, checks and reports know an algorithm from here.

A new algorithm is a class in a file of its family and one entry in ``CATALOGUE``. Nothing here needs torch:
what builds an attack is imported when one is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from attacks.attack_name import WITHOUT_GRADIENTS, AttackName, Family


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes:
        words: as reports name it.
        module, name: where its class is.
        arguments: of the class, out of the attack's name, losses by name; ``early_stop`` comes on top.
        options: what may follow a plus sign.
        family: what it asks of the defence.
        draws: fresh draws at each question, unless the name says otherwise.
        sets_step: whether it chooses its step size itself.
        stops_early: whether it may leave examples alone once they are answered wrongly.
        fewest_steps: below which it can't make a move.
        norms: that it knows.
    """

    words: str
    module: str
    name: str
    arguments: Callable[[AttackName], dict[str, Any]]
    options: tuple[str, ...] = ("init",)
    family: Family = "gradient"
    draws: int = 1
    sets_step: bool = True
    stops_early: bool = True
    fewest_steps: int = 1
    norms: tuple[str, ...] = ("linf", "l2", "l1")

    def build(self, attack: AttackName, *, early_stop: bool) -> Any:
        """The attack that the name describes."""
        kind = getattr(import_module(f"attacks.{self.module}"), self.name)
        arguments = self.arguments(attack)
        if "loss" in arguments:
            arguments["loss"] = import_module("attacks.losses").BY_NAME[arguments["loss"]]
        stopping = {"early_stop": early_stop} if self.stops_early else {}
        return kind(**arguments, **stopping)


def _steps(attack: AttackName) -> dict[str, Any]:
    return {"steps": attack.steps}


def _pgd(attack: AttackName) -> dict[str, Any]:
    options = dict(attack.options)
    return {
        "steps": attack.steps,
        "step_size": attack.step_size,
        "loss": options.get("loss", "ce"),
        "momentum": float(options.get("momentum", 0)),
        "restarts": int(options.get("restarts", 1)),
    }


def _apgd(loss: str) -> Callable[[AttackName], dict[str, Any]]:
    return lambda attack: _steps(attack) | {"loss": loss, "restarts": _option(attack, "restarts", 1)}


def _closest(attack: AttackName) -> dict[str, Any]:
    return _steps(attack) | {"closest": _option(attack, "closest", 0)}


def _sparse(*, projected: bool) -> Callable[[AttackName], dict[str, Any]]:
    return lambda attack: (
        _steps(attack) | {"loss": dict(attack.options).get("loss", "ce"), "projected": projected}
    )


def _targeted(targets: int) -> Callable[[AttackName], dict[str, Any]]:
    return lambda attack: _steps(attack) | {"targets": _option(attack, "targets", targets)}


def _option(attack: AttackName, option: str, otherwise: int) -> int:
    return int(dict(attack.options).get(option, otherwise))


# A search compares two points under the same draws; with one draw it would overfit to that draw.
SEARCH_DRAWS = 5
_APGD = ("init", "restarts")
_TARGETS = ("init", "targets")
_DRAWN: dict[str, Any] = {"options": ("init",), "draws": SEARCH_DRAWS}

_CURVED = ("linf", "l2")

CATALOGUE: dict[str, Algorithm] = {
    "aa": Algorithm(
        "Auto-PGD, multi-targeted Auto-PGD and Square, each on what is left", "composite", "aa", _steps
    ),
    "apgd-ce": Algorithm("Auto-PGD on cross-entropy", "apgd", "Apgd", _apgd("ce"), _APGD),
    "apgd-dlr": Algorithm("Auto-PGD on the difference of logits ratio", "apgd", "Apgd", _apgd("dlr"), _APGD),
    "apgd-mt": Algorithm(
        "Auto-PGD on the margin, then multi-targeted",
        "composite",
        "apgd_mt",
        lambda attack: _closest(attack) | _targeted(3)(attack),
        (*_TARGETS, "closest"),
    ),
    "apgd-t": Algorithm("targeted Auto-PGD", "apgd", "ApgdTargeted", _targeted(9), _TARGETS),
    "crossover": Algorithm("results of PGD, recombined", "crossover", "Crossover", _steps, ("init",)),
    "fgsm": Algorithm(
        "FGSM",
        "pgd",
        "Fgsm",
        lambda attack: {"step_size": attack.step_size},
        sets_step=False,
        stops_early=False,
    ),
    "greedy": Algorithm(
        "greedy ascent by few values a step", "subset_ascent", "Greedy", _steps, fewest_steps=2
    ),
    "growing": Algorithm("ascent in growing balls", "subset_ascent", "Growing", _steps, fewest_steps=16),
    "joint": Algorithm(
        "the draws that can be fooled together",
        "joint_draws",
        "JointDraws",
        _steps,
        stops_early=False,
        fewest_steps=7,
    ),
    "parts": Algorithm("ascent in parts of the ball", "subset_ascent", "Parts", _steps, fewest_steps=24),
    "pgd": Algorithm(
        "PGD",
        "composite",
        "restarted_pgd",
        _pgd,
        ("init", "loss", "momentum", "restarts"),
        sets_step=False,
    ),
    "square": Algorithm(
        "Square attack",
        "composite",
        "square",
        _closest,
        ("init", "closest"),
        family="search",
        draws=SEARCH_DRAWS,
    ),
    "switch": Algorithm("smooth moves to jumps of the answer, then ascent", "switch", "Switch", _steps),
    "random": Algorithm(
        "random search",
        "score_based",
        "RandomSearch",
        _steps,
        family="search",
        norms=("linf", "l2", "l1", "l0"),
        **_DRAWN,
    ),
    "sparse-rs": Algorithm(
        "Sparse-RS, random pixels", "sparse", "SparseRs", _steps, family="search", norms=("l0",), **_DRAWN
    ),
    "spgd-u": Algorithm(
        "sparse PGD, unprojected gradients",
        "sparse",
        "SparsePgd",
        _sparse(projected=False),
        ("init", "loss"),
        norms=("l0",),
    ),
    "spgd-p": Algorithm(
        "sparse PGD, projected gradients",
        "sparse",
        "SparsePgd",
        _sparse(projected=True),
        ("init", "loss"),
        norms=("l0",),
    ),
    "sigma-zero": Algorithm(
        "sigma-zero, the fewest pixels",
        "sparse",
        "SigmaZero",
        _steps,
        norms=("l0",),
        family="nearest",
        stops_early=False,
    ),
    "spsa": Algorithm(
        "SPSA",
        "score_based",
        "Spsa",
        lambda attack: _steps(attack) | {"step_size": attack.step_size},
        ("init",),
        family="estimate",
        sets_step=False,
        stops_early=False,
        fewest_steps=32,  # two queries for each of 16 directions
    ),
    "rays": Algorithm(
        "RayS (labels only)", "rays", "Rays", _steps, family="decision", norms=_CURVED, **_DRAWN
    ),
    "hopskipjump": Algorithm(
        "HopSkipJump (labels only)",
        "hopskipjump",
        "HopSkipJump",
        _steps,
        family="decision",
        norms=_CURVED,
        **_DRAWN,
    ),
    "fmn": Algorithm(
        "FMN, the nearest wrong answer",
        "minimum_norm",
        "Fmn",
        _steps,
        norms=_CURVED,
        family="nearest",
        stops_early=False,
    ),
    "pdpgd": Algorithm(
        "PDPGD, the nearest wrong answer",
        "minimum_norm",
        "Pdpgd",
        _steps,
        family="nearest",
        stops_early=False,
    ),
    "ddn": Algorithm(
        "DDN, the nearest wrong answer in l2",
        "minimum_norm",
        "Ddn",
        _steps,
        norms=_CURVED,
        family="nearest",
        stops_early=False,
    ),
}


def refuse_norm(name: AttackName, norm: str) -> None:
    """Raises ValueError where an attack of this package does not know a norm."""
    if name.init is not None:
        refuse_norm(name.init, norm)
    if name.third_party is None and name.algorithm in CATALOGUE:
        known = CATALOGUE[name.algorithm].norms
        if norm not in known:
            others = [other for other, algorithm in CATALOGUE.items() if norm in algorithm.norms]
            instead = "apgd-ce, apgd-t, apgd-mt, pgd, pdpgd, square and random"
            if norm == "l0":
                instead = " and ".join((", ".join(others[:-1]), others[-1]))
            raise ValueError(f"{name.text} knows {' and '.join(known)}; for {norm} there are {instead}")


def of_family(*families: Family) -> tuple[str, ...]:
    """The names of the algorithms of these families."""
    return tuple(name for name, algorithm in CATALOGUE.items() if algorithm.family in families)


SEARCHES = of_family("search")
# They ask for labels, not for scores: of what an attacker may see this is the least.
DECISION_BASED = of_family("decision")
MINIMAL_NORM = of_family("nearest")
BLACK_BOX = of_family(*WITHOUT_GRADIENTS)
