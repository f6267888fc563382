"""What attacks will cost, from their names alone."""

from math import ceil

from attacks.attack_name import AttackName
from attacks.catalogue import BLACK_BOX
from attacks.composite import ALL_TARGETS, MORE_QUERIES, MORE_RUNS, QUERIES, SHARE
from attacks.composite import TARGETS as AA_TARGETS
from attacks.crossover import FIRST, RUNS, most_gradients
from attacks.naming import parse
from attacks.pgd import default_step_size as pgd_step_size
from attacks.surrogate import QUERIES as SURROGATE_QUERIES
from attacks.switch import UPHILL

TARGETS = 9  # of a targeted attack whose name does not say, on ten or more classes
RECOMBINED = 1 / 20  # of what crossover may cost after its first runs: most examples are given up early
SWITCH_SCAN = 220  # forwards of smooth moves and bisections, about
THIRD_PARTY_STEPS = 100  # of a third-party attack whose number of steps its name does not say


def step_size_of(name: AttackName, eps: float) -> float | None:
    """The step size an attack takes, in units of eps's space; None where it has none of its own."""
    if name.third_party is not None or name.algorithm not in ("fgsm", "pgd"):
        return None
    if name.step_size is not None:
        return name.step_size
    return eps if name.algorithm == "fgsm" else pgd_step_size(eps, name.steps or 1)


def queries_of(name: AttackName, *, randomised: bool) -> tuple[int, int]:
    """Forwards and backwards of each input, about; N/K and co-batched inputs come on top."""
    if name.is_submitted:
        return 0, 0
    steps = name.steps or 1
    draws = name.draws if randomised else 1
    options = dict(name.options)
    closest = 0 if randomised else int(options.get("closest", 0))
    if randomised and name.estimator in ("gmsaavg", "gmsamin"):
        draws = name.rounds * (name.rounds + 1) // 2
    if name.estimator == "surrogate":
        forwards, backwards = SURROGATE_QUERIES, 0
    elif name.third_party is not None:
        forwards = backwards = name.steps or THIRD_PARTY_STEPS
    elif name.algorithm == "aa":
        again = 0 if randomised else 1 / SHARE
        # Rounded up: twice the steps cost no more than twice as much.
        backwards = ceil(steps * (2 + AA_TARGETS + again * MORE_RUNS * (1 + ALL_TARGETS)))
        forwards = backwards + ceil(steps * QUERIES * (1 + again * MORE_QUERIES))
    elif name.algorithm == "square":
        forwards, backwards = round(steps * (1 + closest / SHARE)), 0
    elif name.algorithm in BLACK_BOX:
        forwards, backwards = steps, 0
    elif name.algorithm == "apgd-t":
        forwards = backwards = steps * int(options.get("targets", TARGETS))
    elif name.algorithm == "crossover":
        first = FIRST if randomised else FIRST * RUNS
        later = 0 if randomised else RECOMBINED * (most_gradients(steps) - first)
        forwards = backwards = ceil(first + later)
    elif name.algorithm == "switch":
        forwards, backwards = SWITCH_SCAN, UPHILL + 1  # most networks have no jumps
    elif name.algorithm == "apgd-mt":
        targets = int(options.get("targets", 3))
        later = closest / SHARE * (1 + max(targets, ALL_TARGETS))
        forwards = backwards = round(steps * (1 + targets + later))
    else:
        forwards = backwards = steps * int(options.get("restarts", 1))
    start = options.get("init")
    more = queries_of(parse(start), randomised=randomised) if start else (0, 0)
    return forwards * draws + more[0], backwards * draws + more[1]


def images_per_query(name: AttackName, images: float, *, randomised: bool, independent: bool) -> float:
    """Images forwarded and differentiated in the least that an attack of ours can ask.

    Args:
        images: through the network in one forward.
        independent: whether the defence is deterministic and answers inputs one by one.
    """
    draws = name.draws if randomised else 1
    if name.estimator == "surrogate":
        return images * draws
    if name.algorithm in BLACK_BOX:
        # Where chance or the batch has a say, two points are compared under the same draws.
        return images * draws * (1 if independent and name.algorithm != "spsa" else 2)
    return 2 * images * draws
