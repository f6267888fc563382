"""Costs of attacks, as far as their names determine them; nothing here needs torch."""

from math import ceil

from attacks import attack_name, naming
from attacks.catalogue import CATALOGUE
from robustbench_coded.evaluation.options.conditions import Conditions
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.schema.words import CONTROLS

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


def images_per_query(
    name: attack_name.AttackName, images: float, *, randomised: bool, independent: bool
) -> float:
    """Images forwarded and differentiated in the least that an attack of ours can ask.

    Args:
        images: through the network in one forward.
        independent: whether the defence is deterministic and answers inputs one by one.
    """
    draws = name.draws if randomised else 1
    if name.estimator == "surrogate":
        return images * draws
    if name.asks_answers_alone:
        # Where chance or the batch has a say, two points are compared under the same draws.
        return images * draws * (1 if independent and name.traits.family != "estimate" else 2)
    return 2 * images * draws


def stopped(conditions: Conditions, case: PlannedCase) -> bool:
    """True if ``budget`` ends an attack before its name says, as far as the name can tell."""
    if conditions.query_budget is None or case.attack in CONTROLS or case.submission is not None:
        return False
    name, subject = naming.parse(case.attack), case.subject
    per_query = case.images_per_query / (1 if case.threat.one_victim else subject.k)
    if name.estimator == "transfer":
        per_query = 1
    return per_query * sum(queries_of(name, randomised=subject.randomised)) > conditions.query_budget
