"""Costs of attacks, as far as their names determine them; nothing here needs torch."""

from math import ceil

from attacks import attack_name
from attacks.catalogue import CATALOGUE

THIRD_PARTY_STEPS = 100  # of a third-party attack whose number of steps its name does not say


def step_size_of(name: attack_name.AttackName, eps: float) -> float | None:
    """The step size an attack takes, in units of eps's space; None where it has none of its own."""
    entry = CATALOGUE.get(name.algorithm)
    if name.third_party is not None or entry is None or entry.step_size is None:
        return None
    return entry.step_size(eps, name.steps or 1) if name.step_size is None else name.step_size


def queries_of(name: attack_name.AttackName, *, randomised: bool) -> tuple[int, int]:
    """Forwards and backwards of each input, about; N/K and co-batched inputs come on top."""
    draws = name.draws if randomised else 1
    if name.estimator == "surrogate":
        from attacks import surrogate  # imports torch

        forwards, backwards = surrogate.QUERIES, 0
    elif name.third_party is not None:
        forwards = backwards = name.steps or THIRD_PARTY_STEPS
    else:
        forwards, backwards = map(ceil, CATALOGUE[name.algorithm].queries(name, randomised=randomised))
    more = queries_of(name.init, randomised=randomised) if name.init else (0, 0)
    return forwards * draws + more[0], backwards * draws + more[1]
