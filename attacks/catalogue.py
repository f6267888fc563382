"""The algorithms by name, one entry each: all others ask the entry, and name no algorithm.

A new algorithm is a class in a file of its family and one entry in ``CATALOGUE``. Nothing here needs torch:
what builds an attack, or counts its queries, is imported when asked for. Other packages' attacks are at the
end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

from attacks.attack_name import WITHOUT_GRADIENTS, AttackName, Traits


class Cost(NamedTuple):
    """Forwards and backwards of each input, about."""

    forwards: float
    backwards: float


GRADIENT, QUERY = Cost(1, 1), Cost(1, 0)


def _late(path: str) -> Callable[..., Any]:
    """A function of this package by ``module.name``, imported when it is called."""
    module, _, name = path.rpartition(".")
    return lambda *arguments: getattr(import_module(f"attacks.{module}"), name)(*arguments)


@dataclass(frozen=True)
class Algorithm(Traits):
    """One algorithm.

    Attributes:
        words: as reports name it.
        module, name: where its class is; '' of what is in committed runs, and no longer run: it broke nothing
            alone.
        arguments: of the class, out of the attack's name, losses by name; ``early_stop`` comes on top.
        options: what may follow a plus sign.
        cost: of one step, which restarts repeat; or (attack, whether answers are random) -> cost of it all.
        step_size: (eps, steps) -> its step size where the name states none, in units of eps's space; None
            where no such size is reported.
        draws: fresh draws at each question, unless the name says otherwise.
        sets_step: whether it chooses its step size itself.
        stops_early: whether it may leave examples alone once they are answered wrongly.
        takes_steps: whether its name says how many steps or queries it makes.
        fewest_steps: below which it can't make a move.
        norms: that it knows.
    """

    words: str
    module: str
    name: str
    arguments: Callable[[AttackName], dict[str, Any]]
    options: tuple[str, ...] = ("init",)
    cost: Cost | Callable[[AttackName, bool], Cost] = GRADIENT
    step_size: Callable[[float, int], float] | None = None
    draws: int = 1
    sets_step: bool = True
    stops_early: bool = True
    takes_steps: bool = True
    fewest_steps: int = 1
    norms: tuple[str, ...] = ("linf", "l2", "l1")

    def queries(self, attack: AttackName, *, randomised: bool) -> Cost:
        """Forwards and backwards of each input with one draw a query; a start from another attack aside.

        Args:
            randomised: whether the defence's answers are random.
        """
        if not isinstance(self.cost, Cost):
            return self.cost(attack, randomised)
        steps = (attack.steps or 1) * _option(attack, "restarts", 1)
        return Cost(steps * self.cost.forwards, steps * self.cost.backwards)


TARGETS, MT_TARGETS = 9, 3  # of a targeted attack whose name does not say, on as many classes or more


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


def _sparse(*, projected: bool) -> Callable[[AttackName], dict[str, Any]]:
    return lambda attack: (
        _steps(attack) | {"loss": dict(attack.options).get("loss", "ce"), "projected": projected}
    )


def _targeted(targets: int) -> Callable[[AttackName], dict[str, Any]]:
    return lambda attack: _steps(attack) | {"targets": _option(attack, "targets", targets)}


def _runs(targets: int, before: int = 0) -> Callable[[AttackName, bool], Cost]:
    """The cost of a run for each target, and of so many before them."""

    def cost(attack: AttackName, randomised: bool) -> Cost:
        steps = (attack.steps or 1) * (before + _option(attack, "targets", targets))
        return Cost(steps, steps)

    return cost


def _option(attack: AttackName, option: str, otherwise: int) -> int:
    return int(dict(attack.options).get(option, otherwise))


# A search compares two points under the same draws; with one draw it would overfit to that draw.
SEARCH_DRAWS = 5


_APGD = ("init", "restarts")
_TARGETS = ("init", "targets")
_DRAWN: dict[str, Any] = {"options": ("init",), "draws": SEARCH_DRAWS, "cost": QUERY}

_CURVED = ("linf", "l2")
_GRADED = (*_CURVED, "l1")
_L0: tuple[str, ...] = ("l0",)
_AUTO_PGD = "auto-pgd"
_NEAREST: dict[str, Any] = {"family": "nearest", "loss": "margin", "stops_early": False}

CATALOGUE: dict[str, Algorithm] = {
    "aa": Algorithm(
        "Auto-PGD, multi-targeted Auto-PGD and Square, each on what is left",
        "composite",
        "aa",
        _steps,
        cost=_late("composite.aa_queries"),
        loss="margin",
        kind=_AUTO_PGD,
    ),
    "apgd-ce": Algorithm(
        "Auto-PGD on cross-entropy", "apgd", "Apgd", _apgd("ce"), _APGD, loss="ce", kind=_AUTO_PGD
    ),
    "apgd-dlr": Algorithm(
        "Auto-PGD on the difference of logits ratio",
        "apgd",
        "Apgd",
        _apgd("dlr"),
        _APGD,
        loss="dlr",
        kind=_AUTO_PGD,
    ),
    "apgd-mt": Algorithm(
        "Auto-PGD on the margin, then multi-targeted",
        "apgd",
        "ApgdMultiTargeted",
        _targeted(MT_TARGETS),
        _TARGETS,
        cost=_runs(MT_TARGETS, before=1),
        loss="margin",
        kind=_AUTO_PGD,
    ),
    "apgd-t": Algorithm(
        "targeted Auto-PGD",
        "apgd",
        "ApgdTargeted",
        _targeted(TARGETS),
        _TARGETS,
        cost=_runs(TARGETS),
        loss="dlr",
        kind=_AUTO_PGD,
    ),
    "crossover": Algorithm(
        "results of PGD, recombined",
        "crossover",
        "Crossover",
        _steps,
        cost=_late("crossover.queries"),
        loss="margin",
    ),
    "fgsm": Algorithm(
        "FGSM",
        "pgd",
        "Fgsm",
        lambda attack: {"step_size": attack.step_size},
        step_size=lambda eps, steps: eps,
        loss="ce",
        informative=False,
        sets_step=False,
        stops_early=False,
        takes_steps=False,
    ),
    "greedy": Algorithm("greedy ascent by few values a step", "", "", _steps, loss="margin", fewest_steps=2),
    "growing": Algorithm(
        "ascent in growing balls",
        "subset_ascent",
        "Growing",
        _steps,
        loss="margin",
        partial=True,
        fewest_steps=16,
    ),
    "joint": Algorithm(
        "the draws that can be fooled together",
        "joint_draws",
        "JointDraws",
        _steps,
        cost=_late("joint_draws.queries"),
        loss="margin",
        chooses_draws=True,
        stops_early=False,
        fewest_steps=9,
    ),
    "mosaic": Algorithm(
        "PGD from several starts, whose pixels are mixed",
        "mosaic",
        "Mosaic",
        _steps,
        cost=_late("mosaic.queries"),
        loss="margin",
        restarts=True,
        fewest_steps=2,
    ),
    "parts": Algorithm(
        "ascent in parts of the ball",
        "subset_ascent",
        "Parts",
        _steps,
        loss="margin",
        partial=True,
        fewest_steps=24,
    ),
    "pgd": Algorithm(
        "PGD",
        "composite",
        "restarted_pgd",
        _pgd,
        ("init", "loss", "momentum", "restarts"),
        step_size=_late("pgd.default_step_size"),
        loss="ce",
        plain=True,
        sets_step=False,
    ),
    "square": Algorithm(
        "Square attack", "score_based", "Square", _steps, family="search", loss="margin", **_DRAWN
    ),
    "switch": Algorithm(
        "smooth moves to jumps of the answer, then ascent",
        "switch",
        "Switch",
        _steps,
        cost=_late("switch.queries"),
        loss="margin",
        informative=False,
    ),
    "random": Algorithm(
        "random search",
        "score_based",
        "RandomSearch",
        lambda attack: _steps(attack) | {"apart": float(dict(attack.options).get("apart", 0))},
        ("init", "apart"),
        family="search",
        loss="margin",
        norms=(*_GRADED, "l0"),
        draws=SEARCH_DRAWS,
        cost=QUERY,
    ),
    "sparse-rs": Algorithm(
        "Sparse-RS, random pixels",
        "sparse",
        "SparseRs",
        _steps,
        family="search",
        loss="margin",
        norms=_L0,
        **_DRAWN,
    ),
    "spgd-u": Algorithm(
        "sparse PGD, unprojected gradients",
        "sparse",
        "SparsePgd",
        _sparse(projected=False),
        ("init", "loss"),
        loss="ce",
        norms=_L0,
    ),
    "spgd-p": Algorithm(
        "sparse PGD, projected gradients",
        "sparse",
        "SparsePgd",
        _sparse(projected=True),
        ("init", "loss"),
        loss="ce",
        norms=_L0,
    ),
    "sigma-zero": Algorithm(
        "sigma-zero, the fewest pixels", "sparse", "SigmaZero", _steps, norms=_L0, **_NEAREST
    ),
    "spsa": Algorithm(
        "SPSA",
        "score_based",
        "Spsa",
        lambda attack: _steps(attack) | {"step_size": attack.step_size},
        cost=QUERY,
        family="estimate",
        loss="margin",
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
        norms=(*_GRADED, "l0"),
        **_NEAREST,
    ),
    "fab": Algorithm("FAB, the nearest wrong answer", "boundary", "Fab", _steps, norms=_GRADED, **_NEAREST),
    "pdpgd": Algorithm(
        "PDPGD, the nearest wrong answer", "minimum_norm", "Pdpgd", _steps, norms=_GRADED, **_NEAREST
    ),
}


# What other packages' attacks know.
_ELSEWHERE = {"torchattacks": _CURVED, "autoattack": _GRADED}


def refuse_norm(name: AttackName, norm: str) -> None:
    """Raises ValueError where an attack does not know a norm."""
    if name.init is not None:
        refuse_norm(name.init, norm)
    entry = CATALOGUE.get(name.algorithm) if name.third_party is None else None
    known = _ELSEWHERE.get(name.third_party or "") if entry is None else entry.norms
    if known is not None and norm not in known:
        *others, last = (other for other, algorithm in CATALOGUE.items() if norm in algorithm.norms)
        instead = f"{', '.join(others)} and {last}"
        raise ValueError(f"{name.text} knows {' and '.join(known)}; for {norm} there are {instead}")


def stand_in(algorithm: Algorithm, norm: str) -> str:
    """One of the same kind that was made for a norm: by gradients, or without; '' where there is none.

    What knows other norms, too, is at home there.
    """
    blind = algorithm.family in WITHOUT_GRADIENTS
    family = "search" if blind else "gradient"
    alike = (name for name, other in CATALOGUE.items() if (other.norms, other.family) == ((norm,), family))
    return next(alike, "")


TORCHATTACKS_LINF = (
    "APGD", "APGDT", "BIM", "DIFGSM", "EOTPGD", "FAB", "FFGSM", "FGSM", "Jitter", "MIFGSM", "NIFGSM", "PGD",
    "PIFGSM", "PIFGSMPP", "RFGSM", "SINIFGSM", "SPSA", "Square", "TIFGSM", "TPGD", "UPGD", "VMIFGSM",
    "VNIFGSM",
)  # fmt: skip
TORCHATTACKS_L2 = ("APGD", "APGDT", "FAB", "PGDL2", "Square")
AUTOATTACK = (
    "standard",
    "plus",
    "rand",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
)


def traits_elsewhere(package: str, name: str) -> Traits:
    """Traits of another package's attack; one with the name of ours has the traits of ours.

    Attacks of torchattacks raise the cross-entropy by default.
    """
    if package == "plugin":
        return Traits(kind=_AUTO_PGD)
    if name.lower() in CATALOGUE:
        return replace(CATALOGUE[name.lower()], kind=_AUTO_PGD)
    on_cross_entropy = package == "torchattacks" and name not in ("APGDT", "FAB")
    return Traits(loss="ce" if on_cross_entropy else "dlr", kind=_AUTO_PGD)
